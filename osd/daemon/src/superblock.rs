//! What an OSD keeps in its store about itself and the cluster: its identity and the newest map.
//!
//! The collection [`CollectionId::META`] holds the object `superblock` (identity, an attribute), the object `osdmap` (the
//! newest full map as data, its increments in the omap by epoch), and `scrub` (see [`crate::scrub`]). Lives on one core.

use std::collections::BTreeMap;

use bytes::Bytes;
use store::{CollectionId, ObjectId, ObjectStore, Op, StoreError, Transaction};
use uuid::Uuid;
use wire::codec::{DecodeError, DecodeResult, Reader, Writer, decode_exact};
use wire::osdmap::OsdMap;
use wire::types::Epoch;

use crate::limits::MAP_INCREMENTS_KEPT;

const VERSION: u8 = 1;
const IDENTITY_ATTR: &[u8] = b"identity";

/// Why an OSD cannot start on a store.
#[derive(Debug, thiserror::Error)]
pub enum SuperblockError {
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    /// The store is somebody else's.
    #[error("the store belongs to {found}, not to {own}")]
    Identity {
        /// Who starts.
        own: Identity,
        /// Whose it is.
        found: Identity,
    },
    /// The store's content is broken.
    #[error("the store's superblock is broken: {0}")]
    Content(#[from] DecodeError),
    /// The store has no superblock but other content.
    #[error("the store has {0} collections but no superblock")]
    Missing(usize),
}

/// Whose store it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Cluster.
    pub fsid: Uuid,
    /// OSD id.
    pub whoami: i32,
    /// Identity of the store.
    pub osd_uuid: Uuid,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "osd.{} ({}) of cluster {}", self.whoami, self.osd_uuid, self.fsid)
    }
}

impl Identity {
    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.env(VERSION, 1, |w| {
            w.put(&self.fsid);
            w.s32(self.whoami);
            w.put(&self.osd_uuid);
        });
        w.finish()
    }

    pub(crate) fn decode(value: Bytes) -> DecodeResult<Self> {
        Reader::new("superblock", value).env("superblock", VERSION, |r, _| {
            Ok(Self { fsid: r.get()?, whoami: r.s32()?, osd_uuid: r.get()? })
        })
    }
}

/// What the store remembers of the cluster.
pub struct Remembered {
    /// The newest map; empty with epoch 0 if there is none.
    pub map: OsdMap,
    /// Its encoding.
    pub full: Bytes,
    /// Increments that led to it.
    pub increments: BTreeMap<Epoch, Bytes>,
}

/// Opens the store's superblock, or makes one in an empty store.
pub async fn open(store: &dyn ObjectStore, own: Identity) -> Result<Remembered, SuperblockError> {
    let collections = store.collections().await?;
    if !collections.iter().any(|(collection, ..)| *collection == CollectionId::META) {
        if !collections.is_empty() {
            return Err(SuperblockError::Missing(collections.len()));
        }
        format(store, own).await?;
        return Ok(Remembered { map: OsdMap::default(), full: Bytes::new(), increments: BTreeMap::new() });
    }
    let attrs = store.attrs(CollectionId::META, &object("superblock")).await?;
    let value = attrs.into_iter().find(|(name, _)| name == IDENTITY_ATTR).map(|(_, value)| value);
    let found = Identity::decode(value.unwrap_or_default())?;
    if found != own {
        return Err(SuperblockError::Identity { own, found });
    }
    remembered(store).await
}

/// The newest map that a store remembers, whoever's it is; one without pools, of epoch 0, if there is none.
pub async fn stored_map(store: &dyn ObjectStore) -> Result<OsdMap, SuperblockError> {
    let collections = store.collections().await?;
    if !collections.iter().any(|(collection, ..)| *collection == CollectionId::META) {
        return Ok(OsdMap::default());
    }
    Ok(remembered(store).await?.map)
}

async fn format(store: &dyn ObjectStore, own: Identity) -> Result<(), SuperblockError> {
    let collection = CollectionId::META;
    let attrs = BTreeMap::from([(Bytes::from_static(IDENTITY_ATTR), own.encode())]);
    let ops = vec![
        Op::CreateCollection { collection, bits: 0 },
        Op::SetAttrs { collection, object: object("superblock"), attrs },
    ];
    store.submit(Transaction { ops }).durable.await?;
    Ok(())
}

async fn remembered(store: &dyn ObjectStore) -> Result<Remembered, SuperblockError> {
    let (collection, object) = (CollectionId::META, object("osdmap"));
    let size = match store.stat(collection, &object).await {
        Ok(stat) => stat.size,
        Err(StoreError::NotFound(_)) => {
            let map = OsdMap::default();
            return Ok(Remembered { map, full: Bytes::new(), increments: BTreeMap::new() });
        }
        Err(error) => return Err(error.into()),
    };
    let full = Bytes::from(store.read(collection, &object, 0, size).await?.concat());
    let map = decode_exact("stored osd map", full.clone())?;
    let mut increments = BTreeMap::new();
    let max = MAP_INCREMENTS_KEPT as usize + 1;
    let page = store.omap_scan(collection, &object, None, Bytes::new(), max, usize::MAX).await?;
    for (key, value) in page.entries {
        let Some(key) = key.first_chunk::<4>() else { continue };
        increments.insert(Epoch(u32::from_be_bytes(*key)), value);
    }
    Ok(Remembered { map, full, increments })
}

/// Remembers a map. `increment` leads to it from the one before.
pub fn remember(epoch: Epoch, full: Bytes, increment: Option<Bytes>) -> Transaction {
    let (collection, name) = (CollectionId::META, object("osdmap"));
    let size = full.len() as u64;
    let mut ops = vec![
        Op::Write { collection, object: name.clone(), offset: 0, data: vec![full] },
        Op::Truncate { collection, object: name.clone(), size },
    ];
    match increment {
        Some(bytes) => {
            ops.push(Op::OmapSet {
                collection,
                object: name.clone(),
                entries: BTreeMap::from([(key(epoch), bytes)]),
            });
            let end = key(Epoch(epoch.0.saturating_sub(MAP_INCREMENTS_KEPT)));
            ops.push(Op::OmapRemoveRange { collection, object: name, first: Bytes::new(), end });
        }
        None => ops.push(Op::OmapClear { collection, object: name }),
    }
    Transaction { ops }
}

/// Epochs in the order of numbers.
fn key(epoch: Epoch) -> Bytes {
    Bytes::copy_from_slice(&epoch.0.to_be_bytes())
}

pub(crate) fn object(name: &'static str) -> ObjectId {
    ObjectId {
        pool: CollectionId::META.pool,
        hash: 0,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::from_static(name.as_bytes()),
        snap: ObjectId::HEAD,
    }
}
