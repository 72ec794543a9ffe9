//! The folder of a cluster: what is in it, who holds it, and the configuration written for clients.
//!
//! `cluster.json` is written when the folder is made, and when a device is added, and says what the cluster consists of;
//! everything that changes at run time lives in the monitor's and OSDs' stores.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use store::FreeList;
use uuid::Uuid;

use crate::backend::size_min;
use crate::cli::{Media, UpOptions};
use crate::mon_port;
use crate::size::show_size;

const FORMAT: u64 = 1;
const PLAN_FILE: &str = "cluster.json";

/// What the cluster consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Identity of the cluster.
    pub fsid: Uuid,
    /// Port of the monitor on loopback.
    pub mon_port: u16,
    /// Every device, in order, with the OSDs on it.
    pub devices: Vec<DevicePlan>,
}

/// One device or file, cut into slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePlan {
    /// Absolute path.
    pub path: PathBuf,
    /// Bytes, if it is a file that we make; `None` for what exists.
    pub create: Option<u64>,
    /// OSD of the first slice; the others follow.
    pub first_osd: u32,
    /// Number of slices.
    pub slices: u32,
    /// What it is made of, if the kernel is not to be asked.
    pub media: Option<Media>,
    /// How the OSDs on it keep what is free.
    pub free_list: FreeList,
    /// Devices with parts of its OSDs' stores: for keys, for journals. Which is which, they say themselves.
    pub beside: Vec<PathBuf>,
}

impl DevicePlan {
    /// What is known of it before it is opened.
    pub fn open_options(&self) -> nvme::OpenOptions {
        let rotational = self.media.map(|media| media == Media::Hdd);
        nvme::OpenOptions { rotational, ..nvme::OpenOptions::default() }
    }
}

impl Plan {
    /// Number of OSDs.
    pub fn osds(&self) -> u32 {
        self.devices.iter().map(|device| device.slices).sum()
    }

    /// The OSDs that are meant: this one, or all.
    pub fn osds_meant(&self, only: Option<u32>) -> Vec<u32> {
        only.map_or_else(|| (0..self.osds()).collect(), |id| vec![id])
    }

    /// Where the monitor listens.
    pub fn mon_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.mon_port))
    }

    /// The device and the slice of an OSD.
    pub fn osd(&self, id: u32) -> Option<(&DevicePlan, u32)> {
        self.devices
            .iter()
            .find(|device| (device.first_osd..device.first_osd + device.slices).contains(&id))
            .map(|device| (device, id - device.first_osd))
    }
}

/// A cluster's folder. Held until dropped: exclusively by what starts or checks the whole cluster, shared by the parts of
/// a cluster that run as processes of their own (each part's device is then its lock).
pub struct ClusterDir {
    path: PathBuf,
    _lock: File,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hold {
    Alone,
    Shared,
}

impl ClusterDir {
    /// Takes the folder, making it if it does not exist. Fails if another process has it.
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        check_folder(path)?;
        fs::create_dir_all(path).with_context(|| {
            format!("cannot make the folder {}: give one with --dir that you may write to", path.display())
        })?;
        Self::hold(path, Hold::Alone)
    }

    /// Takes the folder of a cluster that exists.
    pub fn existing(path: &Path) -> anyhow::Result<(Self, Plan)> {
        Self::hold_existing(path, Hold::Alone)
    }

    /// Joins the other parts of a cluster that run from this folder.
    pub fn join(path: &Path) -> anyhow::Result<(Self, Plan)> {
        Self::hold_existing(path, Hold::Shared)
    }

    fn hold_existing(path: &Path, hold: Hold) -> anyhow::Result<(Self, Plan)> {
        check_folder(path)?;
        let none = || {
            format!(
                "no cluster in {}: give its folder with --dir, or make one with 'spirula up'",
                path.display()
            )
        };
        // Nothing is left in a folder that is not ours.
        ensure!(path.join(PLAN_FILE).exists(), none());
        let dir = Self::hold(path, hold)?;
        let plan = dir.plan()?.with_context(none)?;
        Ok((dir, plan))
    }

    fn hold(path: &Path, hold: Hold) -> anyhow::Result<Self> {
        let path = path.canonicalize().with_context(|| format!("cannot use {}", path.display()))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .with_context(|| {
                format!("cannot open {}: give a folder with --dir that you may write to", lock_path.display())
            })?;
        if !try_lock(&lock, hold)? {
            bail!(
                "the cluster in {} is in use by another process: stop that one first, or choose another --dir",
                path.display()
            );
        }
        Ok(Self { path, _lock: lock })
    }

