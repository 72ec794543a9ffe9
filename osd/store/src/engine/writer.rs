//! The journal's writer as a plain machine: which group to write next, when to flush, what is durable. No I/O.
//!
//! Rules kept here: a record joins a group in the order in which it took effect; a group is durable when a flush that
//! was submitted after all its writes and data, and those of all earlier groups, completed; acknowledgements follow
//! group order; `durable_through` in a group is what was durable when it was built.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use nvme::DmaBuf;
use rt::Nanos;
use rt::sync::{OneSender, Pass};
use uuid::Uuid;

use crate::fault::{Fault, Planted};
use crate::journal::format::{self, HEADER_BYTES, Header, RECORD_FRAME_BYTES};
use crate::journal::ring;
use crate::object_store::StoreResult;

/// Blocks of the journal that only bare groups and records about loans may use.
pub const RESERVE_BLOCKS: u64 = 4;
/// Of these, blocks that only a checkpoint may use, so that it can always finish.
pub const CHECKPOINT_BLOCKS: u64 = 2;

const _: () = assert!(CHECKPOINT_BLOCKS < RESERVE_BLOCKS);

/// Where the journal stands, from mount.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    /// Store.
    pub store: Uuid,
    /// Bytes of the ring.
    pub size: u64,
    /// Unit of padding.
    pub block: u64,
    /// Mount epoch.
    pub epoch: u64,
    /// Position of the oldest group that is needed.
    pub tail: u64,
    /// Position of the next group.
    pub head: u64,
    /// Number of the next group.
    pub group: u64,
    /// Checksum of the one before.
    pub previous: u32,
    /// Number of the next record.
    pub record: u64,
    /// Largest group that takes a further record.
    pub group_bytes_max: u64,
    /// Groups that may be on their way.
    pub in_flight_max: usize,
    /// See [`Fault`].
    pub fault: Fault,
}

/// Who wants to know when a record is durable.
pub struct Waiter {
    /// Told then.
    pub tell: OneSender<StoreResult<()>>,
    /// When the stage before ended.
    pub at: Nanos,
    /// The store does not close before.
    pub pass: Option<Pass>,
}

/// A record waiting for its group.
pub struct Queued {
    /// Its number.
    pub record: u64,
    /// Encoded.
    pub bytes: Bytes,
    /// Bytes reserved for it.
    pub reserved: u64,
    /// Its data is written.
    pub data_done: Rc<Cell<bool>>,
    /// Who wants to know.
    pub waiter: Option<Waiter>,
}

/// A group on its way.
struct OnItsWay {
    group: u64,
    end: GroupEnd,
    durable_through: u64,
    written: bool,
    /// Of the buffers that are being written.
    bytes: u64,
    data: Vec<Rc<Cell<bool>>>,
    waiters: Vec<Waiter>,
}

/// Where a group ends: what a checkpoint at that group stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEnd {
    /// Its number.
    pub group: u64,
    /// The last record in it or before it.
    pub record: u64,
    /// Position after it.
    pub position: u64,
    /// Its checksum.
    pub checksum: u32,
}

/// What to do next.
pub enum Action {
    /// Write a group.
    Write {
        /// Its number.
        group: u64,
        /// Records in it.
        records: u32,
        /// Its bytes, as (place in the region, bytes).
        pieces: Vec<(u64, DmaBuf)>,
    },
    /// Flush, then tell [`Writer::flushed`] this group.
    Flush(u64),
    /// Nothing now.
    Idle,
}

/// See the module.
pub struct Writer {
    begin: Begin,
    head: u64,
    tail: u64,
    next_group: u64,
    next_record: u64,
    /// The last record that joined a group.
    grouped_record: u64,
    previous: u32,
    reserved: u64,
    queue: VecDeque<Queued>,
    on_their_way: VecDeque<OnItsWay>,
    /// Ends of durable groups above the checkpoint, and the checkpoint's own.
    ends: VecDeque<GroupEnd>,
    durable: GroupEnd,
    /// Records up to this one may be undone by nothing, not even by the verification of replay.
    overwritable: u64,
    /// Last record of the newest checkpoint of this mount.
    checkpointed: u64,
    flushing: bool,
    /// A group is wanted even if there is no record, as long as it leaves so many blocks.
    bare_wanted: Option<u64>,
    /// No group may hold records on both sides of this one.
    cut: u64,
    sealed: bool,
}

