//! Formatting, and from a superblock and a log to a running machine.

use std::collections::BTreeMap;

use allocator::Extent;
use allocator::limits::BLOCKS_MAX;
use nvme::{DmaBuf, Geometry};
use uuid::Uuid;

use crate::fs::check::{Problem, check};
use crate::fs::error::{FsError, FsResult};
use crate::fs::fault::Fault;
use crate::fs::limits::{
    ALLOC_UNIT_DEFAULT, ALLOC_UNIT_MAX, LOG_BYTES_MIN_DEFAULT, LOG_BYTES_MIN_MAX, SUPERBLOCK_BYTES,
};
use crate::fs::log::{Replayed, replay};
use crate::fs::machine::commit::{Io, LogPosition, encode_snapshot, mix, new_log_writes};
use crate::fs::machine::moving::Moving;
use crate::fs::machine::space::Lending;
use crate::fs::machine::stock::Stock;
use crate::fs::machine::{FsStats, Machine};
use crate::fs::record::Record;
use crate::fs::superblock::Superblock;
use crate::fs::tree::Tree;

/// What a new file system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatOptions {
    /// Its identity.
    pub uuid: Uuid,
    /// Offsets of the two superblock copies: aligned to blocks, outside the lent space.
    pub superblocks: [u64; 2],
    /// Unit of allocation, bytes: a power of two, at least a block. Lent space is aligned to it.
    pub alloc_unit: u32,
    /// Smallest log, bytes, a multiple of the unit. The file system keeps twice that for itself.
    pub log_bytes_min: u64,
    /// Space lent at once; at least four smallest logs.
    pub space: Vec<Extent>,
    /// Fast space on another device, beyond every address of this one; lent as a whole, too.
    pub fast: Option<Extent>,
    /// Random bits.
    pub nonce: u64,
}

impl FormatOptions {
    /// The usual sizes.
    pub fn new(uuid: Uuid, superblocks: [u64; 2], space: Vec<Extent>, nonce: u64) -> Self {
        let (alloc_unit, log_bytes_min) = (ALLOC_UNIT_DEFAULT, LOG_BYTES_MIN_DEFAULT);
        Self { uuid, superblocks, alloc_unit, log_bytes_min, space, fast: None, nonce }
    }
}

/// How to run a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// Offsets of the two superblock copies, as formatted.
    pub superblocks: [u64; 2],
    /// Random bits, new for every mount: they tell this mount's logs from what earlier ones left behind.
    pub nonce: u64,
    /// Below this much room the lender is asked, bytes.
    pub low_water: u64,
    /// How much to ask for, bytes.
    pub lend: u64,
    /// Fast space on another device: what the file system has, or more, or the first. Lent as a whole by this mount.
    pub fast: Option<Extent>,
}

