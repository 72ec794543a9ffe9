//! [`ZonedAllocator`]: for devices on which a zone is written from its beginning to its end and emptied as a whole.
//!
//! A zone has a write pointer; space is taken there and nowhere else. What is released is *dead* until its zone, with
//! nothing alive in it any more, is reset; until then it is neither free nor in use. At most so many zones are open, that is,
//! have space taken from them, at once. Invariant: the lists and counters always equal what a look at every zone would give,
//! and nothing is alive behind a write pointer.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use crate::bitmap::BitmapAllocator;
use crate::extent::Extent;
use crate::limits::{OPEN_ZONES_MAX, PAGE_BLOCKS, PAGE_BYTES, UNIT_BLOCKS_MAX};
use crate::seam::{
    AllocError, AllocResult, Allocator, Page, Request, Work, Zone, ZoneState, Zones, check_request,
};
use crate::tree::BitTree;

/// How a device's zones are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneLayout {
    /// Bytes of a zone: a multiple of [`UNIT_BLOCKS_MAX`] blocks. The last one may be shorter.
    pub zone_bytes: u64,
    /// Zones that may be open at once, from 1 to [`OPEN_ZONES_MAX`].
    pub open_max: usize,
}

/// A zone, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fill {
    write: u64,
    alive: u64,
    open: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct ZonedAllocator {
    /// What is not alive is free in it.
    alive: BitmapAllocator,
    blocks: u64,
    zone_blocks: u64,
    open_max: usize,
    zones: Vec<Fill>,
    /// In the order in which they were opened.
    open: Vec<usize>,
    empty: BitTree,
    /// Those that are not full.
    roomy: BitTree,
    /// Written in part and not open: blocks left, and which.
    closed: BTreeSet<(u64, Reverse<usize>)>,
    /// Not open and with something dead in it: dead blocks, and which.
    dead: BTreeSet<(u64, Reverse<usize>)>,
    free: u64,
    runs: u64,
    work: Work,
}

/// What a failing request is undone with.
struct Undo {
    open: Vec<usize>,
    /// Zones as they were before each piece.
    zones: Vec<(usize, Fill)>,
    taken: Vec<(u64, u64)>,
}

impl ZonedAllocator {
    /// A space of `capacity` bytes (rounded down to blocks), all in use: every zone is full.
    pub fn new(capacity: u64, block_size: u64, layout: ZoneLayout) -> Self {
        let ZoneLayout { zone_bytes, open_max } = layout;
        let alive = BitmapAllocator::new(capacity, block_size);
        let (blocks, zone_blocks) = (capacity / block_size, zone_bytes / block_size);
        let good = zone_bytes > 0 && zone_bytes.is_multiple_of(UNIT_BLOCKS_MAX * block_size);
        assert!(good && (1..=OPEN_ZONES_MAX).contains(&open_max), "{layout:?} in blocks of {block_size}");
        let count = blocks.div_ceil(zone_blocks) as usize;
        let mut new = Self {
            alive,
            blocks,
            zone_blocks,
            open_max,
            zones: vec![Fill::default(); count],
            open: Vec::new(),
            empty: BitTree::new(count),
            roomy: BitTree::new(count),
            closed: BTreeSet::new(),
            dead: BTreeSet::new(),
            free: 0,
            runs: 0,
            work: Work::default(),
        };
        for (zone, fill) in (0..).zip(&mut new.zones) {
            let len = zone_blocks.min(blocks - zone * zone_blocks);
            *fill = Fill { write: len, alive: len, open: false };
        }
        new
    }

    /// Upper bound of the words one allocation of `blocks` in at most `extents_max` pieces may touch.
    pub fn words_bound(&self, blocks: u64, extents_max: usize) -> u64 {
        let pieces = (extents_max as u64).min(blocks) + 1;
        // For each the open zones twice, and a few words of the bitmap beside those of its length.
        pieces * (2 * self.open_max as u64 + 32) + blocks / 8
    }

    fn len(&self, zone: usize) -> u64 {
        self.zone_blocks.min(self.blocks - zone as u64 * self.zone_blocks)
    }

    fn room(&self, zone: usize) -> u64 {
        self.zones.get(zone).map_or(0, |fill| self.len(zone) - fill.write)
    }

    /// Whether a free run begins in a zone.
    fn starts_run(&self, zone: usize) -> bool {
        let joins = || zone > 0 && self.zones[zone].write == 0 && self.room(zone - 1) > 0;
        self.room(zone) > 0 && !joins()
    }

