//! A device's label and segment table: whose device this is, and which slice owns which part of it.
//!
//! Written when the device is formatted and never on the data path. Three copies of the label and two of the table, each
//! with checksum and generation; one good copy of each is enough. Lives on the core that formats or opens.

use std::collections::BTreeMap;

use allocator::Extent;
use bytes::Bytes;
use nvme::{BlockDevice, DeviceError, DmaBuf};
use uuid::Uuid;

use crate::codec::{DecodeResult, Decoder, Encoder};
use crate::superblock::{Features, INCOMPAT_LABEL_KEYS};

pub(crate) mod fuzzing;
mod growth;

pub use growth::places;

/// First bytes of a label.
pub const MAGIC: &[u8; 8] = b"SPIRULA1";
const TABLE_MAGIC: &[u8; 8] = b"SPIRSEGS";
const VERSION: u16 = 1;
/// Bytes of a label copy.
const LABEL_BYTES: usize = 8192;
/// Space at the start of the device that no slice owns.
const HEAD_BYTES: u64 = 1 << 20;
/// Space at its end: the last label copy.
const TAIL_BYTES: u64 = 64 << 10;
/// Where the label copies are, before the one at the end.
const LABEL_PLACES: [u64; 2] = [0, 128 << 10];
/// Before this there is nothing on a device whose labelling was interrupted before the last copy of its label.
pub const LABELLED_FROM: u64 = LABEL_PLACES[1];
/// Where the table copies are; each has as much room.
const TABLE_PLACES: [u64; 2] = [256 << 10, 512 << 10];
const TABLE_BYTES_MAX: usize = 256 << 10;
/// Segments are at most so large, and at least so many if the device allows.
const SEGMENT_BYTES_MAX: u64 = 256 << 20;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENTS_WANTED: u64 = 64;
/// Most segments: a table copy holds two bytes for each.
const SEGMENTS_MAX: u64 = 1 << 16;
/// Most slices of a device.
pub const SLICES_MAX: usize = 256;
/// Longest key that operators may set, bytes.
const KEY_BYTES_MAX: usize = 255;
/// Owner of a segment that is not lent.
const NOBODY: u16 = u16::MAX;

/// Why a device cannot be formatted or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum LabelError {
    #[error(
        "{device} has {size} bytes, but {slices} slices need at least {need}; use a larger one or fewer OSDs on it"
    )]
    TooSmall { device: String, size: u64, slices: usize, need: u64 },
    #[error("{device} cannot have {slices} slices; the number is between 1 and {SLICES_MAX}")]
    Slices { device: String, slices: usize },
    #[error(
        "{device} has no label of spirula at any of its places ({reason}): it is not the device that the cluster was \
         made on, or was overwritten; nothing was written to it"
    )]
    NotOurs { device: String, reason: String },
    #[error(
        "all copies of the {what} on {device} are damaged ({reason}); if the data is needed, do not write to it"
    )]
    Corrupt { device: String, what: &'static str, reason: String },
    #[error("{device} belongs to cluster {found}, this is {expected}; give the device of this cluster")]
    OtherCluster { device: String, found: Uuid, expected: Uuid },
    #[error(
        "{device} has {found} bytes, but its label says {expected}: it is another device, or was cut off"
    )]
    SizeChanged { device: String, found: u64, expected: u64 },
    #[error("{device} was made by a newer version: it needs features {unknown:#x}; use that version")]
    Features { device: String, unknown: u64 },
    #[error("{device} has {slices} slices, there is no slice {slice}")]
    NoSlice { device: String, slices: usize, slice: usize },
    #[error("{device} has no part for store {store}: it belongs to others")]
    OtherStores { device: String, store: Uuid },
    #[error(
        "{device} stays as large as it was: the superblock of store {store} on it cannot be copied to its new end: {reason}"
    )]
    Superblock { device: String, store: Uuid, reason: String },
    #[error("{device}: a key of a label has 1 to {KEY_BYTES_MAX} bytes, not {len}")]
    Key { device: String, len: usize },
    #[error("{device}: with this, the label would have {len} bytes: at most {LABEL_BYTES}")]
    KeysTooLong { device: String, len: usize },
    #[error("{device}: its label has no key {key:?}")]
    NoKey { device: String, key: String },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Result of a call.