impl Writer {
    /// Starts after a mount: everything found is durable, and the superblock says so.
    pub fn new(begin: Begin) -> Self {
        let durable = GroupEnd {
            group: begin.group - 1,
            record: begin.record - 1,
            position: begin.head,
            checksum: begin.previous,
        };
        Self {
            begin,
            head: begin.head,
            tail: begin.tail,
            next_group: begin.group,
            next_record: begin.record,
            grouped_record: begin.record - 1,
            previous: begin.previous,
            reserved: 0,
            queue: VecDeque::new(),
            on_their_way: VecDeque::new(),
            ends: VecDeque::from([durable]),
            durable,
            overwritable: durable.record,
            checkpointed: 0,
            flushing: false,
            bare_wanted: None,
            cut: 0,
            sealed: true,
        }
    }

    /// Bytes that a record of up to `record_bytes` may take with a group of its own.
    pub fn need(&self, record_bytes: usize) -> u64 {
        let bytes = HEADER_BYTES + RECORD_FRAME_BYTES + record_bytes;
        u64::try_from(bytes).unwrap_or(u64::MAX / 2).next_multiple_of(self.begin.block)
    }

    /// The most that [`Self::reserve`] can ever give to ordinary records.
    pub fn capacity(&self) -> u64 {
        self.begin.size - RESERVE_BLOCKS * self.begin.block
    }

    /// Reserves `need` bytes, leaving `keep_blocks` free.
    pub fn reserve(&mut self, need: u64, keep_blocks: u64) -> bool {
        let fits = self.used() + self.reserved + need + keep_blocks * self.begin.block <= self.begin.size;
        if fits {
            self.reserved += need;
        }
        fits
    }

    /// Gives a reservation back.
    pub fn unreserve(&mut self, need: u64) {
        self.reserved -= need;
    }

    /// Bytes between the checkpoint and the head.
    pub fn used(&self) -> u64 {
        self.head - self.tail
    }

    /// Bytes of the ring.
    pub fn size(&self) -> u64 {
        self.begin.size
    }

    /// Takes the number for a record that takes effect now.
    pub fn number(&mut self) -> u64 {
        self.next_record += 1;
        self.next_record - 1
    }

    /// The last record that took effect.
    pub fn last_record(&self) -> u64 {
        self.next_record - 1
    }

    /// Queues a record, in the order of numbers.
    pub fn push(&mut self, queued: Queued) {
        assert!(
            self.need(queued.bytes.len()) <= queued.reserved,
            "record {} of {} bytes exceeds the {} reserved",
            queued.record,
            queued.bytes.len(),
            queued.reserved
        );
        self.sealed = false;
        self.queue.push_back(queued);
    }

    /// Records and groups, and bytes of memory of those that are not written.
    pub fn held(&self) -> (u64, u64) {
        let queued = self.queue.iter().map(|queued| queued.bytes.len() + size_of::<Queued>()).sum::<usize>();
        let written = self.on_their_way.iter().filter(|group| !group.written).map(|group| group.bytes);
        let items = self.queue.len() + self.on_their_way.len();
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        (wide(items), wide(queued) + written.sum::<u64>())
    }

    /// Asks for a group even if there is no record, so that `durable_through` moves on. It leaves `keep_blocks` of the
    /// ring: only a checkpoint asks for the last ones, since it alone makes room again.
    pub fn want_bare(&mut self, keep_blocks: u64) {
        if self.overwritable < self.last_record() || !self.sealed {
            let keep = self.bare_wanted.map_or(keep_blocks, |wanted| wanted.min(keep_blocks));
            self.bare_wanted = Some(keep);
        }
    }

    /// Whether a bare group would leave `keep_blocks`.
    pub fn has_room_for_bare(&self, keep_blocks: u64) -> bool {
        self.used() + self.reserved + (1 + keep_blocks) * self.begin.block <= self.begin.size
    }