    fn run_starts_around(&self, zone: usize) -> u64 {
        u64::from(self.starts_run(zone)) + u64::from(zone + 1 < self.zones.len() && self.starts_run(zone + 1))
    }

    /// The only place where a zone changes: every list and counter follows.
    fn put(&mut self, zone: usize, fill: Fill) {
        let was = self.zones[zone];
        let (room, starts) = (self.room(zone), self.run_starts_around(zone));
        self.closed.remove(&(room, Reverse(zone)));
        self.dead.remove(&(was.write - was.alive, Reverse(zone)));
        self.zones[zone] = fill;
        let now = self.room(zone);
        self.free = self.free + now - room;
        self.runs = self.runs + self.run_starts_around(zone) - starts;
        if fill.write == 0 {
            self.empty.insert(zone);
        } else {
            self.empty.remove(zone);
        }
        if now > 0 {
            self.roomy.insert(zone);
        } else {
            self.roomy.remove(zone);
        }
        if !fill.open && fill.write > 0 && now > 0 {
            self.closed.insert((now, Reverse(zone)));
        }
        if !fill.open && fill.write > fill.alive {
            self.dead.insert((fill.write - fill.alive, Reverse(zone)));
        }
        match (was.open, fill.open) {
            (false, true) => self.open.push(zone),
            (true, false) => self.open.retain(|other| *other != zone),
            _ => {}
        }
    }

    /// Where the next piece of that unit would begin in a zone, and how many blocks there are from there on.
    fn fits(&self, zone: usize, unit: u64) -> (u64, u64) {
        let Some(fill) = self.zones.get(zone) else { return (0, 0) };
        let start = zone as u64 * self.zone_blocks;
        let first = (start + fill.write).next_multiple_of(unit);
        let end = (start + self.len(zone)) / unit * unit;
        (first, end.saturating_sub(first))
    }

    /// A zone to take up to `wanted` blocks from; all of them if it is for the last extent.
    fn choose(&self, wanted: u64, unit: u64, hint: Option<usize>, is_last: bool) -> Option<usize> {
        let has = |zone: usize, blocks: u64| self.fits(zone, unit).1 >= blocks;
        let mut all = hint.into_iter().chain(self.open.iter().copied());
        if let Some(zone) = all.find(|zone| has(*zone, wanted)) {
            return Some(zone);
        }
        let roomiest = self.closed.last().map(|(_, Reverse(zone))| *zone);
        let fresh = || self.empty.next(0);
        if is_last {
            // The last zone may be too short although others are not.
            return roomiest.into_iter().chain(fresh()).find(|zone| has(*zone, wanted));
        }
        let open =
            self.open.iter().copied().filter(|zone| has(*zone, unit)).max_by_key(|zone| self.room(*zone));
        open.or_else(|| roomiest.into_iter().chain(fresh()).find(|zone| has(*zone, unit)))
    }

    /// Makes room for another open zone: the one with the least left is closed.
    fn close_one(&mut self, undo: &mut Undo) {
        if self.open.len() < self.open_max {
            return;
        }
        let least = self.open.iter().copied().min_by_key(|zone| self.room(*zone));
        if let Some(zone) = least {
            undo.zones.push((zone, self.zones[zone]));
            self.put(zone, Fill { open: false, ..self.zones[zone] });
        }
    }

    /// Takes a piece at a zone's write pointer. What is passed over to align it is dead.
    fn take(&mut self, zone: usize, start: u64, len: u64, undo: &mut Undo) {
        if !self.zones[zone].open {
            self.close_one(undo);
        }
        let was = self.zones[zone];
        undo.zones.push((zone, was));
        let write = start + len - zone as u64 * self.zone_blocks;
        let taken = self.alive.mark_used(self.extent(start, len));
        assert!(taken.is_ok(), "nothing is alive behind a write pointer: {taken:?}");
        self.put(zone, Fill { write, alive: was.alive + len, open: write < self.len(zone) });
        match undo.taken.last_mut().filter(|last| last.0 + last.1 == start) {
            Some(last) => last.1 += len,
            None => undo.taken.push((start, len)),
        }
    }

    fn undo(&mut self, undo: Undo) {
        for (start, len) in undo.taken {
            let released = self.alive.release(self.extent(start, len));
            assert!(released.is_ok(), "it was just taken: {released:?}");
        }
        for (zone, fill) in undo.zones.into_iter().rev() {
            self.put(zone, fill);
        }
        self.open = undo.open;
    }