pub type LabelResult<T> = Result<T, LabelError>;

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Counts the writes.
    pub generation: u64,
    /// What versions must know to use it.
    pub features: Features,
    /// Identity of the device.
    pub device: Uuid,
    /// Cluster it belongs to.
    pub fsid: Uuid,
    /// Bytes of the device.
    pub size: u64,
    /// Its block size, bytes.
    pub block_size: u32,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Key that the data is encrypted with; 0, none, in this version.
    pub key_id: u64,
    /// Store of each slice.
    pub slices: Vec<Uuid>,
    /// What operators noted, in words of their own. They have a feature bit.
    pub keys: BTreeMap<String, String>,
}

/// Which slice owns which segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentTable {
    /// Counts the writes.
    pub generation: u64,
    owners: Vec<u16>,
}

/// A labelled device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Its label.
    pub label: Label,
    /// Its segments.
    pub segments: SegmentTable,
    /// Copies of either that are damaged and should be written anew.
    pub damaged: usize,
}

impl Labelled {
    /// The label and table of a new device: each slice gets the same run of segments.
    pub fn plan(device: &dyn BlockDevice, id: Uuid, fsid: Uuid, slices: Vec<Uuid>) -> LabelResult<Self> {
        let geometry = device.geometry();
        if slices.is_empty() || slices.len() > SLICES_MAX {
            return Err(LabelError::Slices { device: device.name().to_owned(), slices: slices.len() });
        }
        let room = geometry.size.saturating_sub(HEAD_BYTES + TAIL_BYTES);
        let wanted = (room / SEGMENTS_WANTED).max(1);
        let largest = SEGMENT_BYTES_MAX.max((room / SEGMENTS_MAX).next_power_of_two() * 2);
        let segment_bytes = (1 << wanted.ilog2()).clamp(SEGMENT_BYTES_MIN, largest);
        let count = room / segment_bytes;
        let each = count / slices.len() as u64;
        if each == 0 {
            return Err(LabelError::TooSmall {
                device: device.name().to_owned(),
                size: geometry.size,
                slices: slices.len(),
                need: size_min(slices.len()),
            });
        }
        let owner = |segment: u64| {
            u16::try_from(segment / each).ok().filter(|owner| usize::from(*owner) < slices.len())
        };
        let owners = (0..count).map(|segment| owner(segment).unwrap_or(NOBODY)).collect();
        let label = Label {
            generation: 1,
            features: Features::default(),
            device: id,
            fsid,
            size: geometry.size,
            block_size: geometry.block_size,
            segment_bytes,
            key_id: 0,
            slices,
            keys: BTreeMap::new(),
        };
        Ok(Self { label, segments: SegmentTable { generation: 1, owners }, damaged: 0 })
    }

    /// Writes every copy. The label at the very end goes first, so that whoever finds that this was interrupted knows for whom
    /// the device was to be ([`prepared`]); the one at the very start goes last, as the device is labelled then.
    pub async fn write(&self, device: &dyn BlockDevice) -> LabelResult<()> {
        let (label, table) = (self.label.encode(), self.segments.encode());
        let [first, second] = LABEL_PLACES;
        for place in label_places(device, self.label.size).into_iter().skip(LABEL_PLACES.len()) {
            write_at(device, place, &label).await?;
        }
        device.flush().await?;
        for place in TABLE_PLACES {
            write_at(device, place, &table).await?;
        }
        for place in [second, first] {
            device.flush().await?;
            write_at(device, place, &label).await?;
        }
        device.flush().await?;
        Ok(())
    }

    /// Makes the device nobody's: no copy of its label is left.
    pub async fn erase(&self, device: &dyn BlockDevice) -> LabelResult<()> {
        for place in label_places(device, self.label.size) {
            write_at(device, place, &[0; LABEL_BYTES]).await?;
        }
        device.flush().await?;
        Ok(())
    }