    /// Nothing is queued or on its way, and the tail is not sealed.
    pub fn wants_seal(&self) -> bool {
        self.is_idle() && !self.sealed
    }

    /// Nothing is queued or on its way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.on_their_way.is_empty() && !self.flushing
    }

    /// Records up to this one are durable.
    pub fn durable_record(&self) -> u64 {
        self.durable.record
    }

    /// What records up to this one freed may be reused, and what they deferred may be written in place.
    pub fn overwritable(&self) -> u64 {
        self.overwritable
    }

    /// Makes the next group border fall right after `record`, the last one so far.
    pub fn cut_after(&mut self, record: u64) {
        self.cut = record;
    }

    /// The end of the last durable group that holds no record after `record`.
    pub fn end_at(&self, record: u64) -> Option<GroupEnd> {
        self.ends.iter().rev().find(|end| end.record <= record).copied()
    }

    /// A checkpoint at `end` is durable: the journal before it is not needed any more.
    pub fn trim(&mut self, end: GroupEnd) {
        assert!(end.position >= self.tail && end.position <= self.durable.position, "trim to {end:?}");
        self.tail = end.position;
        self.overwritable = self.overwritable.max(end.record);
        self.checkpointed = self.checkpointed.max(end.record);
        while self.ends.len() > 1 && self.ends.front().is_some_and(|first| first.group < end.group) {
            self.ends.pop_front();
        }
    }

    /// No replay looks at this record and those before it any more; 0 until this mount made a checkpoint.
    pub fn checkpointed(&self) -> u64 {
        self.checkpointed
    }

    /// Chooses what to do next; the caller does it. Groups are built only if `builds`.
    pub fn select(&mut self, builds: bool) -> Action {
        if let Some(through) = self.flushable() {
            self.flushing = true;
            return Action::Flush(through);
        }
        if builds && self.wants_group() { self.build() } else { Action::Idle }
    }

    /// Whether a group could be built and go now.
    pub fn wants_group(&self) -> bool {
        if self.on_their_way.len() >= self.begin.in_flight_max {
            return false;
        }
        // A bare group tells of what is durable, so it waits for that.
        let bare = || self.bare_wanted.is_some_and(|keep| self.has_room_for_bare(keep)) && self.is_idle();
        !self.queue.is_empty() || bare()
    }

    /// Whether more records are queued than the next group can take.
    pub fn fills_group(&self) -> bool {
        self.joining(self.grouped_record + 1).0 < self.queue.len()
    }

    /// The journal writes of a group completed.
    pub fn written(&mut self, group: u64) -> Vec<Waiter> {
        let early = self.begin.fault.is(Planted::AckBeforeDurable);
        let found = self.on_their_way.iter_mut().find(|one| one.group == group);
        let Some(one) = found else { panic!("group {group} is not on its way") };
        one.written = true;
        if early { std::mem::take(&mut one.waiters) } else { Vec::new() }
    }

    /// A flush completed that covers groups up to `through`; gives who waited for them, in order.
    pub fn flushed(&mut self, through: u64) -> Vec<Waiter> {
        self.flushing = false;
        let mut waiters = Vec::new();
        while let Some(one) = self.on_their_way.pop_front_if(|one| one.group <= through) {
            self.durable = one.end;
            // The group is durable, and so is what it says: replay will not verify anything up to there.
            let told = self.ends.iter().rev().find(|end| end.group <= one.durable_through);
            let told = told.map_or(0, |end| end.record);
            let early = self.begin.fault.is(Planted::ReusedWithoutLaterProof);
            self.overwritable = self.overwritable.max(if early { one.end.record } else { told });
            self.ends.push_back(one.end);
            waiters.extend(one.waiters);
        }
        waiters
    }

    /// Gives everybody who waits, because the store is down.
    pub fn fail(&mut self) -> Vec<Waiter> {
        let queued = self.queue.drain(..).filter_map(|queued| queued.waiter);
        let mut waiters: Vec<_> =
            self.on_their_way.iter_mut().flat_map(|one| one.waiters.drain(..)).collect();
        waiters.extend(queued);
        waiters
    }

    /// The last of the groups, from the oldest on, that are written with their data.
    fn flushable(&self) -> Option<u64> {
        if self.flushing {
            return None;
        }
        let whole = |one: &&OnItsWay| one.written && one.data.iter().all(|done| done.get());
        self.on_their_way.iter().take_while(whole).last().map(|one| one.group)
    }

    /// How many of the queued records join the next group, and the bytes that they take in it.
    fn joining(&self, first_record: u64) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        for next in &self.queue {
            let more = bytes + RECORD_FRAME_BYTES + next.bytes.len();
            let full = u64::try_from(HEADER_BYTES + more).unwrap_or(u64::MAX) > self.begin.group_bytes_max;
            let cut = next.record > self.cut && first_record <= self.cut;
            if count > 0 && (full || cut) {
                break;
            }
            (count, bytes) = (count + 1, more);
        }
        (count, bytes)
    }

    fn build(&mut self) -> Action {
        let first_record = self.grouped_record + 1;
        let (joining, body_bytes) = self.joining(first_record);
        let block = usize::try_from(self.begin.block).unwrap_or(usize::MAX);
        let used = HEADER_BYTES + body_bytes;
        let mut group = DmaBuf::recycled(used.next_multiple_of(block));
        let (content, padding) = group.split_at_mut(used);
        padding.fill(0);
        let (mut count, mut reserved) = (0, 0);
        let (mut data, mut waiters) = (Vec::with_capacity(joining), Vec::with_capacity(joining));
        let mut room = &mut content[HEADER_BYTES..];
        for queued in self.queue.drain(..joining) {
            assert_eq!(queued.record, self.grouped_record + 1, "records join in order");
            self.grouped_record = queued.record;
            room = format::put_record(room, &queued.bytes);
            count += 1;
            reserved += queued.reserved;
            data.push(queued.data_done);
            waiters.extend(queued.waiter);
        }
        let Ok(body_len) = u32::try_from(body_bytes) else { panic!("a group of {body_bytes} bytes") };
        let seal = count == 0 && self.durable.group + 1 == self.next_group;
        let header = Header {
            seal,
            epoch: self.begin.epoch,
            group: self.next_group,
            durable_through: self.durable.group,
            position: self.head,
            first_record,
            records: count,
            body: body_len,
            previous: self.previous,
            store: format::store_tag(self.begin.store),
        };
        let checksum = header.seal(content);
        let len = crate::check::length(&group);
        assert!(count == 0 || len <= reserved, "a group of {len} bytes, {reserved} reserved");
        self.reserved -= reserved;
        assert!(self.used() + len <= self.begin.size, "the journal overruns its tail");
        let pieces = split(group, self.head, self.begin.size);
        self.head += len;
        let end =
            GroupEnd { group: self.next_group, record: self.grouped_record, position: self.head, checksum };
        self.on_their_way.push_back(OnItsWay {
            group: self.next_group,
            end,
            durable_through: self.durable.group,
            written: false,
            bytes: len,
            data,
            waiters,
        });
        self.next_group += 1;
        self.previous = checksum;
        self.bare_wanted = None;
        self.sealed = seal;
        Action::Write { group: end.group, records: count, pieces }
    }
}