    fn extent(&self, start: u64, len: u64) -> Extent {
        let block = self.alive.block_size();
        Extent::new(start * block, len * block)
    }

    /// Zones that a range of blocks is in, with the part of it in each: first block and blocks.
    fn parts(&self, start: u64, len: u64) -> impl Iterator<Item = (usize, u64, u64)> + use<> {
        let (size, end) = (self.zone_blocks, start + len);
        (start / size..end.div_ceil(size)).map(move |zone| {
            let first = start.max(zone * size);
            (zone as usize, first, end.min((zone + 1) * size) - first)
        })
    }

    fn zone_at(&self, index: u64) -> AllocResult<usize> {
        let zones = self.zones.len() as u64;
        let at = usize::try_from(index).ok().filter(|at| *at < self.zones.len());
        at.ok_or(AllocError::NoZone { index, zones })
    }

    /// Blocks alive in a zone, and how far from its start the last of them ends, by the bitmap.
    fn alive_in(&self, zone: usize) -> (u64, u64) {
        let start = zone as u64 * self.zone_blocks;
        let whole = self.extent(start, self.len(zone));
        let (mut at, mut alive, mut end) = (whole.start, 0, whole.start);
        while let Some(used) = self.alive.next_used(at).filter(|used| used.start < whole.end()) {
            at = used.end().min(whole.end());
            alive += at - used.start;
            end = at;
        }
        let block = self.alive.block_size();
        (alive / block, (end - whole.start) / block)
    }
}

impl Allocator for ZonedAllocator {
    fn block_size(&self) -> u64 {
        self.alive.block_size()
    }

    fn capacity(&self) -> u64 {
        self.alive.capacity()
    }

    fn free_bytes(&self) -> u64 {
        self.free * self.block_size()
    }

    fn free_runs(&self) -> u64 {
        self.runs
    }

    fn allocate(&mut self, request: &Request, out: &mut Vec<Extent>) -> AllocResult<()> {
        let block = self.block_size();
        let (wanted, unit) = check_request(request, block)?;
        if wanted > self.free {
            return Err(AllocError::NoSpace { wanted: request.len, available: self.free_bytes() });
        }
        self.alive.start_counting();
        let hint = request.hint.and_then(|hint| self.zone_at(hint / block / self.zone_blocks).ok());
        let mut undo = Undo { open: self.open.clone(), zones: Vec::new(), taken: Vec::new() };
        let (mut remaining, mut looked) = (wanted, 0);
        while remaining > 0 {
            let is_last = undo.taken.len() + 1 >= request.extents_max;
            looked += 2 * self.open.len() as u64 + 4;
            let zone = self.choose(remaining, unit, hint, is_last);
            let piece = zone.map(|zone| (zone, self.fits(zone, unit)));
            let joins = |start: u64| undo.taken.last().is_some_and(|last| last.0 + last.1 == start);
            let allowed =
                piece.filter(|(_, (start, _))| joins(*start) || undo.taken.len() < request.extents_max);
            let Some((zone, (start, room))) = allowed else {
                self.undo(undo);
                let Request { len: wanted, unit, extents_max, .. } = *request;
                return Err(AllocError::Fragmented { wanted, unit, extents_max, free: self.free_bytes() });
            };
            let len = room.min(remaining);
            self.take(zone, start, len, &mut undo);
            remaining -= len;
        }
        out.extend(undo.taken.iter().map(|(start, len)| self.extent(*start, *len)));
        let words = looked + self.alive.counted();
        self.work.allocations += 1;
        self.work.words += words;
        self.work.words_max = self.work.words_max.max(words);
        Ok(())
    }

    fn release(&mut self, extent: Extent) -> AllocResult<()> {
        let (start, len) = self.alive.to_blocks("release", extent)?;
        self.alive.release(extent)?;
        for (zone, _, part) in self.parts(start, len) {
            self.put(zone, Fill { alive: self.zones[zone].alive - part, ..self.zones[zone] });
        }
        Ok(())
    }

    fn mark_used(&mut self, extent: Extent) -> AllocResult<()> {
        let (start, len) = self.alive.to_blocks("mark used", extent)?;
        self.alive.mark_used(extent)?;
        for (zone, first, part) in self.parts(start, len) {
            let was = self.zones[zone];
            let write = was.write.max(first + part - zone as u64 * self.zone_blocks);
            let open = was.open && write < self.len(zone);
            self.put(zone, Fill { write, alive: was.alive + part, open });
        }
        Ok(())
    }