    /// Sets a key, or removes it, in every copy; one copy after the other, so that a crash leaves it set or not.
    pub async fn set_key(
        &mut self,
        device: &dyn BlockDevice,
        key: &str,
        value: Option<&str>,
    ) -> LabelResult<()> {
        let name = || device.name().to_owned();
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(LabelError::Key { device: name(), len: key.len() });
        }
        let mut label = Label { generation: self.label.generation + 1, ..self.label.clone() };
        match value {
            Some(value) => drop(label.keys.insert(key.to_owned(), value.to_owned())),
            None if label.keys.remove(key).is_none() => {
                return Err(LabelError::NoKey { device: name(), key: key.to_owned() });
            }
            None => {}
        }
        let len = label.encode().len();
        if len > LABEL_BYTES {
            return Err(LabelError::KeysTooLong { device: name(), len });
        }
        label.write(device).await?;
        self.label = label;
        Ok(())
    }

    /// Reads label and table, and checks that they are of this device and, if given, of this cluster.
    pub async fn read(device: &dyn BlockDevice, fsid: Option<Uuid>) -> LabelResult<Self> {
        let name = || device.name().to_owned();
        let mut damaged = 0;
        let label = read_label(device, &mut damaged).await?;
        if let Err(unknown) = label.features.check() {
            return Err(LabelError::Features { device: name(), unknown });
        }
        if let Some(expected) = fsid.filter(|expected| *expected != label.fsid) {
            return Err(LabelError::OtherCluster { device: name(), found: label.fsid, expected });
        }
        if label.size > device.size() {
            return Err(LabelError::SizeChanged {
                device: name(),
                found: device.size(),
                expected: label.size,
            });
        }
        let segments = read_table(device, &label, &mut damaged).await?;
        Ok(Self { label, segments, damaged })
    }

    /// The part of the device that belongs to a store, as [`Self::runs`].
    pub fn runs_of(&self, device: &dyn BlockDevice, store: Uuid) -> LabelResult<Vec<Extent>> {
        let slice = self.label.slices.iter().position(|slice| *slice == store);
        let other = || LabelError::OtherStores { device: device.name().to_owned(), store };
        self.runs(device, slice.ok_or_else(other)?)
    }

    /// The part of the device that a slice owns: one run, or several that follow one another in its window if the device has
    /// grown.
    pub fn runs(&self, device: &dyn BlockDevice, slice: usize) -> LabelResult<Vec<Extent>> {
        let bytes = self.label.segment_bytes;
        let mut runs: Vec<Extent> = Vec::new();
        for (index, owner) in (0_u64..).zip(&self.segments.owners) {
            if usize::from(*owner) != slice {
                continue;
            }
            let start = HEAD_BYTES + index * bytes;
            match runs.last_mut().filter(|last| last.end() == start) {
                Some(last) => last.len += bytes,
                None => runs.push(Extent::new(start, bytes)),
            }
        }
        if runs.is_empty() {
            let (device, slices) = (device.name().to_owned(), self.label.slices.len());
            return Err(LabelError::NoSlice { device, slices, slice });
        }
        Ok(runs)
    }

    /// The part of a device that has not grown that a slice owns.
    pub fn window(&self, device: &dyn BlockDevice, slice: usize) -> LabelResult<Extent> {
        match self.runs(device, slice)?[..] {
            [window] => Ok(window),
            _ => {
                let reason = format!("slice {slice} does not own one run of segments");
                Err(LabelError::Corrupt { device: device.name().to_owned(), what: "segment table", reason })
            }
        }
    }
}

/// The label of a device whose labelling may have been interrupted: any copy, whatever became of its segment table.
pub async fn prepared(device: &dyn BlockDevice) -> LabelResult<Label> {
    read_label(device, &mut 0).await
}

/// Smallest device for so many slices, bytes: each gets 16 MiB.
pub fn size_min(slices: usize) -> u64 {
    HEAD_BYTES + TAIL_BYTES + (16 << 20) * slices as u64
}

