//! Lending: space comes ahead of need, and goes back when it is free.
//!
//! The lender is asked when room falls below the low-water mark or an allocation fails, and answers once with
//! [`Machine::add_space`] or [`Machine::deny_space`]. Room for one new log is never given to files, so the log can
//! always be compacted.

use allocator::Extent;
use allocator::limits::BLOCKS_MAX;

use crate::fs::desk::{Answer, SpaceWish};
use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::{GIVE_BACK_EXTENTS_MAX, GRANULES_LONG};
use crate::fs::machine::{Machine, Ticket};
use crate::fs::record::Record;

/// How it stands with the lender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lending {
    #[default]
    Quiet,
    /// To be asked for that many bytes.
    Wanted(u64),
    /// Asked; no answer yet.
    Asked,
    /// Refused when there was so much room; asked again when half of it is gone, or when an allocation fails.
    Denied(u64),
}

impl Machine {
    /// Bytes that files may still take.
    pub fn room(&self) -> u64 {
        (self.stock.fast_free() + self.stock.units_free()).saturating_sub(self.log_reserve())
            + self.stock.small_free()
    }

    /// The same of the fast space and of the main one: the log's own room is in the fast space as far as it has that.
    pub(super) fn file_room(&self) -> (u64, u64) {
        let (fast, units, reserve) = (self.stock.fast_free(), self.stock.units_free(), self.log_reserve());
        let units = units.saturating_sub(reserve.saturating_sub(fast));
        (fast.saturating_sub(reserve), units + self.stock.small_free())
    }

    /// Bytes that files may still take once what was let go of is free: an allocation that lacks space commits first.
    pub fn room_ahead(&self) -> u64 {
        let (mut large, mut small) =
            (self.stock.fast_free() + self.stock.units_free(), self.stock.small_free());
        for extent in self.frees.iter().map(|(_, extent)| extent).chain(self.moving.waiting()) {
            let of_small = self.stock.small_within(*extent);
            small += of_small;
            large += extent.len - of_small;
        }
        // A log is of whole units.
        large.saturating_sub(self.log_reserve()) + small
    }

    /// What to ask the lender for, if it is time to; the caller asks.
    pub fn take_space_request(&mut self) -> Option<SpaceWish> {
        let Lending::Wanted(bytes) = self.lending else { return None };
        self.lending = Lending::Asked;
        let small_bytes = self.superblock.small_bytes_max().saturating_sub(self.stock.small_lent());
        Some(SpaceWish { bytes, unit: self.unit(), small_bytes })
    }

    /// Whether the lender has a question to answer (or is about to get one).
    pub fn is_asking(&self) -> bool {
        matches!(self.lending, Lending::Wanted(_) | Lending::Asked)
    }

    /// Wants so much room from now on, in place of the low-water mark; asks the lender, again if it refused.
    pub fn keep_room(&mut self, bytes: u64) {
        self.options.low_water = bytes;
        let missing = bytes.saturating_sub(self.room_ahead());
        if missing > 0 && !self.is_asking() {
            self.lending = Lending::Wanted(self.options.lend.max(missing));
        }
    }

    /// Room beyond what is wanted.
    pub fn spare(&self) -> u64 {
        self.room_ahead().saturating_sub(self.options.low_water)
    }

    /// The lender had nothing when it was last asked.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// The main device has so many bytes from now on. True if the superblock does not say so yet: lent space may lie in
    /// what is new once the log that comes next is durable.
    pub fn grow_device(&mut self, size: u64) -> FsResult<bool> {
        self.check_alive()?;
        if size <= self.device_size {
            return Ok(self.superblock.device_size < self.device_size);
        }
        if size / self.unit() > BLOCKS_MAX || self.fast.is_some_and(|fast| fast.start < size) {
            return Err(FsError::Limit { what: "bytes of the device: too many for its allocation unit" });
        }
        self.device_size = size;
        self.stock.grow_main(size);
        Ok(true)
    }

    /// The fast space is so large from now on. True if the superblock does not say so yet: what is new of it is lent by
    /// [`Machine::lend_fast`], once the log that comes next is durable.
    pub fn grow_fast(&mut self, extent: Extent) -> FsResult<bool> {
        self.check_alive()?;
        let had = self.fast.filter(|had| had.start == extent.start && had.len <= extent.len);
        if had.is_none() || !self.superblock.may_be_fast(extent) {
            return Err(FsError::Space { extent, reason: "is not the fast space, or more than it" });
        }
        self.fast = Some(extent);
        self.stock.grow_fast(extent);
        Ok(self.superblock.fast != self.fast)
    }

