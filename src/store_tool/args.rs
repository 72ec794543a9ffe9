//! Command line of `spirula store`, as data.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use store::devices::Role;
use store::{CollectionId, ObjectId};
use wire::hash::{hash_object, rjenkins_name_hash};

/// Options of `store`.
#[derive(Args)]
#[command(
    after_help = "A cluster that runs is left alone. With --json each line is one value. What is changed is changed as it \
                  is: no log entry tells of it, versions and times stay.\n\
                  Exit status: 0 done, 1 could not be done, also if there is no such object.\n\nExamples:\n  \
                  spirula store --dir /srv/demo statfs\n  \
                  spirula store --dir /srv/demo --json list --pool 1\n  \
                  spirula store --dir /srv/demo get --pool 1 my-object > copy\n  \
                  spirula store --dir /srv/demo put --pool 1 my-object < copy\n  \
                  spirula store --dir /srv/demo set-size --pool 1 my-object 4096\n  \
                  spirula store --dir /srv/demo dump --pool 1 my-object\n  \
                  spirula store --dir /srv/demo export --pg 1.7f group.export\n  \
                  spirula store --dir /srv/demo --id 0 free-dump > free.json\n  \
                  spirula store --dir /srv/demo --id 0 bluefs export /tmp/files"
)]
pub struct StoreOptions {
    /// Folder of the cluster.
    #[arg(long, default_value = "spirula-data", global = true)]
    pub dir: PathBuf,
    /// Only this OSD. Default: all, or the one that has what is meant.
    #[arg(long, global = true)]
    pub id: Option<u32>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to look at.
    #[command(subcommand)]
    pub action: Action,
}

/// The subcommands.
#[derive(Clone, Subcommand)]
pub enum Action {
    /// Space and use, in all and by pool.
    Statfs,
    /// What the device's label and the store's superblock say; and keys of a label, for operators to note what they like.
    Label(LabelOptions),
    /// Objects, in the store's order.
    List(ListOptions),
    /// One object: size, attributes, omap, and where its data lies in the OSD's part of the device.
    Info(ObjectName),
    /// Everything that is stored of one object besides its data: onode, attributes, extents, blobs, checksums.
    Dump(ObjectName),
    /// How large objects, blobs, extents and omaps are.
    Histogram(HistogramOptions),
    /// An object's bytes, to standard output.
    Get(GetOptions),
    /// An object's attributes as clients know them.
    ListAttrs(ObjectName),
    /// The value of an object's attribute, to standard output.
    GetAttr(ValueOptions),
    /// Keys and values of an object's omap.
    ListOmap(ObjectName),
    /// The value of a key of an object's omap, to standard output.
    GetOmap(ValueOptions),
    /// The header of an object's omap, to standard output.
    GetOmapHeader(ObjectName),
    /// Replaces an object's bytes by standard input.
    Put(ObjectName),
    /// Cuts an object off, or lengthens it by zeroes that take no space.
    #[command(visible_alias = "truncate")]
    SetSize(SizeOptions),
    /// Sets an attribute of an object to standard input.
    SetAttr(ValueOptions),
    /// Removes an attribute of an object.
    RmAttr(ValueOptions),
    /// Sets a key of an object's omap to standard input.
    SetOmap(ValueOptions),
    /// Removes a key of an object's omap.
    RmOmap(ValueOptions),
    /// Sets the header of an object's omap to standard input.
    SetOmapHeader(ObjectName),
    /// Removes an object.
    Remove(ObjectName),
    /// Removes a placement group with all its objects and its log.
    RemovePg(GroupOptions),
    /// Writes a placement group, or one object, to a file, for `import`. If an object cannot be read, all such are named, nothing
    /// is exported, and the exit status is 1.
    Export(ExportOptions),
    /// Takes a placement group, or an object, from a file that `export` wrote. All of it is checked first. If this is killed
    /// half way, the OSD does not start before the group is removed.
    Import(ImportOptions),
    /// Entries of a placement group's log, the oldest first.
    Log(LogOptions),
    /// Free space of one OSD, as `ceph-bluestore-tool free-dump` writes it.
    FreeDump,
    /// In how many pieces the free space is: 0 in one, 1 when no two free blocks are adjacent.
    FreeScore,
    /// The devices of the stores.
    #[command(subcommand)]
    Device(DeviceAction),
    /// The file system below the key-value store. Neither it nor RocksDB is opened, so this works when they cannot be.
    #[command(subcommand)]
    Bluefs(FileSystemAction),
}