impl Label {
    /// Writes one copy after the other, each durable before the next is touched.
    async fn write(&self, device: &dyn BlockDevice) -> LabelResult<()> {
        let label = self.encode();
        // The last first: if the device has grown, what is new of it is the least sure to work.
        for place in label_places(device, self.size).into_iter().rev() {
            write_at(device, place, &label).await?;
            device.flush().await?;
        }
        Ok(())
    }

    /// The store of a slice of the device that is named so.
    pub fn store_of(&self, device: &str, slice: usize) -> LabelResult<Uuid> {
        let (device, slices) = (device.to_owned(), self.slices.len());
        self.slices.get(slice).copied().ok_or(LabelError::NoSlice { device, slices, slice })
    }

    /// The bytes of a copy, without padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::with_capacity(LABEL_BYTES);
        e.raw(MAGIC);
        e.u16(VERSION);
        e.u64(self.generation);
        let mut features = self.features;
        features.incompat &= !INCOMPAT_LABEL_KEYS;
        features.incompat |= if self.keys.is_empty() { 0 } else { INCOMPAT_LABEL_KEYS };
        features.encode(&mut e);
        e.raw(self.device.as_bytes());
        e.raw(self.fsid.as_bytes());
        e.u64(self.size);
        e.u32(self.block_size);
        e.u64(self.segment_bytes);
        e.u64(self.key_id);
        e.u16(u16::try_from(self.slices.len()).unwrap_or(u16::MAX));
        for slice in &self.slices {
            e.raw(slice.as_bytes());
        }
        if !self.keys.is_empty() {
            e.count(self.keys.len());
            for (key, value) in &self.keys {
                e.bytes(key.as_bytes());
                e.bytes(value.as_bytes());
            }
        }
        e.u32(crc32c::crc32c(e.as_slice()));
        e.finish()
    }

    /// Reads a copy.
    pub fn decode(bytes: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(bytes.clone());
        if *d.raw(MAGIC.len(), "magic")? != *MAGIC {
            return d.invalid("magic", 0, 0);
        }
        let version = d.u16("version of a label")?;
        if version != VERSION {
            return d.invalid("version of a label", 8, version.into());
        }
        let generation = d.u64("generation")?;
        let features = Features::decode(&mut d)?;
        let (device, fsid) = (uuid(&mut d, "device uuid")?, uuid(&mut d, "fsid")?);
        let (size, block_size) = (d.u64("size")?, d.u32("block size")?);
        let (segment_bytes, key_id) = (d.u64("segment size")?, d.u64("key id")?);
        let count = d.u16("number of slices")?;
        if usize::from(count) > SLICES_MAX {
            return d.invalid("number of slices", 0, count.into());
        }
        let slices = (0..count).map(|_| uuid(&mut d, "store uuid")).collect::<DecodeResult<_>>()?;
        let mut keys = BTreeMap::new();
        let has_keys = features.incompat & INCOMPAT_LABEL_KEYS != 0;
        let count = if has_keys { d.count(8, "keys of a label")? } else { 0 };
        for _ in 0..count {
            let (at, key, value) =
                (d.at(), text(&mut d, "key of a label")?, text(&mut d, "value of a label")?);
            if keys.insert(key, value).is_some() {
                return d.invalid("key of a label", at, 0);
            }
        }
        check_crc(&mut d, &bytes)?;
        if has_keys == keys.is_empty() {
            return d.invalid("keys of a label", 0, 0);
        }
        let features = Features { incompat: features.incompat & !INCOMPAT_LABEL_KEYS, ..features };
        if segment_bytes < SEGMENT_BYTES_MIN || !segment_bytes.is_power_of_two() {
            return d.invalid("segment size", 0, segment_bytes);
        }
        let of_device = Self {
            generation,
            features,
            device,
            fsid,
            size,
            block_size,
            segment_bytes,
            key_id,
            slices,
            keys,
        };
        Ok(of_device)
    }
}