/// The writes that make a file system. Nothing on the device is read.
pub fn format(options: &FormatOptions, geometry: &Geometry) -> FsResult<Vec<Io>> {
    let block = geometry.block_size as usize;
    let unit = u64::from(options.alloc_unit).max(1);
    let unit_fits = options.alloc_unit.is_power_of_two()
        && (geometry.block_size..=ALLOC_UNIT_MAX).contains(&options.alloc_unit)
        && geometry.size / unit <= BLOCKS_MAX;
    if !unit_fits {
        return Err(FsError::Limit {
            what: "allocation unit: a power of two, at least a block, not too small for the device",
        });
    }
    let copy = superblock_read_bytes(geometry.block_size) as u64;
    let [first, second] = options.superblocks;
    let fits = |offset: u64| {
        let end = offset.checked_add(copy);
        offset.is_multiple_of(u64::from(geometry.block_size)) && end.is_some_and(|end| end <= geometry.size)
    };
    if !fits(first) || !fits(second) || first.abs_diff(second) < copy {
        return Err(FsError::Limit {
            what: "superblock copies: two places on the device, apart, aligned to blocks",
        });
    }
    let min = options.log_bytes_min;
    if min < 4 * block as u64 || !min.is_multiple_of(unit) || min > LOG_BYTES_MIN_MAX {
        return Err(FsError::Limit { what: "smallest log: a multiple of the unit, at least four blocks" });
    }
    let mut tree = Tree::default();
    for extent in options.space.iter().chain(&options.fast) {
        tree.apply(&Record::AddSpace { extent: *extent })?;
    }
    let available = tree.space_bytes();
    if available < 4 * min {
        return Err(FsError::NoSpace { wanted: 4 * min, available });
    }
    let log_id = mix(mix(options.nonce) ^ 1);
    let (snapshot, _) = encode_snapshot(&tree.snapshot(), log_id, block);
    let log_bytes = min.max((2 * snapshot.len() as u64).next_multiple_of(unit));
    let mut log = Vec::new();
    let mut stock = Stock::build(&tree, &[], geometry.size, options.fast, unit)?;
    let request = allocator::Request { len: log_bytes, unit, extents_max: 64, hint: None };
    stock.allocate_log(&request, &mut log).map_err(|_| FsError::NoSpace { wanted: log_bytes, available })?;
    let mut superblock = Superblock {
        uuid: options.uuid,
        generation: 1,
        features_compatible: 0,
        features_read_only: 0,
        features_incompatible: 0,
        block_size: geometry.block_size,
        alloc_unit: options.alloc_unit,
        log_bytes_min: min,
        device_size: geometry.size,
        log_id,
        snapshot_bytes: snapshot.len() as u64,
        log,
        fast: None,
        key_id: 0,
    };
    superblock.set_fast(options.fast);
    refuse_problems(check(&tree, &superblock, options.superblocks))?;
    let mut ios = vec![Io::Write(new_log_writes(&superblock, &snapshot)), Io::Flush];
    for offset in options.superblocks {
        ios.push(Io::Write(vec![(offset, DmaBuf::from_slice_padded(&superblock.encode(), block))]));
        ios.push(Io::Flush);
    }
    Ok(ios)
}

/// Bytes to read for one superblock copy on a device with such blocks.
pub fn superblock_read_bytes(block_size: u32) -> usize {
    SUPERBLOCK_BYTES.max(block_size as usize)
}

fn refuse_problems(problems: Vec<Problem>) -> FsResult<()> {
    match problems.first() {
        None => Ok(()),
        Some(first) => Err(FsError::corrupt(format!("{first} ({} problems in all)", problems.len()))),
    }
}

/// A log read back, before anything is built on it: what fsck looks at.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The copy that holds.
    pub superblock: Superblock,
    /// The metadata.
    pub tree: Tree,
    good_copy: usize,
    /// Bytes of the device as it is now.
    device_size: u64,
    replayed_groups: u64,
    replayed_bytes: u64,
}

impl Loaded {
    /// Replays a log: the bytes of all its extents in order.
    pub fn new(
        (superblock, good_copy): (Superblock, usize),
        geometry: &Geometry,
        log: &[u8],
    ) -> FsResult<Self> {
        if superblock.block_size < geometry.block_size || superblock.device_size > geometry.size {
            return Err(FsError::corrupt(format!(
                "formatted for {} bytes in blocks of {}, but the device has {} in blocks of {}",
                superblock.device_size, superblock.block_size, geometry.size, geometry.block_size
            )));
        }
        let block = superblock.block_size as usize;
        let Replayed { records, groups, bytes } =
            replay(log, superblock.log_id, superblock.snapshot_bytes, block)?;
        let mut tree = Tree::default();
        for record in &records {
            tree.apply(record)
                .map_err(|error| FsError::corrupt(format!("log record {record:?}: {error}")))?;
        }
        let device_size = geometry.size;
        Ok(Self { superblock, tree, good_copy, device_size, replayed_groups: groups, replayed_bytes: bytes })
    }

    /// The records that it came from, of which `log` is the bytes.
    pub fn records(&self, log: &[u8]) -> FsResult<Vec<Record>> {
        let block = self.superblock.block_size as usize;
        Ok(replay(log, self.superblock.log_id, self.superblock.snapshot_bytes, block)?.records)
    }

