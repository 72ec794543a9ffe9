//! [`Run`]: an immutable sorted file of changes in checksummed blocks.
//!
//! ```text
//! block*  ranges  index  footer
//! ```
//!
//! Every block is its bytes and their crc32c. Entries are ordered by key, then newest first; all of a key are in one
//! block. The footer is the last [`FOOTER_BYTES`] of the file.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::fs::{LocalBlueFs, LocalReader};
use crate::kv::sim::memtable::{Change, RangeDelete, Resolving, cover};
use crate::kv::sim::{block_error, fs_error};
use crate::kv::{KvError, KvResult};

const MAGIC: u64 = u64::from_le_bytes(*b"spSimRun");
const FOOTER_BYTES: usize = 44;
const BLOCK_BYTES: usize = 4096;

/// A change with its key and number.
pub(super) type Entry = (Bytes, u64, Change);

/// Offset, length and first key of a block.
pub(super) type Place = (u64, usize, Bytes);

/// Offset and length of the blocks with the deleted ranges and with the index.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Footer {
    ranges: (u64, usize),
    index: (u64, usize),
}

/// A run that can be read.
pub(super) struct Run {
    pub(super) number: u64,
    /// Of its file.
    pub(super) bytes: u64,
    reader: LocalReader,
    index: Vec<Place>,
    ranges: Vec<RangeDelete>,
    cached: RefCell<Option<(usize, Rc<Vec<Entry>>)>>,
    /// No manifest names it any more: its file goes with its last reader.
    obsolete: RefCell<Option<(LocalBlueFs, String)>>,
}

impl Drop for Run {
    fn drop(&mut self) {
        let Some((fs, path)) = self.obsolete.take() else { return };
        // As RocksDB does, nobody waits for that to be durable. Of a file system that failed nobody wants anything.
        let _ = fs.with(|machine| machine.unlink(&path));
    }
}

/// Path of a run's file.
pub(super) fn run_path(dir: &str, number: u64) -> String {
    format!("{dir}/{number:06}.run")
}

/// The number of the run in a file of this name.
pub(super) fn number_of(name: &str) -> Option<u64> {
    name.strip_suffix(".run")?.parse().ok()
}

/// Writes a run and makes it durable; its name is not until the directory is synced.
pub(super) async fn write_run(
    fs: &LocalBlueFs,
    dir: &str,
    number: u64,
    entries: &[Entry],
    ranges: &[RangeDelete],
) -> KvResult<Run> {
    let mut file = BytesMut::new();
    let mut index = BytesMut::new();
    let mut block = BytesMut::new();
    let mut first: Option<Bytes> = None;
    let mut blocks = 0_u32;
    let mut finish = |block: &mut BytesMut, first: &mut Option<Bytes>, file: &mut BytesMut| {
        let Some(first) = first.take() else { return };
        let (offset, len) = put_block(file, block);
        index.put_u64_le(offset);
        index.put_u32_le(len);
        put_bytes(&mut index, &first);
        block.clear();
        blocks += 1;
    };
    let mut last: Option<&Bytes> = None;
    for (key, seq, change) in entries {
        if block.len() >= BLOCK_BYTES && last != Some(key) {
            finish(&mut block, &mut first, &mut file);
        }
        last = Some(key);
        first.get_or_insert_with(|| key.clone());
        put_bytes(&mut block, key);
        block.put_u64_le(*seq);
        let (kind, value) = match change {
            Change::Put(value) => (1, value.clone()),
            Change::Delete => (2, Bytes::new()),
            Change::Merge(operand) => (3, operand.clone()),
        };
        block.put_u8(kind);
        put_bytes(&mut block, &value);
    }
    finish(&mut block, &mut first, &mut file);
    let mut deleted = BytesMut::new();
    for range in ranges {
        deleted.put_u64_le(range.seq);
        put_bytes(&mut deleted, &range.start);
        put_bytes(&mut deleted, &range.end);
    }
    let (ranges_at, ranges_len) = put_block(&mut file, &deleted);
    let (index_at, index_len) = put_block(&mut file, &index);
    let mut footer = BytesMut::new();
    footer.put_u64_le(MAGIC);
    footer.put_u64_le(number);
    footer.put_u64_le(ranges_at);
    footer.put_u32_le(ranges_len);
    footer.put_u64_le(index_at);
    footer.put_u32_le(index_len);
    footer.put_u32_le(crc32c::crc32c(&footer));
    file.extend_from_slice(&footer);

    let path = run_path(dir, number);
    let mut writer = fs.create(&path).map_err(fs_error)?;
    let written = async {
        writer.append(&file).await?;
        writer.sync().await
    };
    if let Err(error) = written.await {
        drop(writer);
        // Half a run is of no use, and its space may be what is missing. If that fails too, the next mount does it.
        if let Err(also) = fs.with(|machine| machine.unlink(&path)) {
            log::warn!("{path}: {also} after {error}");
        }
        return Err(fs_error(error));
    }
    drop(writer);
    Run::open(fs, dir, number).await
}