impl SegmentTable {
    /// The bytes of a copy, without padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut e = Encoder::with_capacity(32 + 2 * self.owners.len());
        e.raw(TABLE_MAGIC);
        e.u16(VERSION);
        e.u64(self.generation);
        e.u32(u32::try_from(self.owners.len()).unwrap_or(u32::MAX));
        for owner in &self.owners {
            e.u16(*owner);
        }
        e.u32(crc32c::crc32c(e.as_slice()));
        e.finish()
    }

    /// Reads a copy.
    pub fn decode(bytes: Bytes) -> DecodeResult<Self> {
        let mut d = Decoder::new(bytes.clone());
        if *d.raw(TABLE_MAGIC.len(), "magic")? != *TABLE_MAGIC {
            return d.invalid("magic", 0, 0);
        }
        let version = d.u16("version of a segment table")?;
        if version != VERSION {
            return d.invalid("version of a segment table", 8, version.into());
        }
        let generation = d.u64("generation")?;
        let count = d.u32("number of segments")?;
        if u64::from(count) > SEGMENTS_MAX {
            return d.invalid("number of segments", 18, count.into());
        }
        let owners = (0..count).map(|_| d.u16("owner of a segment")).collect::<DecodeResult<_>>()?;
        check_crc(&mut d, &bytes)?;
        Ok(Self { generation, owners })
    }

    /// Whether the device has room for all segments.
    fn fits(&self, label: &Label) -> bool {
        // A damaged label may make segments of any size.
        let bytes = label.segment_bytes.checked_mul(self.owners.len() as u64);
        let end = bytes.and_then(|bytes| bytes.checked_add(HEAD_BYTES + TAIL_BYTES));
        end.is_some_and(|end| end <= label.size)
    }
}

fn uuid(d: &mut Decoder, what: &'static str) -> DecodeResult<Uuid> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&d.raw(16, what)?);
    Ok(Uuid::from_bytes(bytes))
}

fn text(d: &mut Decoder, what: &'static str) -> DecodeResult<String> {
    let at = d.at();
    let bytes = d.bytes(what)?;
    match String::from_utf8(bytes.to_vec()) {
        Ok(text) => Ok(text),
        Err(_) => d.invalid(what, at, 0),
    }
}

fn check_crc(d: &mut Decoder, bytes: &Bytes) -> DecodeResult<()> {
    let end = d.at();
    let stored = d.u32("checksum")?;
    if stored != crc32c::crc32c(bytes.get(..end).unwrap_or_default()) {
        return d.invalid("checksum", end, stored.into());
    }
    Ok(())
}

/// Where the copies are on a device that has so many bytes according to its label.
fn label_places(device: &dyn BlockDevice, size: u64) -> Vec<u64> {
    let block = u64::from(device.geometry().block_size);
    let last = (size / block * block).saturating_sub(TAIL_BYTES) / block * block;
    LABEL_PLACES.into_iter().chain([last]).collect()
}