    fn mark_free(&mut self, extent: Extent) -> AllocResult<()> {
        let (start, len) = self.alive.to_blocks("mark free", extent)?;
        self.release(extent)?;
        for (zone, ..) in self.parts(start, len) {
            if self.zones[zone].alive == 0 {
                self.put(zone, Fill::default());
            }
        }
        Ok(())
    }

    fn next_free(&self, from: u64) -> Option<Extent> {
        let from = from.div_ceil(self.block_size());
        let mut zone = self.roomy.next((from / self.zone_blocks) as usize)?;
        let start = from.max(zone as u64 * self.zone_blocks + self.zones[zone].write);
        let mut end = zone as u64 * self.zone_blocks + self.len(zone);
        if start >= end {
            return None;
        }
        while zone + 1 < self.zones.len() && self.zones[zone + 1].write == 0 {
            zone += 1;
            end += self.len(zone);
        }
        Some(self.extent(start, end - start))
    }

    fn next_used(&self, from: u64) -> Option<Extent> {
        self.alive.next_used(from)
    }

    fn pages(&self) -> u64 {
        self.alive.pages()
    }

    fn page(&self, index: u64) -> AllocResult<Page> {
        self.alive.page(index)
    }

    fn load_page(&mut self, index: u64, page: &[u8; PAGE_BYTES]) -> AllocResult<()> {
        self.alive.load_page(index, page)?;
        let start = index * PAGE_BLOCKS;
        for (zone, ..) in self.parts(start, PAGE_BLOCKS.min(self.blocks - start)) {
            let ((alive, end), was) = (self.alive_in(zone), self.zones[zone]);
            let write = was.write.max(end);
            self.put(zone, Fill { write, alive, open: was.open && write < self.len(zone) });
        }
        Ok(())
    }

    fn dirty_pages(&self) -> u64 {
        self.alive.dirty_pages()
    }

    fn take_dirty_pages(&mut self) -> Vec<(u64, Page)> {
        self.alive.take_dirty_pages()
    }

    fn mark_dirty(&mut self, index: u64) -> AllocResult<()> {
        self.alive.mark_dirty(index)
    }

    fn work(&self) -> Work {
        self.work
    }

    fn memory_bytes(&self) -> usize {
        // Nodes of the trees are at least half full.
        let lists = 2 * (self.closed.len() + self.dead.len()) * size_of::<(u64, Reverse<usize>)>();
        self.alive.memory_bytes()
            + self.zones.capacity() * size_of::<Fill>()
            + self.open.capacity() * size_of::<usize>()
            + self.empty.memory()
            + self.roomy.memory()
            + lists
    }
}

impl Zones for ZonedAllocator {
    fn zones(&self) -> u64 {
        self.zones.len() as u64
    }

    fn zone(&self, index: u64) -> AllocResult<Zone> {
        let at = self.zone_at(index)?;
        let (fill, block) = (self.zones[at], self.block_size());
        let state = match fill {
            Fill { open: true, .. } => ZoneState::Open,
            Fill { write: 0, .. } => ZoneState::Empty,
            Fill { write, .. } if write == self.len(at) => ZoneState::Full,
            _ => ZoneState::Closed,
        };
        let extent = self.extent(index * self.zone_blocks, self.len(at));
        Ok(Zone { extent, state, write: fill.write * block, alive: fill.alive * block })
    }

    fn open_max(&self) -> usize {
        self.open_max
    }

    fn reset(&mut self, index: u64) -> AllocResult<()> {
        let at = self.zone_at(index)?;
        let alive = self.zones[at].alive * self.block_size();
        if alive > 0 {
            return Err(AllocError::ZoneAlive { index, alive });
        }
        self.put(at, Fill::default());
        Ok(())
    }

    fn set_write_pointer(&mut self, index: u64, write: u64) -> AllocResult<()> {
        let at = self.zone_at(index)?;
        let (block, (alive, end)) = (self.block_size(), self.alive_in(at));
        let blocks = write / block;
        if !write.is_multiple_of(block) || blocks < end || blocks > self.len(at) {
            let (least, most) = (end * block, self.len(at) * block);
            return Err(AllocError::WritePointer { index, write, least, most });
        }
        self.put(at, Fill { write: blocks, alive, open: false });
        Ok(())
    }

    fn victim(&self) -> Option<u64> {
        self.dead.last().map(|(_, Reverse(zone))| *zone as u64)
    }
}