/// Options of `store label`.
#[derive(Args, Clone)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example:\n  spirula store --dir /srv/demo --id 0 label set shelf 12"
)]
pub struct LabelOptions {
    /// What to do; shows the label if nothing is said.
    #[command(subcommand)]
    pub action: Option<LabelAction>,
}

/// The subcommands of `store label`.
#[derive(Clone, Subcommand)]
pub enum LabelAction {
    /// What the label and the superblock say.
    Show,
    /// Sets a key of the label of an OSD's main device, or of another device of the cluster.
    Set {
        /// Its name.
        key: String,
        /// What it is to be.
        value: String,
        /// The device, if it is not the main one.
        #[arg(long)]
        device: Option<PathBuf>,
    },
    /// Removes a key.
    Remove {
        /// Its name.
        key: String,
        /// The device, if it is not the main one.
        #[arg(long)]
        device: Option<PathBuf>,
    },
}

/// The subcommands of `store device`.
#[derive(Clone, Subcommand)]
pub enum DeviceAction {
    /// Which device has what of which OSD.
    #[command(
        after_help = "With --json a line is {\"osd\":0,\"role\":\"db\",\"path\":\"/dev/nvme0n1\",\"bytes\":8589934592}"
    )]
    List,
    /// Takes up what devices have grown by; of one with several OSDs each gets as much. If this is killed half way, give the same
    /// command again. While a cluster runs, 'ceph tell osd.N bluestore expand' does it.
    #[command(
        after_help = "Example:\n  truncate -s 16G /srv/demo/osd.0/block && spirula store --dir /srv/demo device grow\n\n\
                      Tells what changed. With --json a line is {\"osd\":0,\"role\":\"block\",\"before\":{\"path\":\"/srv/demo/\
                      osd.0/block\",\"bytes\":8589934592},\"after\":{\"path\":\"/srv/demo/osd.0/block\",\"bytes\":17179869184}}"
    )]
    Grow,
    /// Moves the keys, or the journals, of all OSDs from the devices that they are on to another one, as large at least. If this
    /// is killed half way, give the same command again.
    #[command(after_help = "Example:\n  spirula store --dir /srv/demo device migrate db /dev/nvme1n1\n\n\
                      Tells what changed, with --json as 'grow' does.")]
    Migrate {
        /// What moves.
        #[arg(value_enum)]
        role: SideRole,
        /// Where to; all OSDs share it.
        path: PathBuf,
        /// Format it even if it holds somebody's data. That data is lost.
        #[arg(long)]
        force: bool,
    },
    /// Moves the keys, or the journals, of all OSDs back: journals to the device for keys if there is one, else to the main device.
    /// What they were on is nobody's then. If this is killed half way, give the same command again.
    #[command(after_help = "Example:\n  spirula store --dir /srv/demo device remove wal\n\n\
                      Tells what changed, with --json as 'grow' does; \"after\" is null.")]
    Remove {
        /// What moves.
        #[arg(value_enum)]
        role: SideRole,
    },
    /// Gives all OSDs a device for their keys or their journals. If this is killed half way, give the same command again.
    #[command(after_help = "Example:\n  spirula store --dir /srv/demo device add db /dev/nvme0n1\n\n\
                      Tells what changed, with --json as 'grow' does; \"before\" is null.")]
    Add {
        /// What it is for: keys, and the journals of those without a wal device; or journals.
        #[arg(value_enum)]
        role: SideRole,
        /// The device; all OSDs share it.
        path: PathBuf,
        /// Format it even if it holds somebody's data. That data is lost.
        #[arg(long)]
        force: bool,
    },
}

/// What a device beside the main one is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SideRole {
    /// Keys.
    Db,
    /// Journals.
    Wal,
}

impl SideRole {
    /// As the store has it.
    pub fn role(self) -> Role {
        match self {
            Self::Db => Role::Db,
            Self::Wal => Role::Wal,
        }
    }
}