    /// Lends what of the fast space is not lent yet; the superblock says how large that is. Wait for the ticket.
    pub fn lend_fast(&mut self) -> FsResult<Ticket> {
        self.check_alive()?;
        for extent in self.superblock.fast.map(|fast| self.tree.not_lent_within(fast)).unwrap_or_default() {
            self.take_up(extent)?;
        }
        self.watch_low_water();
        Ok(self.staged_ticket)
    }

    fn take_up(&mut self, extent: Extent) -> FsResult<()> {
        self.stage(Record::AddSpace { extent })?;
        let lent = self.stock.lend(extent);
        assert!(lent.is_ok(), "space that was not lent is not free: {lent:?}");
        Ok(())
    }

    /// Space lent from now on. Wait for the ticket to know that it is logged; a crash before that gives the space
    /// back to the lender.
    pub fn add_space(&mut self, extents: &[Extent]) -> FsResult<Ticket> {
        self.check_alive()?;
        for extent in extents {
            let end = extent.start.checked_add(extent.len);
            if extent.len == 0 || end.is_none_or(|end| end > self.superblock.device_size) {
                return Err(FsError::Space {
                    extent: *extent,
                    reason: "is empty or reaches beyond the device",
                });
            }
            let pieces = self.by_units(*extent);
            if !pieces.iter().all(|piece| self.superblock.may_be_lent(*piece)) {
                return Err(FsError::Space {
                    extent: *extent,
                    reason: "is not aligned to the allocation unit",
                });
            }
            for piece in pieces {
                self.take_up(piece)?;
            }
        }
        self.lending = Lending::Quiet;
        self.refused = false;
        self.watch_low_water();
        Ok(self.staged_ticket)
    }

    /// Cuts an extent into what has whole units and what lies before and behind that, which has none.
    fn by_units(&self, extent: Extent) -> Vec<Extent> {
        let unit = self.unit();
        let (first, last) = (extent.start.next_multiple_of(unit), extent.end() / unit * unit);
        let cuts = if first < last {
            vec![extent.start, first, last, extent.end()]
        } else {
            vec![extent.start, extent.end()]
        };
        let pieces = cuts.windows(2).map(|pair| Extent::new(pair[0], pair[1] - pair[0]));
        pieces.filter(|piece| piece.len > 0).collect()
    }

    /// What came over the desk. True for a grant.
    pub(crate) fn take_answer(&mut self, answer: Answer) -> FsResult<bool> {
        match answer {
            Answer::Grant(extents) => self.add_space(&extents).map(|_| true),
            Answer::Deny => {
                self.deny_space();
                Ok(false)
            }
        }
    }

    /// The lender has nothing to lend now.
    pub fn deny_space(&mut self) {
        self.lending = Lending::Denied(self.room());
        self.refused = true;
    }

    /// Takes up to `bytes` of free space of the main device out of use, of what lies within `among`, as long as there is room of
    /// `keep` and what is always wanted: first pieces smaller than a unit, then whole multiples of [`GRANULES_LONG`] times
    /// `granule`, then of `granule`; at most [`GIVE_BACK_EXTENTS_MAX`] of all. The extents belong to the lender once the ticket is
    /// durable.
    pub fn give_back(
        &mut self,
        bytes: u64,
        granule: u64,
        keep: u64,
        among: &[Extent],
    ) -> FsResult<(Vec<Extent>, Ticket)> {
        self.check_alive()?;
        if granule == 0 || !granule.is_multiple_of(self.unit()) {
            return Err(FsError::Limit {
                what: "granule of space given back: a multiple of the allocation unit",
            });
        }
        let mut left = bytes.min(self.room().saturating_sub(self.options.low_water.max(keep)));
        let mut given = Vec::new();
        for run in self.small_to_give(among) {
            let len = run.len.min(left / self.superblock.small_unit() * self.superblock.small_unit());
            if len > 0 {
                left -= self.take_back(Extent::new(run.start, len), &mut given)?;
            }
        }
        for granule in [granule * GRANULES_LONG, granule] {
            left -= self.give_granules(left, granule, among, &mut given)?;
        }
        Ok((given, self.staged_ticket))
    }

