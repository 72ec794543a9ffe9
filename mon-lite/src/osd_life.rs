//! How OSDs come into the map, up and down: decisions over the state. Pure.
//!
//! Invariant: an OSD is put into the CRUSH map only while there is no pool, because later it would take PGs away from
//! the OSDs that hold them; and nothing here ever marks an OSD out.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use wire::crush::{BuildError, Location, ReplicatedRule, TYPE_DEVICE};
use wire::msg::OsdBoot;
use wire::osdmap::{MapFlags, Osd, OsdMap, OsdState, Ratio, WEIGHT_IN};
use wire::types::{Features, UTime};

use crate::limits::{OSD_ID_MAX, OSD_METADATA_BYTES_MAX, OSD_METADATA_TOTAL_BYTES_MAX};
use crate::state::{Change, MapFull, OsdMaps, State};

/// Keys of the metadata in [`OsdBoot`] that the monitor itself looks at. All others are kept for `osd metadata`.
pub mod metadata {
    /// Name of the host.
    pub const HOSTNAME: &str = "hostname";
    /// Name of the device, unique on its host: all slices of a device have the same.
    pub const DEVICE: &str = "device";
    /// Class of the device, such as `nvme`.
    pub const DEVICE_CLASS: &str = "device_class";
    /// Bytes of the slice's share of the device, for its weight.
    pub const SIZE_BYTES: &str = "size_bytes";
    /// Version of the program.
    pub const VERSION: &str = "ceph_version";
}

/// An OSD to put into the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOsd {
    /// Id.
    pub id: i32,
    /// Identity of its store.
    pub uuid: Uuid,
    /// Name of the host.
    pub host: String,
    /// Name of the device, unique on its host; in the CRUSH map the host's name comes before it.
    pub device: String,
    /// Class of the device.
    pub class: String,
    /// Bytes of its share of the device.
    pub size_bytes: u64,
}

/// Why an OSD is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum BootRefusal {
    #[error("osd.{osd} belongs to cluster {got}, this is {own}")]
    Cluster { osd: i32, own: Uuid, got: Uuid },
    #[error("osd.{osd} has the id of another OSD: its store is {got}, the map knows {own}")]
    Store { osd: i32, own: Uuid, got: Uuid },
    #[error("osd id {0} is not between 0 and {OSD_ID_MAX}")]
    Id(i32),
    #[error("osd.{0} gave no address to be reached at")]
    Address(i32),
    #[error(
        "osd.{0} is new, and adding an OSD while there are pools would move data, which is not possible yet"
    )]
    Pools(i32),
    #[error("osd.{osd} cannot be put into the CRUSH map: {error}")]
    Crush { osd: i32, error: BuildError },
    #[error(transparent)]
    Full(#[from] MapFull),
    #[error("the flag noup keeps osd.{0} from being marked up")]
    NoUp(i32),
}

/// The map of a new cluster, with a root and a rule, and these OSDs, which are in but not up.
pub fn first_map(fsid: Uuid, now: UTime, osds: &[NewOsd]) -> Result<Change, BootRefusal> {
    OsdMaps::default().edit(now, |map| {
        map.fsid = fsid;
        map.created = now;
        map.flags = MapFlags::NEW_CLUSTER;
        map.nearfull_ratio = Ratio::new(0.85);
        map.full_ratio = Ratio::new(0.95);
        map.backfillfull_ratio = Ratio::new(0.90);
        map.require_min_compat_client = 12;
        map.require_osd_release = 16;
        let mut crush = wire::crush::CrushMap::with_default_root();
        let rule = ReplicatedRule {
            name: "replicated_rule".to_owned(),
            root: "default".to_owned(),
            failure_domain: TYPE_DEVICE,
            class: None,
        };
        crush.add_replicated_rule(&rule).map_err(|error| BootRefusal::Crush { osd: -1, error })?;
        map.crush = Arc::new(crush);
        osds.iter().try_for_each(|osd| add(map, osd))
    })
}

