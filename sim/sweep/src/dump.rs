//! [`Dump`]: everything that can be read of one collection, with data as a hash, so that states compare fast.

use bytes::Bytes;
use store::suite::may_be_inline;
use store::{CollectionId, Hints, LogVersion, ObjectId, ObjectStore, limits};
use twox_hash::XxHash3_128;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    bits: u8,
    meta: Bytes,
    objects: Vec<ObjectDump>,
    /// The newest entries of its log: those a store may not forget.
    log: Vec<(LogVersion, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ObjectDump {
    name: ObjectId,
    size: u64,
    space: Space,
    hints: Hints,
    data: u128,
    extents: Vec<(u64, u64)>,
    attrs: Vec<(Bytes, Bytes)>,
    header: Bytes,
    omap: Vec<(Bytes, Bytes)>,
}

/// Bytes on the device.
#[derive(Clone, Copy, Debug, Eq)]
struct Space {
    allocated: u64,
    compressed: u64,
    may_be_inline: bool,
}

/// How much compressed data takes, and whether the first block is kept among the keys, the oracle does not know.
impl PartialEq for Space {
    fn eq(&self, other: &Self) -> bool {
        let is_inline = self.may_be_inline && self.allocated.abs_diff(other.allocated) == limits::BLOCK;
        self.allocated == other.allocated || self.compressed > 0 || other.compressed > 0 || is_inline
    }
}

/// Reads it all; none if the collection does not exist.
pub async fn dump(store: &dyn ObjectStore, id: CollectionId) -> Result<Option<Dump>, String> {
    let text = |what: &str, error: store::StoreError| format!("{what} in {id:?}: {error}");
    let all = store.collections().await.map_err(|error| text("collections", error))?;
    let Some((_, bits, meta)) = all.into_iter().find(|(found, ..)| *found == id) else { return Ok(None) };
    let (names, more) = store.list(id, None, limits::LIST_MAX).await.map_err(|error| text("list", error))?;
    if more.is_some() {
        return Err(format!("the list of {id:?} does not end"));
    }
    let mut objects = Vec::with_capacity(names.len());
    for name in names {
        objects.push(dump_object(store, id, name).await?);
    }
    let mut log = store.log(id).await.map_err(|error| text("log", error))?;
    log.drain(..log.len().saturating_sub(limits::PG_LOG_ENTRIES_FLOOR));
    Ok(Some(Dump { bits, meta, objects, log }))
}

async fn dump_object(
    store: &dyn ObjectStore,
    id: CollectionId,
    name: ObjectId,
) -> Result<ObjectDump, String> {
    let text = |what: &str, error: store::StoreError| format!("{what} of {:?} in {id:?}: {error}", name.name);
    let stat = store.stat(id, &name).await.map_err(|error| text("stat", error))?;
    let chunks = store.read(id, &name, 0, u64::MAX).await.map_err(|error| text("read", error))?;
    let mut hash = XxHash3_128::new();
    chunks.iter().for_each(|chunk| hash.write(chunk));
    let read: usize = chunks.iter().map(Bytes::len).sum();
    if read as u64 != stat.size {
        return Err(format!("{:?} in {id:?} has {} bytes and gives {read}", name.name, stat.size));
    }
    let extents = store.extents(id, &name, 0, u64::MAX).await.map_err(|error| text("extents", error))?;
    let omap = store.omap_scan(id, &name, None, Bytes::new(), limits::LIST_MAX, usize::MAX).await;
    Ok(ObjectDump {
        size: stat.size,
        space: Space {
            allocated: stat.allocated,
            compressed: stat.compressed,
            may_be_inline: may_be_inline(&extents),
        },
        hints: stat.hints,
        data: hash.finish_128(),
        extents,
        attrs: store.attrs(id, &name).await.map_err(|error| text("attributes", error))?,
        header: store.omap_header(id, &name).await.map_err(|error| text("header", error))?,
        omap: omap.map_err(|error| text("omap", error))?.entries,
        name,
    })
}

/// How a collection of which something may be unreadable compares with what it should hold.
pub enum Tolerant {
    /// As it should be.
    Right,
    /// Something cannot be read, and says so; the rest is as it should be.
    Unreadable(String),
}

/// Compares object by object; an error if something is read that is not so.
pub async fn tolerant(
    store: &dyn ObjectStore,
    id: CollectionId,
    expected: Option<&Dump>,
) -> Result<Tolerant, String> {
    let unreadable =
        |what: &str, error: store::StoreError| Ok(Tolerant::Unreadable(format!("{what}: {error}")));
    let all = match store.collections().await {
        Ok(all) => all,
        Err(error) => return unreadable("collections", error),
    };
    let found = all.into_iter().find(|(found, ..)| *found == id);
    let (bits, meta, expected) = match (found, expected) {
        (None, None) => return Ok(Tolerant::Right),
        (Some((_, bits, meta)), Some(expected)) => (bits, meta, expected),
        (found, _) => return Err(format!("{id:?} exists: {}, which is not so", found.is_some())),
    };
    if (bits, &meta) != (expected.bits, &expected.meta) {
        return Err(format!("{id:?} has metadata that nobody gave it"));
    }
    let names = match store.list(id, None, limits::LIST_MAX).await {
        Ok((names, _)) => names,
        Err(error) => return unreadable("list", error),
    };
    if !names.iter().eq(expected.objects.iter().map(|object| &object.name)) {
        return Err(format!("{id:?} lists {} objects of {}, or others", names.len(), expected.objects.len()));
    }
    let mut result = Tolerant::Right;
    for (name, expected) in names.into_iter().zip(&expected.objects) {
        match dump_object(store, id, name).await {
            Ok(found) if found == *expected => {}
            Ok(found) => {
                return Err(format!("{:?} in {id:?}: {}", found.name.name, describe(&found, expected)));
            }
            Err(reason) => result = Tolerant::Unreadable(reason),
        }
    }
    let mut log = match store.log(id).await {
        Ok(log) => log,
        Err(error) => return unreadable("log", error),
    };
    log.drain(..log.len().saturating_sub(limits::PG_LOG_ENTRIES_FLOOR));
    if log == expected.log {
        Ok(result)
    } else {
        Err(format!("the log of {id:?} has entries that are not so"))
    }
}

/// What tells two states apart, for messages.
pub fn difference(found: Option<&Dump>, expected: Option<&Dump>) -> String {
    let (Some(found), Some(expected)) = (found, expected) else {
        return format!("exists: {}, expected: {}", found.is_some(), expected.is_some());
    };
    if (found.bits, &found.meta) != (expected.bits, &expected.meta) {
        return "metadata differs".to_owned();
    }
    let names = |dump: &Dump| dump.objects.iter().map(|object| object.name.clone()).collect::<Vec<_>>();
    if names(found) != names(expected) {
        return format!("{} objects, expected {}, or others", found.objects.len(), expected.objects.len());
    }
    let mut lines = Vec::new();
    for (is, should) in found.objects.iter().zip(&expected.objects).filter(|(is, should)| is != should) {
        lines.push(format!("{:?}: {}", is.name.name, describe(is, should)));
    }
    if found.log != expected.log {
        let newest = |dump: &Dump| dump.log.last().map(|(version, _)| version.version);
        lines.push(format!("log ends at {:?} for {:?}", newest(found), newest(expected)));
    }
    lines.join("; ")
}

fn describe(is: &ObjectDump, should: &ObjectDump) -> String {
    let omap = if is.omap == should.omap { "same" } else { "other" };
    let data = if is.data == should.data { "same" } else { "other" };
    format!(
        "size {} for {}, allocated {} for {}, {data} data, {omap} omap",
        is.size, should.size, is.space.allocated, should.space.allocated
    )
}
