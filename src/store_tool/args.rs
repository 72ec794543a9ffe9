//! Command line of `spirula store`, as data.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use store::{CollectionId, ObjectId};
use wire::hash::{hash_object, rjenkins_name_hash};

/// Options of `store`.
#[derive(Args)]
#[command(
    after_help = "Nothing is written, and a cluster that runs is left alone. With --json each line is one value.\n\
                  Exit status: 0 done, 1 could not be done, also if there is no such object.\n\nExamples:\n  \
                  spirula store --dir /srv/demo statfs\n  \
                  spirula store --dir /srv/demo --json list --pool 1\n  \
                  spirula store --dir /srv/demo get --pool 1 my-object > copy\n  \
                  spirula store --dir /srv/demo --id 0 free-dump > free.json"
)]
pub struct StoreOptions {
    /// Folder of the cluster.
    #[arg(long, default_value = "spirula-data", global = true)]
    pub dir: PathBuf,
    /// Only this OSD. Default: all.
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
    /// What the device's label and the store's superblock say.
    Label,
    /// Objects, in the store's order.
    List(ListOptions),
    /// One object: size, attributes, omap, and where its data lies in the OSD's part of the device.
    Info(ObjectName),
    /// An object's bytes, to standard output.
    Get(GetOptions),
    /// The value of an object's attribute, to standard output.
    GetAttr(ValueOptions),
    /// Keys and values of an object's omap.
    ListOmap(ObjectName),
    /// The value of a key of an object's omap, to standard output.
    GetOmap(ValueOptions),
    /// Entries of a placement group's log, the oldest first.
    Log(LogOptions),
    /// Free space of one OSD, as `ceph-bluestore-tool free-dump` writes it.
    FreeDump,
    /// In how many pieces the free space is: 0 in one, 1 when no two free blocks are adjacent.
    FreeScore,
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