    /// Takes up to `bytes` out of use in whole multiples of `granule`; gives the bytes.
    fn give_granules(
        &mut self,
        bytes: u64,
        granule: u64,
        among: &[Extent],
        given: &mut Vec<Extent>,
    ) -> FsResult<u64> {
        let mut left = bytes;
        for within in among {
            let mut from = within.start;
            while left >= granule && given.len() < GIVE_BACK_EXTENTS_MAX {
                let Some(run) = self.stock.next_units_free(from).filter(|run| run.start < within.end())
                else {
                    break;
                };
                from = run.end();
                let start = run.start.max(within.start).next_multiple_of(granule);
                let granules =
                    (run.end().min(within.end()).saturating_sub(start) / granule).min(left / granule);
                if granules > 0 {
                    left -= self.take_back(Extent::new(start, granules * granule), given)?;
                }
            }
        }
        Ok(bytes - left)
    }

    /// Free pieces smaller than a unit, as many as are given back at once, that lie within `among`, which ascends.
    fn small_to_give(&self, among: &[Extent]) -> Vec<Extent> {
        let is_among = |run: &Extent| {
            let at = among.partition_point(|within| within.start <= run.start);
            at.checked_sub(1).is_some_and(|at| among[at].contains(run))
        };
        self.stock.small_runs().filter(is_among).take(GIVE_BACK_EXTENTS_MAX).collect()
    }

    /// Takes as much of free space out of use as may be given back at once; gives the bytes.
    fn take_back(&mut self, range: Extent, given: &mut Vec<Extent>) -> FsResult<u64> {
        let mut bytes = 0;
        let pieces = self.by_lent_extent(range);
        for extent in pieces.into_iter().take(GIVE_BACK_EXTENTS_MAX.saturating_sub(given.len())) {
            self.stage(Record::RemoveSpace { extent })?;
            let taken = self.stock.take_back(extent);
            assert!(taken.is_ok(), "free space can be taken: {taken:?}");
            bytes += extent.len;
            given.push(extent);
        }
        Ok(bytes)
    }

    /// Cuts a range at the borders of what was lent: a record is about one lent extent.
    pub(super) fn by_lent_extent(&self, range: Extent) -> Vec<Extent> {
        let mut pieces = Vec::new();
        let first =
            self.tree.spaces.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        for (start, len) in self.tree.spaces.range(first..range.end()) {
            let from = range.start.max(*start);
            let to = range.end().min(start + len);
            if from < to {
                pieces.push(Extent::new(from, to - from));
            }
        }
        pieces
    }

    /// The files of a directory, and the bytes allocated to each, growing ones included.
    pub fn allocated(&self, dir: &str) -> Vec<(String, u64)> {
        let names = self.tree.dirs.get(dir).into_iter().flatten();
        let held = |ino| {
            let logged = self.tree.files.get(ino).map_or(0, |inode| inode.allocated);
            self.open.get(ino).map_or(logged, |open| open.allocated.max(logged))
        };
        names.map(|(name, ino)| (name.clone(), held(ino))).collect()
    }

    /// Sets so much room aside for files that cannot wait.
    pub fn set_aside(&mut self, bytes: u64) {
        self.aside = bytes;
    }

    /// Refuses an allocation for a file that would take the log's room or what is set `aside` from it; asks the lender.
    pub(super) fn check_room(&mut self, wanted: u64, aside: u64) -> FsResult<()> {
        let available = self.room().saturating_sub(aside);
        if wanted <= available {
            return Ok(());
        }
        if !self.is_asking() {
            self.lending = Lending::Wanted(self.options.lend.max(wanted - available));
        }
        Err(FsError::NoSpace { wanted, available })
    }

    pub(super) fn watch_low_water(&mut self) {
        let below = match self.lending {
            Lending::Quiet => self.options.low_water,
            Lending::Denied(room) => self.options.low_water.min(room / 2),
            Lending::Wanted(_) | Lending::Asked => return,
        };
        if self.room() < below {
            self.lending = Lending::Wanted(self.options.lend);
        }
    }
}