impl Run {
    /// Removes its file as soon as nobody reads it.
    pub(super) fn removed_when_unused(&self, fs: &LocalBlueFs, dir: &str) {
        self.obsolete.replace(Some((fs.clone(), run_path(dir, self.number))));
    }

    /// About how many of its bytes lie within a range of keys.
    pub(super) fn bytes_within(&self, range: &RangeDelete) -> u64 {
        let is_within = |(_, _, first): &&Place| *first >= range.start && *first < range.end;
        self.index.iter().filter(is_within).map(|(_, len, _)| *len as u64).sum()
    }

    /// Reads every block, for its checksum.
    pub(super) async fn verify(&self) -> KvResult<()> {
        for (offset, len, _) in &self.index {
            self.read_block(*offset, *len).await?;
        }
        Ok(())
    }

    pub(super) async fn open(fs: &LocalBlueFs, dir: &str, number: u64) -> KvResult<Self> {
        let reader = fs.open(&run_path(dir, number)).map_err(fs_error)?;
        let bytes = reader.size().map_err(fs_error)?;
        let corrupt = |what: &str| corrupt(number, what);
        let footer_at = bytes.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| corrupt("too short"))?;
        let footer = reader.read_at(footer_at, FOOTER_BYTES).await.map_err(fs_error)?;
        let Footer { ranges, index } = Footer::decode(footer, number)?;
        let mut run = Self {
            number,
            bytes,
            reader,
            index: Vec::new(),
            ranges: Vec::new(),
            cached: RefCell::default(),
            obsolete: RefCell::default(),
        };
        let ranges = run.read_block(ranges.0, ranges.1).await?;
        run.ranges = take_all(ranges, take_range).ok_or_else(|| corrupt("ranges"))?;
        let index = run.read_block(index.0, index.1).await?;
        run.index = take_all(index, take_place).ok_or_else(|| corrupt("index"))?;
        Ok(run)
    }

    /// Feeds what this run knows about `key` at `at`.
    pub(super) async fn resolve(&self, key: &Bytes, at: u64, into: &mut Resolving) -> KvResult<()> {
        let cover = cover(&self.ranges, key, at);
        if let Some(block) = self.index.partition_point(|(_, _, first)| first <= key).checked_sub(1) {
            for (entry, seq, change) in self.block(block).await?.iter() {
                if entry > key || into.is_done() || (entry == key && *seq < cover) {
                    break;
                }
                if entry == key && *seq <= at {
                    into.feed(change);
                }
            }
        }
        if cover > 0 {
            into.end();
        }
        Ok(())
    }

    /// The first key at or after `from` that has a change.
    pub(super) async fn next_key(&self, from: &Bytes) -> KvResult<Option<Bytes>> {
        let mut block = self.index.partition_point(|(_, _, first)| first <= from).saturating_sub(1);
        while block < self.index.len() {
            let entries = self.block(block).await?;
            let at = entries.partition_point(|(key, _, _)| key < from);
            if let Some((key, _, _)) = entries.get(at) {
                return Ok(Some(key.clone()));
            }
            block += 1;
        }
        Ok(None)
    }

    async fn block(&self, number: usize) -> KvResult<Rc<Vec<Entry>>> {
        if let Some((cached, entries)) = &*self.cached.borrow()
            && *cached == number
        {
            return Ok(Rc::clone(entries));
        }
        let (offset, len, _) = self.index[number];
        let block = self.read_block(offset, len).await?;
        let entries = take_all(block, take_entry);
        let entries = Rc::new(entries.ok_or_else(|| corrupt(self.number, &format!("block {number}")))?);
        *self.cached.borrow_mut() = Some((number, Rc::clone(&entries)));
        Ok(entries)
    }

    async fn read_block(&self, offset: u64, len: usize) -> KvResult<Bytes> {
        let block = self.reader.read_at(offset, len).await.map_err(fs_error)?;
        let Some((bytes, crc)) = block.split_last_chunk::<4>().filter(|_| block.len() == len) else {
            return Err(KvError::Corrupt(format!("run {}: block at {offset:#x} cut short", self.number)));
        };
        let (found, expected) = (crc32c::crc32c(bytes), u32::from_le_bytes(*crc));
        if found != expected {
            return Err(block_error(self.number, offset, found, expected));
        }
        Ok(block.slice(..bytes.len()))
    }
}