/// The subcommands of `store bluefs`.
#[derive(Clone, Subcommand)]
pub enum FileSystemAction {
    /// Its files, where they lie, its space and its log; and what is wrong with them.
    Stats,
    /// The records of its log, the oldest first.
    LogDump,
    /// Replaces its files by those of a folder that `export` wrote: all at once, or none. There must be room for both.
    #[command(after_help = "Example:\n  spirula store --dir /srv/demo --id 0 bluefs import /tmp/files")]
    Import {
        /// The folder.
        folder: PathBuf,
    },
    /// Writes its files into a new folder.
    Export {
        /// The folder; it must not be there.
        folder: PathBuf,
    },
}

/// Options of `store list`.
#[derive(Args, Clone)]
pub struct ListOptions {
    /// Only objects of the pool with this number.
    #[arg(long)]
    pub pool: Option<i64>,
    /// Only objects of this namespace; '' is the default one.
    #[arg(long)]
    pub namespace: Option<String>,
    /// Also what an OSD keeps for itself.
    #[arg(long)]
    pub meta: bool,
}

/// Options of `store histogram`.
#[derive(Args, Clone)]
pub struct HistogramOptions {
    /// Only objects of the pool with this number. Default: all but what an OSD keeps for itself.
    #[arg(long)]
    pub pool: Option<i64>,
}

/// Names one object.
#[derive(Args, Clone)]
pub struct ObjectName {
    /// Its name.
    pub name: String,
    /// Number of its pool, as `list` shows it.
    #[arg(long)]
    pub pool: i64,
    /// Its namespace.
    #[arg(long, default_value = "")]
    pub namespace: String,
    /// Its locator key.
    #[arg(long, default_value = "")]
    pub key: String,
}

impl ObjectName {
    /// As the store knows it.
    pub fn id(&self) -> ObjectId {
        let bytes = |text: &str| text.to_owned().into_bytes().into();
        let (name, key, namespace) = (self.name.as_bytes(), self.key.as_bytes(), self.namespace.as_bytes());
        let hash = match self.pool == CollectionId::META.pool {
            true => 0,
            false => hash_object(rjenkins_name_hash, name, key, namespace),
        };
        ObjectId {
            pool: self.pool,
            hash,
            namespace: bytes(&self.namespace),
            key: bytes(&self.key),
            name: bytes(&self.name),
            snap: ObjectId::HEAD,
        }
    }
}

/// Options of `store get`.
#[derive(Args, Clone)]
pub struct GetOptions {
    /// Which object.
    #[command(flatten)]
    pub object: ObjectName,
    /// First byte.
    #[arg(long, default_value_t = 0)]
    pub offset: u64,
    /// Bytes. Default: up to its end.
    #[arg(long, default_value_t = u64::MAX)]
    pub length: u64,
}

/// Options of `store set-size`.
#[derive(Args, Clone)]
pub struct SizeOptions {
    /// Which object.
    #[command(flatten)]
    pub object: ObjectName,
    /// Bytes that it is to have.
    pub bytes: u64,
}

/// Options of `store get-attr` and `store get-omap`.
#[derive(Args, Clone)]
pub struct ValueOptions {
    /// Which object.
    #[command(flatten)]
    pub object: ObjectName,
    /// Name of the attribute as clients know it, or key.
    #[arg(long = "of", value_name = "NAME")]
    pub of: String,
}

/// Options of `store log`.
#[derive(Args, Clone)]
pub struct LogOptions {
    /// The placement group, as 1.7f.
    #[arg(value_parser = parse_group)]
    pub group: CollectionId,
}

/// Options of `store remove-pg`.
#[derive(Args, Clone)]
pub struct GroupOptions {
    /// The placement group, as 1.7f.
    #[arg(value_parser = parse_group)]
    pub group: CollectionId,
}

/// Options of `store export`.
#[derive(Args, Clone)]
pub struct ExportOptions {
    /// Where to; there must be no such file. '-' is standard output.
    pub file: PathBuf,
    /// The placement group, as 1.7f.
    #[arg(long = "pg", value_name = "PG", value_parser = parse_group)]
    pub group: CollectionId,
    /// Leave out objects that cannot be read; the exit status is 1 all the same if there are any.
    #[arg(long, conflicts_with = "object")]
    pub skip_unreadable: bool,
    /// Only the object of this name.
    #[arg(long)]
    pub object: Option<String>,
    /// Its namespace.
    #[arg(long, default_value = "", requires = "object")]
    pub namespace: String,
    /// Its locator key.
    #[arg(long, default_value = "", requires = "object")]
    pub key: String,
}