fn add(map: &mut OsdMap, new: &NewOsd) -> Result<(), BootRefusal> {
    let index =
        usize::try_from(new.id).ok().filter(|_| new.id <= OSD_ID_MAX).ok_or(BootRefusal::Id(new.id))?;
    if map.osds.len() <= index {
        map.osds.resize(index + 1, Osd::default());
    }
    let location = Location {
        root: "default".to_owned(),
        host: name_of(&new.host, "host"),
        // A device's name must be unique in the whole map.
        device: device_name(&name_of(&new.host, "host"), &name_of(&new.device, "device")),
    };
    Arc::make_mut(&mut map.crush)
        .place_osd(new.id, weight(new.size_bytes), &name_of(&new.class, "ssd"), &location)
        .map_err(|error| BootRefusal::Crush { osd: new.id, error })?;
    if let Some(osd) = map.osds.get_mut(index) {
        osd.state = OsdState::EXISTS;
        osd.weight = WEIGHT_IN;
        osd.uuid = new.uuid;
    }
    if !map.primary_affinity.is_empty() {
        map.primary_affinity.resize(map.osds.len(), wire::osdmap::AFFINITY_DEFAULT);
    }
    map.last_in_change = map.modified;
    Ok(())
}

/// `text` as a name in the CRUSH map, where only letters, digits, `-`, `_` and `.` may be.
fn name_of(text: &str, fallback: &str) -> String {
    let sound = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let name: String = text.chars().map(|letter| if sound(letter) { letter } else { '-' }).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() { fallback.to_owned() } else { name }
}

/// The device's name with its host's before it, unless it is there already.
fn device_name(host: &str, device: &str) -> String {
    if device.starts_with(host) { device.to_owned() } else { format!("{host}.{device}") }
}

/// CRUSH weight of a size: 1 for a TiB, in 16.16 fixed point, and never 0.
fn weight(size_bytes: u64) -> u32 {
    const TIB: u64 = 1 << 40;
    let fixed = u128::from(size_bytes) * 65536 / u128::from(TIB);
    u32::try_from(fixed).unwrap_or(u32::MAX).max(1)
}

/// The changes that a boot makes; none if the map says so already.
pub fn boot(state: &State, now: UTime, boot: &OsdBoot) -> Result<Vec<Change>, BootRefusal> {
    let map = state.osd_maps.newest();
    let id = boot.osd;
    if boot.fsid != state.fsid {
        return Err(BootRefusal::Cluster { osd: id, own: state.fsid, got: boot.fsid });
    }
    if !(0..=OSD_ID_MAX).contains(&id) {
        return Err(BootRefusal::Id(id));
    }
    if boot.public_addrs.msgr2().is_none() {
        return Err(BootRefusal::Address(id));
    }
    let known = map.osd(id).filter(|osd| osd.exists());
    if let Some(known) = known.filter(|known| known.uuid != boot.uuid) {
        return Err(BootRefusal::Store { osd: id, own: known.uuid, got: boot.uuid });
    }
    if known.is_none() && !map.pools.is_empty() {
        return Err(BootRefusal::Pools(id));
    }
    let mut changes = Vec::new();
    let said = bounded_metadata(state, boot);
    if state.osd_metadata.get(&id) != Some(&said) {
        changes.push(Change::OsdMetadata { osd: id, metadata: Some(said) });
    }
    if known.is_some_and(|osd| osd.is_up() && osd.client_addrs == boot.public_addrs) {
        return Ok(changes);
    }
    if map.flags.contains(MapFlags::NOUP) {
        return Err(BootRefusal::NoUp(id));
    }
    let is_new = known.is_none();
    let change = state.osd_maps.edit::<BootRefusal>(now, |map| {
        if is_new {
            add(map, &described(boot))?;
        }
        let index = usize::try_from(id).map_err(|_| BootRefusal::Id(id))?;
        let osd = map.osds.get_mut(index).ok_or(BootRefusal::Id(id))?;
        osd.state = osd.state | OsdState::UP;
        // One listener serves clients, other OSDs and heartbeats.
        for addrs in [
            &mut osd.client_addrs,
            &mut osd.cluster_addrs,
            &mut osd.heartbeat_back_addrs,
            &mut osd.heartbeat_front_addrs,
        ] {
            addrs.clone_from(&boot.public_addrs);
        }
        osd.xinfo.features = Features::PACIFIC;
        map.last_up_change = now;
        Ok(())
    })?;
    changes.push(change);
    Ok(changes)
}