/// Cuts a group where the ring ends.
fn split(group: DmaBuf, position: u64, size: u64) -> Vec<(u64, DmaBuf)> {
    match ring::pieces(position, crate::check::length(&group), size) {
        [Some((place, _)), None] => vec![(place, group)],
        pieces => {
            let mut at = 0;
            let cut = |(place, len): (u64, u64)| {
                let end = at + usize::try_from(len).unwrap_or(usize::MAX);
                let piece = DmaBuf::from_slice_padded(&group[at..end], 1);
                at = end;
                (place, piece)
            };
            pieces.into_iter().flatten().map(cut).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use rt::sync::oneshot;

    use super::*;

    fn writer(in_flight_max: usize) -> Writer {
        Writer::new(Begin {
            store: Uuid::from_u128(1),
            size: 16 * 512,
            block: 512,
            epoch: 1,
            tail: 0,
            head: 0,
            group: 1,
            previous: 0,
            record: 1,
            group_bytes_max: 4096,
            in_flight_max,
            fault: Fault::default(),
        })
    }

    fn push(writer: &mut Writer, data_done: bool) -> Rc<Cell<bool>> {
        let reserved = writer.need(100);
        assert!(writer.reserve(reserved, RESERVE_BLOCKS));
        let done = Rc::new(Cell::new(data_done));
        let record = writer.number();
        let (sender, receiver) = oneshot();
        std::mem::forget(receiver);
        let waiter = Waiter { tell: sender, at: Nanos::default(), pass: None };
        let bytes = Bytes::from(vec![0; 100]);
        writer.push(Queued { record, bytes, reserved, data_done: Rc::clone(&done), waiter: Some(waiter) });
        done
    }

    fn write(writer: &mut Writer) -> u64 {
        match writer.select(true) {
            Action::Write { group, .. } => group,
            Action::Flush(through) => panic!("flush of {through}"),
            Action::Idle => panic!("idle"),
        }
    }

    #[test]
    fn a_flush_waits_for_the_writes_and_data_of_its_group_and_all_before() {
        let mut w = writer(3);
        let data = push(&mut w, false);
        let first = write(&mut w);
        push(&mut w, true);
        let second = write(&mut w);
        w.written(second);
        assert!(matches!(w.select(true), Action::Idle), "the first group is not written");
        w.written(first);
        assert!(matches!(w.select(true), Action::Idle), "the first group's data is not written");
        data.set(true);
        assert!(matches!(w.select(true), Action::Flush(2)));
        assert_eq!(w.durable_record(), 0, "nothing is durable before the flush completed");
        push(&mut w, true);
        let third = write(&mut w);
        w.written(third);
        assert!(
            matches!(w.select(true), Action::Idle),
            "one flush at a time: it may not cover the third group"
        );
        assert_eq!(w.flushed(2).len(), 2);
        assert_eq!((w.durable_record(), w.overwritable()), (2, 0), "no durable group tells of these yet");
        assert!(matches!(w.select(true), Action::Flush(3)));
        w.flushed(3);
        assert_eq!(w.overwritable(), 0, "the third group was built before the flush");
        w.want_bare(0);
        let fourth = write(&mut w);
        w.written(fourth);
        assert!(matches!(w.select(true), Action::Flush(4)));
        assert_eq!(w.overwritable(), 0, "the bare group is not durable yet");
        w.flushed(4);
        assert_eq!(w.overwritable(), 3);
        assert!(!w.wants_seal(), "a bare group after everything durable is the seal");
    }

    #[test]
    fn records_gather_while_groups_are_on_their_way() {
        let mut w = writer(1);
        push(&mut w, true);
        let first = write(&mut w);
        for _ in 0..3 {
            push(&mut w, true);
        }
        assert!(matches!(w.select(true), Action::Idle));
        w.written(first);
        assert!(matches!(w.select(true), Action::Flush(1)));
        w.flushed(1);
        let second = write(&mut w);
        w.written(second);
        assert!(matches!(w.select(true), Action::Flush(2)));
        assert_eq!(w.flushed(2).len(), 3, "one flush for three records");
    }

    #[test]
    fn a_checkpoint_cuts_the_groups() {
        let mut w = writer(1);
        push(&mut w, true);
        push(&mut w, true);
        w.cut_after(w.last_record());
        push(&mut w, true);
        let group = write(&mut w);
        w.written(group);
        assert!(matches!(w.select(true), Action::Flush(_)));
        w.flushed(group);
        assert_eq!(w.durable_record(), 2);
        let end = w.end_at(2).expect("a group ends there");
        assert_eq!(end.record, 2);
        let used = w.used();
        w.trim(end);
        assert!(w.used() < used);
        assert_eq!(w.overwritable(), 2, "what the checkpoint holds is never verified again");
    }

    #[test]
    fn the_reserve_is_kept_for_bare_groups() {
        let mut w = writer(1);
        let mut admitted = 0;
        while w.reserve(512, RESERVE_BLOCKS) {
            admitted += 1;
        }
        assert_eq!(admitted, 12);
        assert!(w.reserve(512, 1), "lending may take from the reserve");
        w.unreserve(512);
    }
}