impl ExportOptions {
    /// The one object that is meant, if it is one.
    pub fn object(&self) -> Option<ObjectName> {
        let name = self.object.clone()?;
        let (namespace, key) = (self.namespace.clone(), self.key.clone());
        Some(ObjectName { name, pool: self.group.pool, namespace, key })
    }
}

/// Options of `store import`.
#[derive(Args, Clone)]
pub struct ImportOptions {
    /// What `export` wrote.
    pub file: PathBuf,
    /// Take it although another cluster wrote it. The pool must have the same number here, and as many placement groups.
    #[arg(long)]
    pub from_other_cluster: bool,
    /// Take it although it leaves out objects that could not be read when it was made.
    #[arg(long)]
    pub incomplete: bool,
    /// Only check the file, and that what is in it is not there, belongs there, and fits.
    #[arg(long)]
    pub dry_run: bool,
}

impl Action {
    /// Whether the store is changed.
    pub fn changes(&self) -> bool {
        match self {
            Self::Statfs
            | Self::Label(_)
            | Self::List(_)
            | Self::Info(_)
            | Self::Dump(_)
            | Self::Histogram(_)
            | Self::Get(_)
            | Self::ListAttrs(_)
            | Self::GetAttr(_)
            | Self::ListOmap(_)
            | Self::GetOmap(_)
            | Self::GetOmapHeader(_)
            | Self::Log(_)
            | Self::FreeDump
            | Self::FreeScore
            | Self::Bluefs(_)
            | Self::Device(_)
            | Self::Export(_) => false,
            Self::Put(_)
            | Self::SetSize(_)
            | Self::SetAttr(_)
            | Self::RmAttr(_)
            | Self::SetOmap(_)
            | Self::RmOmap(_)
            | Self::SetOmapHeader(_)
            | Self::Remove(_)
            | Self::RemovePg(_) => true,
            Self::Import(options) => !options.dry_run,
        }
    }

    /// Whether it is about the whole of one store, so that it must be said which.
    pub fn is_of_one_store(&self) -> bool {
        let is_copy =
            matches!(self, Self::Bluefs(FileSystemAction::Export { .. } | FileSystemAction::Import { .. }));
        is_copy || matches!(self, Self::FreeDump | Self::Import(_))
    }

    /// What must be in one store only, for this to be done there.
    pub fn only_target(&self) -> Option<Target> {
        let object = match self {
            Self::Put(name) | Self::SetOmapHeader(name) | Self::Remove(name) => name,
            Self::SetSize(options) => &options.object,
            Self::SetAttr(options)
            | Self::RmAttr(options)
            | Self::SetOmap(options)
            | Self::RmOmap(options) => &options.object,
            Self::RemovePg(options) => return Some(Target::Group(options.group)),
            Self::Export(options) => return Some(Target::Group(options.group)),
            _ => return None,
        };
        Some(Target::Object(object.id()))
    }

    /// Whether it is done once it was done in one store.
    pub fn is_about_one_thing(&self) -> bool {
        !matches!(
            self,
            Self::Statfs
                | Self::Label(_)
                | Self::List(_)
                | Self::Info(_)
                | Self::Dump(_)
                | Self::Histogram(_)
                | Self::ListAttrs(_)
                | Self::ListOmap(_)
                | Self::Log(_)
                | Self::FreeScore
                | Self::Bluefs(_)
        )
    }
}

/// What an action is about.
#[derive(Clone)]
pub enum Target {
    /// An object.
    Object(ObjectId),
    /// A placement group.
    Group(CollectionId),
}

fn parse_group(text: &str) -> Result<CollectionId, String> {
    let parsed = text
        .split_once('.')
        .and_then(|(pool, seed)| Some((pool.parse().ok()?, u32::from_str_radix(seed, 16).ok()?)));
    match parsed {
        Some((pool, seed)) => Ok(CollectionId { pool, seed }),
        None => Err(format!("'{text}' is not a placement group: write pool and seed, as in 1.7f")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_parse() {
        assert_eq!(parse_group("12.7f"), Ok(CollectionId { pool: 12, seed: 0x7f }));
        for wrong in ["", "1", "1.", ".1", "1.x", "1.1.1", "1.-1"] {
            assert!(parse_group(wrong).is_err_and(|error| error.contains("as in 1.7f")), "{wrong}");
        }
    }
}