    /// All problems.
    pub fn check(&self, superblocks: [u64; 2]) -> Vec<Problem> {
        check(&self.tree, &self.superblock, superblocks)
    }

    /// What is there, for people: a line for each file with its size and extents, lent space, and the log.
    pub fn listing(&self) -> String {
        let mut lines = String::new();
        let extents =
            |extents: &[Extent]| extents.iter().map(|extent| format!(" {extent}")).collect::<String>();
        for (dir, names) in &self.tree.dirs {
            lines += &format!("{dir}/\n");
            for (name, ino) in names {
                let inode = self.tree.files.get(ino).cloned().unwrap_or_default();
                let (size, places) = (inode.size, extents(&inode.extents));
                lines += &format!("{dir}/{name} file {} size {size}{places}\n", ino.0);
            }
        }
        let lent: Vec<Extent> =
            self.tree.spaces.iter().map(|(start, len)| Extent::new(*start, *len)).collect();
        lines += &format!("lent{}\n", extents(&lent));
        let (used, groups) = (self.replayed_bytes, self.replayed_groups);
        lines + &format!("log used {used} in {groups} groups of{}\n", extents(&self.superblock.log))
    }

    /// A machine that refuses to start from a state with problems. Before anything else, its shell carries out
    /// [`Machine::begin_compaction`].
    pub fn into_machine(self, options: MountOptions) -> FsResult<Machine> {
        if self.superblock.is_read_only() {
            return Err(FsError::Unsupported {
                what: format!("features {:#x} for writing", self.superblock.features_read_only),
            });
        }
        refuse_problems(self.check(options.superblocks))?;
        let Self { mut superblock, mut tree, good_copy, device_size, replayed_groups, replayed_bytes } = self;
        grow(&mut superblock, &mut tree, device_size, options.fast)?;
        superblock.allow_small();
        let (size, unit) = (superblock.device_size, u64::from(superblock.alloc_unit));
        let fast = superblock.fast;
        let stock = Stock::build(&tree, &superblock.log, size, fast, unit)?;
        let mut machine = Machine {
            superblock,
            options,
            good_copy,
            device_size: size,
            fast,
            tree,
            stock,
            moving: Moving::default(),
            open: BTreeMap::new(),
            log: LogPosition { bytes: replayed_bytes, groups: replayed_groups },
            staged: Vec::new(),
            staged_ticket: 0,
            durable_ticket: 0,
            frees: Vec::new(),
            committing: false,
            switching: false,
            rewriting: None,
            rewrite_refused: 0,
            lending: Lending::Quiet,
            refused: false,
            aside: 0,
            failed: None,
            stats: FsStats::default(),
            fault: Fault::default(),
        };
        machine.watch_low_water();
        Ok(machine)
    }
}

/// Takes over what the devices have become: a larger main device, and a fast space that is larger or new. The log that every
/// mount begins with tells of it.
fn grow(
    superblock: &mut Superblock,
    tree: &mut Tree,
    device_size: u64,
    fast: Option<Extent>,
) -> FsResult<()> {
    let unit = u64::from(superblock.alloc_unit);
    if device_size > superblock.device_size && device_size / unit <= BLOCKS_MAX {
        superblock.device_size = device_size;
    }
    let (had, has) = match (superblock.fast, fast) {
        (None, None) => return Ok(()),
        (Some(extent), None) => {
            return Err(FsError::Space { extent, reason: "is the fast space, and its device is not given" });
        }
        (had, Some(has)) => (had.unwrap_or(Extent::new(has.start, 0)), has),
    };
    if had.start != has.start || has.len < had.len || !superblock.may_be_fast(has) {
        return Err(FsError::Space { extent: has, reason: "is not the fast space, or more than it" });
    }
    // Also what a growth had named in the superblock and not lent yet.
    for extent in tree.not_lent_within(has) {
        tree.apply(&Record::AddSpace { extent })?;
    }
    superblock.set_fast(Some(has));
    Ok(())
}