    /// Absolute path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the monitor keeps its store.
    pub fn mon_store(&self) -> PathBuf {
        self.path.join("mon.a").join("store")
    }

    /// The file for clients.
    pub fn ceph_conf(&self) -> PathBuf {
        self.path.join("ceph.conf")
    }

    fn plan_file(&self) -> PathBuf {
        self.path.join(PLAN_FILE)
    }

    /// The plan of the cluster that is there, if one is.
    pub fn plan(&self) -> anyhow::Result<Option<Plan>> {
        let file = self.plan_file();
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let value: Value = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged: it is not JSON; restore it from a copy", file.display())
        })?;
        decode_plan(&value)
            .with_context(|| format!("{} is damaged; restore it from a copy", file.display()))
            .map(Some)
    }

    /// Writes the plan: of a new cluster after all stores were made, or of one whose devices change.
    pub fn write_plan(&self, plan: &Plan) -> anyhow::Result<()> {
        write_durably(&self.plan_file(), &format!("{:#}\n", encode_plan(plan)))
    }

    /// Writes `ceph.conf` for clients.
    pub fn write_ceph_conf(&self, plan: &Plan) -> anyhow::Result<()> {
        let text = format!(
            "# Written by spirula at every start; clients use it with -c or CEPH_CONF.\n[global]\nfsid = {}\n\
             mon_host = [v2:{}/0]\nauth_cluster_required = none\nauth_service_required = none\n\
             auth_client_required = none\nms_mode = crc\nms_client_mode = crc\nlog_file =\n",
            plan.fsid,
            plan.mon_address()
        );
        // Usually it is there already, and then a start needs no room for it.
        let same = fs::read_to_string(self.ceph_conf()).is_ok_and(|there| there == text);
        if same { Ok(()) } else { write_durably(&self.ceph_conf(), &text) }
    }
}

/// What `up` should make for these options in a new folder.
pub fn new_plan(dir: &ClusterDir, options: &UpOptions) -> anyhow::Result<Plan> {
    let mon_port = mon_port::choose(options.mon_port)?;
    let mut devices =
        if options.device.is_empty() { file_plans(dir, options)? } else { device_plans(options)? };
    for (given, name) in [(&options.db_device, "--db-device"), (&options.wal_device, "--wal-device")] {
        add_beside(&mut devices, given, name)?;
    }
    Ok(Plan { fsid: Uuid::new_v4(), mon_port, devices })
}

/// Gives each device one of these, or all of them the only one.
fn add_beside(devices: &mut [DevicePlan], given: &[PathBuf], name: &str) -> anyhow::Result<()> {
    let count = devices.len();
    ensure!(
        given.len() <= 1 || given.len() == count,
        "{name} is given {} times for {count} devices: give one for all, or one for each",
        given.len()
    );
    let mains: Vec<PathBuf> = devices.iter().map(|device| device.path.clone()).collect();
    for (device, path) in devices.iter_mut().zip(given.iter().cycle()) {
        let path = path.canonicalize().with_context(|| {
            format!("cannot use the device {}: give the path of one that exists", path.display())
        })?;
        ensure!(
            !mains.contains(&path) && !device.beside.contains(&path),
            "the device {} is given twice",
            path.display()
        );
        device.beside.push(path);
    }
    Ok(())
}

fn file_plans(dir: &ClusterDir, options: &UpOptions) -> anyhow::Result<Vec<DevicePlan>> {
    let least = size_min(1);
    ensure!(
        options.size >= least,
        "--size {} is too small for an OSD: give at least {}M",
        show_size(options.size),
        least >> 20
    );
    let plans = (0..options.osds.unwrap_or(1))
        .map(|osd| DevicePlan {
            path: dir.path().join(format!("osd.{osd}")).join("block"),
            create: Some(options.size),
            first_osd: osd,
            slices: 1,
            media: options.media,
            free_list: options.free_list.unwrap_or_default(),
            beside: Vec::new(),
        })
        .collect();
    Ok(plans)
}