impl Footer {
    /// Reads the footer of run `number`.
    pub(super) fn decode(mut footer: Bytes, number: u64) -> KvResult<Self> {
        if footer.len() != FOOTER_BYTES {
            return Err(corrupt(number, "footer cut short"));
        }
        let found = crc32c::crc32c(&footer[..FOOTER_BYTES - 4]);
        let magic = footer.get_u64_le();
        let own_number = footer.get_u64_le();
        let ranges = (footer.get_u64_le(), footer.get_u32_le() as usize);
        let index = (footer.get_u64_le(), footer.get_u32_le() as usize);
        if magic != MAGIC || own_number != number || footer.get_u32_le() != found {
            return Err(corrupt(number, "footer"));
        }
        Ok(Self { ranges, index })
    }
}

fn corrupt(run: u64, what: &str) -> KvError {
    KvError::Corrupt(format!("run {run}: {what}"))
}

fn put_block(file: &mut BytesMut, block: &[u8]) -> (u64, u32) {
    let offset = file.len() as u64;
    file.extend_from_slice(block);
    file.put_u32_le(crc32c::crc32c(block));
    (offset, (block.len() + 4) as u32)
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn take_bytes(from: &mut Bytes) -> Option<Bytes> {
    let len = from.try_get_u32_le().ok()? as usize;
    (len <= from.len()).then(|| from.split_to(len))
}

/// Everything in a block; none if it does not end with an item.
pub(super) fn take_all<T>(mut block: Bytes, take: fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let mut all = Vec::new();
    while block.has_remaining() {
        all.push(take(&mut block)?);
    }
    Some(all)
}

/// A deleted range.
pub(super) fn take_range(from: &mut Bytes) -> Option<RangeDelete> {
    let seq = from.try_get_u64_le().ok()?;
    Some(RangeDelete { seq, start: take_bytes(from)?, end: take_bytes(from)? })
}

/// An item of the index.
pub(super) fn take_place(from: &mut Bytes) -> Option<Place> {
    let offset = from.try_get_u64_le().ok()?;
    let len = from.try_get_u32_le().ok()? as usize;
    Some((offset, len, take_bytes(from)?))
}

/// An entry of a block.
pub(super) fn take_entry(from: &mut Bytes) -> Option<Entry> {
    let key = take_bytes(from)?;
    let seq = from.try_get_u64_le().ok()?;
    let kind = from.try_get_u8().ok()?;
    let value = take_bytes(from)?;
    let change = match kind {
        1 => Change::Put(value),
        2 => Change::Delete,
        3 => Change::Merge(value),
        _ => return None,
    };
    Some((key, seq, change))
}