/// The change that ends an earlier life of an OSD which boots, if the map still says that it is up elsewhere. It is an
/// epoch of its own, before the one in which the OSD is up again: stock clients send their requests again when they
/// see an OSD go down or come up, and not when only its address changes.
//= ceph 16.2 OSDMonitor: a boot first marks an earlier instance down
pub fn end_earlier_life(state: &State, now: UTime, boot: &OsdBoot) -> Vec<Change> {
    let known = state.osd_maps.newest().osd(boot.osd).filter(|osd| osd.is_up());
    let is_earlier = known.is_some_and(|osd| osd.uuid == boot.uuid && osd.client_addrs != boot.public_addrs);
    if !is_earlier || boot.fsid != state.fsid || boot.public_addrs.msgr2().is_none() {
        return Vec::new();
    }
    vec![down(state, now, &[boot.osd])]
}

/// What an OSD says of itself, as far as there is room for it.
fn bounded_metadata(state: &State, boot: &OsdBoot) -> BTreeMap<String, String> {
    // Strings have a length before them on disk.
    let bytes = |key: &str, value: &str| key.len() + value.len() + 8;
    let of_others = state.osd_metadata.iter().filter(|(osd, _)| **osd != boot.osd).flat_map(|(_, said)| said);
    let others: usize = of_others.map(|(key, value)| bytes(key, value)).sum();
    let mut room = OSD_METADATA_BYTES_MAX.min(OSD_METADATA_TOTAL_BYTES_MAX.saturating_sub(others));
    let mut kept = BTreeMap::new();
    for (key, value) in &boot.metadata {
        if let Some(left) = room.checked_sub(bytes(key, value)) {
            room = left;
            kept.insert(key.clone(), value.clone());
        }
    }
    kept
}

fn described(boot: &OsdBoot) -> NewOsd {
    let said = |key: &str| boot.metadata.get(key).cloned().unwrap_or_default();
    NewOsd {
        id: boot.osd,
        uuid: boot.uuid,
        host: said(metadata::HOSTNAME),
        device: if said(metadata::DEVICE).is_empty() {
            format!("osd{}", boot.osd)
        } else {
            said(metadata::DEVICE)
        },
        class: said(metadata::DEVICE_CLASS),
        size_bytes: said(metadata::SIZE_BYTES).parse().unwrap_or(0),
    }
}

/// The changes that mark these OSDs down; none if they are, or the flag nodown forbids it.
pub fn mark_down(state: &State, now: UTime, ids: &[i32]) -> Vec<Change> {
    let map = state.osd_maps.newest();
    let up: Vec<i32> = ids.iter().copied().filter(|id| map.is_up(*id)).collect();
    if up.is_empty() || map.flags.contains(MapFlags::NODOWN) {
        return Vec::new();
    }
    vec![down(state, now, &up)]
}

fn down(state: &State, now: UTime, ids: &[i32]) -> Change {
    state.osd_maps.edit_within(now, |map| {
        let osds = (0..).zip(&mut map.osds).filter(|(id, _)| ids.contains(id));
        osds.for_each(|(_, osd)| osd.state = osd.state.without(OsdState::UP));
        map.last_up_change = now;
    })
}