fn device_plans(options: &UpOptions) -> anyhow::Result<Vec<DevicePlan>> {
    let count = u32::try_from(options.device.len()).context("too many devices")?;
    let osds = options.osds.unwrap_or(count);
    ensure!(
        osds.is_multiple_of(count),
        "--osds {osds} is not a multiple of the {count} devices: every device is cut into the same number of slices, \
         one for each OSD; use --osds {} or --osds {}",
        (osds / count).max(1) * count,
        (osds / count + 1) * count
    );
    let slices = osds / count;
    let mut plans = Vec::new();
    for (device, first_osd) in options.device.iter().zip((0..).step_by(slices as usize)) {
        let path = device.canonicalize().with_context(|| {
            format!("cannot use the device {}: give the path of one that exists", device.display())
        })?;
        ensure!(
            !plans.iter().any(|plan: &DevicePlan| plan.path == path),
            "the device {} is given twice",
            path.display()
        );
        let free_list = options.free_list.unwrap_or_default();
        plans.push(DevicePlan {
            path,
            create: None,
            first_osd,
            slices,
            media: options.media,
            free_list,
            beside: Vec::new(),
        });
    }
    Ok(plans)
}

/// Refuses options that do not fit the cluster that is there.
pub fn check_matches(plan: &Plan, options: &UpOptions, dir: &ClusterDir) -> anyhow::Result<()> {
    let osds = plan.osds();
    if let Some(asked) = options.osds.filter(|asked| *asked != osds) {
        bail!(
            "the cluster in {} was made with {osds} OSD{}, not {asked}: moving data to another number of OSDs is not \
             possible yet; start it without --osds (or with --osds {osds}), or make another cluster in another --dir",
            dir.path().display(),
            if osds == 1 { "" } else { "s" }
        );
    }
    if let Some(port) = options.mon_port.filter(|port| *port != plan.mon_port) {
        bail!(
            "the cluster in {} was made with its monitor on port {}, not {port}: clients know that address; start it \
             without --mon-port",
            dir.path().display(),
            plan.mon_port
        );
    }
    if let Some(media) = options.media
        && let Some(other) = plan.devices.iter().find(|device| device.media != Some(media))
    {
        bail!(
            "the cluster in {} was made {}, not with '--media {}': it is kept; start it without --media",
            dir.path().display(),
            other.media.map_or("without --media".into(), |kept| format!("with '--media {}'", kept.name())),
            media.name()
        );
    }
    if let Some(kind) = options.free_list
        && let Some(other) = plan.devices.iter().find(|device| device.free_list != kind)
    {
        bail!(
            "the cluster in {} was made with '--free-list {}', not {}: it is kept; start it without --free-list",
            dir.path().display(),
            other.free_list.name(),
            kind.name()
        );
    }
    for device in options.db_device.iter().chain(&options.wal_device) {
        let known = device
            .canonicalize()
            .is_ok_and(|path| plan.devices.iter().all(|plan| plan.beside.contains(&path)));
        ensure!(
            known,
            "{} is not a device for keys or journals of the cluster in {}: add it with 'spirula store device add'",
            device.display(),
            dir.path().display()
        );
    }
    for device in &options.device {
        let known = device.canonicalize().is_ok_and(|path| plan.devices.iter().any(|plan| plan.path == path));
        ensure!(
            known,
            "{} is not a device of the cluster in {}: adding devices to a cluster is not possible yet; start it \
             without --device",
            device.display(),
            dir.path().display()
        );
    }
    Ok(())
}

/// One line for people about what is used.
pub fn describe(plan: &Plan) -> String {
    let osds = plan.osds();
    let on = plan
        .devices
        .iter()
        .map(|device| match device.create {
            Some(bytes) => {
                // It may have grown since it was made.
                let bytes = fs::metadata(&device.path).map_or(bytes, |file| file.len());
                format!("{} ({})", device.path.display(), show_size(bytes))
            }
            None => device.path.display().to_string(),
        })
        .collect::<Vec<_>>()
        .join(", ");
    format!("{osds} OSD{} on {on}", if osds == 1 { "" } else { "s" })
}

fn check_folder(path: &Path) -> anyhow::Result<()> {
    ensure!(!path.exists() || path.is_dir(), "{} is not a folder: give one with --dir", path.display());
    Ok(())
}