async fn read_label(device: &dyn BlockDevice, damaged: &mut usize) -> LabelResult<Label> {
    let mut read = Vec::new();
    // If the device has grown, the last copy is where its end was: what is at the end now counts if it is one.
    let mut places = label_places(device, device.size());
    let mut looked = 0;
    let mut reason = String::new();
    let mut magic_seen = false;
    while let Some(place) = places.get(looked).copied() {
        looked += 1;
        let found = match read_at(device, place, LABEL_BYTES).await {
            Ok(bytes) => {
                magic_seen |= bytes.starts_with(MAGIC);
                Label::decode(bytes).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match found {
            // Where the device ends now may lie what it had before it was formatted.
            Ok(label)
                if read.first().is_some_and(|(_, first): &(u64, Label)| first.device != label.device) =>
            {
                reason = format!("the label at {place:#x} is of another device");
            }
            Ok(label) => {
                let own = label_places(device, label.size.min(device.size()));
                places.extend(own.into_iter().filter(|own| !places.contains(own)).collect::<Vec<_>>());
                read.push((place, label));
            }
            Err(error) => reason = error,
        }
    }
    let name = device.name().to_owned();
    // Of equals the first.
    let best = read.iter().rev().max_by_key(|(_, label)| label.generation).map(|(_, label)| label.clone());
    match best {
        Some(label) => {
            let has = |place: &&u64| read.iter().any(|(read, found)| read == *place && *found == label);
            let places = label_places(device, label.size.min(device.size()));
            *damaged += places.iter().filter(|place| !has(place)).count();
            Ok(label)
        }
        None if magic_seen => Err(LabelError::Corrupt { device: name, what: "label", reason }),
        None => Err(LabelError::NotOurs { device: name, reason }),
    }
}

async fn read_table(
    device: &dyn BlockDevice,
    label: &Label,
    damaged: &mut usize,
) -> LabelResult<SegmentTable> {
    let mut read = Vec::new();
    let mut reason = String::new();
    for place in TABLE_PLACES {
        let decoded = match read_at(device, place, TABLE_BYTES_MAX).await {
            Ok(bytes) => SegmentTable::decode(bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match decoded {
            Ok(table) => read.push(table),
            Err(error) => reason = error,
        }
    }
    let best = read.iter().rev().max_by_key(|table| table.generation).cloned();
    // One that is older was not written when the other was.
    *damaged += TABLE_PLACES.len() - read.iter().filter(|table| best.as_ref() == Some(*table)).count();
    match best {
        Some(table) if table.fits(label) => Ok(table),
        Some(_) => {
            let reason = "it has more segments than the device".to_owned();
            Err(LabelError::Corrupt { device: device.name().to_owned(), what: "segment table", reason })
        }
        None => Err(LabelError::Corrupt { device: device.name().to_owned(), what: "segment table", reason }),
    }
}

async fn write_at(device: &dyn BlockDevice, place: u64, bytes: &[u8]) -> LabelResult<()> {
    let block = device.geometry().block_size as usize;
    device.write(place, DmaBuf::from_slice_padded(bytes, block)).await?;
    Ok(())
}

async fn read_at(device: &dyn BlockDevice, place: u64, len: usize) -> LabelResult<Bytes> {
    let block = device.geometry().block_size as usize;
    Ok(device.read(place, DmaBuf::zeroed(len.next_multiple_of(block))).await?.freeze())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::rc::Rc;

    use nvme::{MemoryDevice, Recording, RecordingDevice};
    use rt::sim::{Config, Sim};

    use super::*;

    pub const FSID: Uuid = Uuid::from_u128(9);

    pub fn plan(device: &MemoryDevice, slices: usize) -> LabelResult<Labelled> {
        let slices = (0..slices).map(|slice| Uuid::from_u128(slice as u128)).collect();
        Labelled::plan(device, Uuid::from_u128(1), FSID, slices)
    }

    pub fn on_core<T: 'static>(call: impl AsyncFnOnce() -> T + 'static) -> T {
        Sim::new(1, Config::default()).run(0, |_| async move { call().await })
    }

    fn damage(device: &MemoryDevice, place: u64) {
        let device = device.clone();
        on_core(async move || {
            device.write(place, DmaBuf::from_slice_padded(&[7; 100], 4096)).await.expect("writes");
        });
    }

    #[test]
    fn windows_do_not_overlap_and_leave_the_copies_alone() {
        for (size, slices) in [(64 << 20, 1), (1 << 30, 3), (100 << 30, 16)] {
            let device = MemoryDevice::new(size);
            let labelled = plan(&device, slices).expect("fits");
            let mut end = HEAD_BYTES;
            for slice in 0..slices {
                let window = labelled.window(&device, slice).expect("owns segments");
                assert_eq!(window.start, end);
                end = window.end();
            }
            assert!(end + TAIL_BYTES <= size);
            assert!(end > size * 9 / 10 || size < 1 << 30, "{end} of {size} used");
            assert!(matches!(labelled.window(&device, slices), Err(LabelError::NoSlice { .. })));
        }
        assert!(matches!(plan(&MemoryDevice::new(4 << 20), 8), Err(LabelError::TooSmall { .. })));
        assert!(matches!(plan(&MemoryDevice::new(4 << 20), 0), Err(LabelError::Slices { .. })));
    }

    #[test]
    fn any_one_copy_of_each_is_enough() {
        let device = MemoryDevice::new(64 << 20);
        let labelled = plan(&device, 2).expect("fits");
        let write = (labelled.clone(), device.clone());
        on_core(async move || write.0.write(&write.1).await.expect("writes"));
        let places = label_places(&device, 64 << 20);
        for kept in 0..places.len() {
            for table_kept in 0..TABLE_PLACES.len() {
                let copy = device.snapshot();
                let others =
                    places.iter().enumerate().filter(|(index, _)| *index != kept).map(|(_, place)| *place);
                let tables = TABLE_PLACES.iter().enumerate().filter(|(index, _)| *index != table_kept);
                for place in others.chain(tables.map(|(_, place)| *place)) {
                    damage(&copy, place);
                }
                let read = on_core(async move || Labelled::read(&copy, Some(FSID)).await).expect("reads");
                assert_eq!((read.label, read.segments), (labelled.label.clone(), labelled.segments.clone()));
                assert_eq!(read.damaged, 3);
            }
        }
    }

    #[test]
    fn keys_are_set_wherever_power_is_cut() {
        on_core(async move || {
            let mut geometry = MemoryDevice::default_geometry(64 << 20);
            (geometry.volatile_cache, geometry.atomic_write_unit) = (true, 512);
            let device = MemoryDevice::with_geometry("labelled", geometry.clone());
            let mut labelled = plan(&device, 2).expect("fits");
            labelled.write(&device).await.expect("writes");
            let mut before = BTreeMap::new();
            for (key, value) in
                [("whoami", Some("3")), ("note", Some("grüße")), ("whoami", None), ("note", None)]
            {
                let recording = Recording::new(geometry.clone(), device.image());
                let recorded = RecordingDevice::new(recording.clone(), Rc::new(device.clone()));
                labelled.set_key(&recorded, key, value).await.expect("sets");
                let after = labelled.label.keys.clone();
                assert_eq!(after.get(key).map(String::as_str), value);
                for cut in recording.cuts() {
                    let moment = recording.at(cut);
                    for choice in moment.choices(4) {
                        let image = moment.image(&choice);
                        let found = Labelled::read(&image, Some(FSID)).await.expect("reads").label.keys;
                        assert!(found == before || found == after, "{}: {found:?}", image.name());
                    }
                }
                let found = Labelled::read(&device, Some(FSID)).await.expect("reads");
                assert_eq!((&found.label, found.damaged), (&labelled.label, 0));
                before = after;
            }
            let long = "x".repeat(LABEL_BYTES);
            for (key, value) in [("", Some("1")), (&long[..256], Some("1")), ("a", Some(&long)), ("a", None)]
            {
                labelled.set_key(&device, key, value).await.expect_err("it is refused");
            }
            assert_eq!(Labelled::read(&device, None).await.expect("reads").label, labelled.label);
        });
    }

    #[test]
    fn what_is_wrong_is_said() {
        let blank = MemoryDevice::new(64 << 20);
        let read = |device: MemoryDevice, fsid| on_core(async move || Labelled::read(&device, fsid).await);
        assert!(matches!(read(blank.clone(), None), Err(LabelError::NotOurs { .. })));
        let labelled = plan(&blank, 1).expect("fits");
        let device = blank.clone();
        on_core(async move || labelled.write(&device).await.expect("writes"));
        assert!(matches!(read(blank.clone(), Some(Uuid::nil())), Err(LabelError::OtherCluster { .. })));
        let cut_off =
            MemoryDevice::from_image("cut off", MemoryDevice::default_geometry(32 << 20), blank.image());
        assert!(matches!(read(cut_off, None), Err(LabelError::SizeChanged { .. })));
        let (device, labelled) = (blank.snapshot(), plan(&blank, 1).expect("fits"));
        let erased = device.clone();
        on_core(async move || labelled.erase(&device).await.expect("writes"));
        assert!(matches!(read(erased, None), Err(LabelError::NotOurs { .. })));
        for place in TABLE_PLACES {
            damage(&blank, place);
        }
        assert!(matches!(read(blank, None), Err(LabelError::Corrupt { what: "segment table", .. })));
    }
}