#[expect(unsafe_code, reason = "flock has no safe wrapper in what we depend on")]
fn try_lock(file: &File, hold: Hold) -> io::Result<bool> {
    let kind = if hold == Hold::Alone { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: flock takes a descriptor that `file` keeps open, and touches no memory.
    let result = unsafe { libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock { Ok(false) } else { Err(error) }
}

fn write_durably(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().with_context(|| {
        // It may not even have been made.
        let _ = fs::remove_file(&temporary);
        format!("cannot write {}", path.display())
    })
}

fn encode_plan(plan: &Plan) -> Value {
    let devices: Vec<Value> = plan
        .devices
        .iter()
        .map(|device| {
            json!({
                "path": device.path,
                "file_bytes": device.create,
                "first_osd": device.first_osd,
                "slices": device.slices,
                "media": device.media.map(Media::name),
                "free_list": device.free_list.name(),
                "beside": device.beside,
            })
        })
        .collect();
    json!({ "format": FORMAT, "fsid": plan.fsid.to_string(), "mon_port": plan.mon_port, "devices": devices })
}

fn decode_plan(value: &Value) -> anyhow::Result<Plan> {
    let number = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_u64)
            .with_context(|| format!("'{name}' is missing or not a number"))
    };
    let format = number(value, "format")?;
    ensure!(format == FORMAT, "it has format {format}, this version knows {FORMAT}");
    let fsid = value.get("fsid").and_then(Value::as_str).context("'fsid' is missing")?;
    let mut devices = Vec::new();
    for device in value.get("devices").and_then(Value::as_array).context("'devices' is missing")? {
        let path = device.get("path").and_then(Value::as_str).context("a device has no 'path'")?;
        devices.push(DevicePlan {
            path: PathBuf::from(path),
            create: device.get("file_bytes").and_then(Value::as_u64),
            first_osd: u32::try_from(number(device, "first_osd")?)?,
            slices: u32::try_from(number(device, "slices")?)?,
            media: decode_media(device)?,
            free_list: decode_free_list(device)?,
            beside: decode_beside(device)?,
        });
    }
    Ok(Plan {
        fsid: Uuid::parse_str(fsid).context("'fsid' is not a UUID")?,
        mon_port: u16::try_from(number(value, "mon_port")?)?,
        devices,
    })
}

/// Clusters that were made before there were such devices have no list.
fn decode_beside(device: &Value) -> anyhow::Result<Vec<PathBuf>> {
    let Some(value) = device.get("beside") else { return Ok(Vec::new()) };
    let paths = value.as_array().context("'beside' is not a list")?;
    let path = |path: &Value| path.as_str().map(PathBuf::from).context("'beside' has more than paths");
    paths.iter().map(path).collect()
}

fn decode_media(device: &Value) -> anyhow::Result<Option<Media>> {
    match device.get("media") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let media = value.as_str().and_then(Media::of_name);
            Ok(Some(media.with_context(|| format!("'media' is {value}, not \"hdd\" or \"ssd\""))?))
        }
    }
}

/// A plan of before there was a choice does not have it.
fn decode_free_list(device: &Value) -> anyhow::Result<FreeList> {
    let Some(value) = device.get("free_list") else { return Ok(FreeList::Pages) };
    let named = FreeList::ALL.into_iter().find(|kind| value.as_str() == Some(kind.name()));
    named.with_context(|| format!("'free_list' is {value}, not \"pages\" or \"merge\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_file() {
        let plan = Plan {
            fsid: Uuid::from_u128(7),
            mon_port: 3300,
            devices: vec![
                DevicePlan {
                    path: "/a".into(),
                    create: Some(1 << 30),
                    first_osd: 0,
                    slices: 1,
                    media: None,
                    free_list: FreeList::Pages,
                    beside: Vec::new(),
                },
                DevicePlan {
                    path: "/b".into(),
                    create: None,
                    first_osd: 1,
                    slices: 3,
                    media: Some(Media::Ssd),
                    free_list: FreeList::Merge,
                    beside: vec!["/c".into()],
                },
            ],
        };
        assert_eq!(decode_plan(&encode_plan(&plan)).expect("decodes"), plan);
        let mut old = encode_plan(&plan);
        for device in old["devices"].as_array_mut().expect("devices") {
            let device = device.as_object_mut().expect("a device");
            device.remove("free_list");
            device.remove("beside");
        }
        assert_eq!(decode_plan(&old).expect("decodes").devices[1].free_list, FreeList::Pages);
        assert_eq!(plan.osds(), 4);
        assert_eq!(plan.osd(3).map(|(device, slice)| (device.path.clone(), slice)), Some(("/b".into(), 2)));
        assert!(plan.osd(4).is_none());
    }
}
