//! What the cluster may show a client: for every object the states that are possible, given which requests were
//! acknowledged, which are pending, and which have an outcome that nobody knows. Pure.
//!
//! Changes of one object take effect in the order of submission. A read whose connection broke is sent again, and then may
//! also show changes submitted after it. A request whose client was killed may or may not
//! have taken effect, but never after one submitted later to the same object by the same client.

use std::collections::{BTreeMap, BTreeSet};

pub use crate::judge::{Answer, Asked};
use crate::judge::{BLOCK, Leniency, describe_difference, judge};
use crate::operation::{Change, Content, State, apply};

/// States that an object may be in before the oracle calls the search off as too wide.
const POSSIBLE_MAX: usize = 64;

/// Identity of a request within the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(u64);

/// Why an answer is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("object {object}: {what}")]
pub struct Violation {
    /// Name of the object.
    pub object: String,
    /// What was expected and what came.
    pub what: String,
}

#[derive(Clone, Debug)]
struct Pending {
    id: RequestId,
    asked: Asked,
    answer: Option<Answer>,
    /// Version of the object that came with the answer, 0 if none did.
    version: u64,
    /// A listing showed what it did.
    listed: bool,
}

#[derive(Clone, Debug)]
struct Object {
    /// States possible if none of `pending` took effect; at least one.
    possible: Vec<State>,
    /// Submitted and not settled, in order.
    pending: Vec<Pending>,
    /// Version told with the last change that was settled; kept when the object goes.
    version: u64,
    /// Newest version that any answer told.
    shown: u64,
    leniency: Leniency,
}

/// The model of the objects of one client.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    /// A change may be refused for want of space.
    full: bool,
    objects: BTreeMap<String, Object>,
    next: u64,
    listing: Option<Listing>,
}

/// A listing that runs.
#[derive(Clone, Debug)]
struct Listing {
    /// Objects that may come or go meanwhile.
    unsteady: BTreeSet<String>,
    /// Objects with a change that was answered meanwhile: what is listed may be what was before it.
    settled: BTreeSet<String>,
}

impl Oracle {
    /// Of a client whose changes may be refused for want of space, or may not.
    pub fn new(full: bool) -> Self {
        Self { full, ..Self::default() }
    }

    fn entry(&mut self, object: &str) -> &mut Object {
        let full = self.full;
        self.objects.entry(object.to_owned()).or_insert_with(|| Object {
            possible: vec![None],
            pending: Vec::new(),
            version: 0,
            shown: 0,
            leniency: Leniency { full, ..Leniency::default() },
        })
    }

    /// A request was sent.
    pub fn submitted(&mut self, object: &str, asked: Asked) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        let entry = self.entry(object);
        entry.pending.push(Pending { id, asked, answer: None, version: 0, listed: false });
        let steady = entry.is_steady();
        if let Some(listing) = self.listing.as_mut().filter(|_| !steady) {
            listing.unsteady.insert(object.to_owned());
        }
        id
    }

    /// This version of the object comes with the answer that [`Self::answered`] is told of next.
    pub fn told_version(&mut self, object: &str, id: RequestId, version: u64) {
        let entry = self.entry(object);
        entry.shown = entry.shown.max(version);
        if let Some(pending) = entry.pending.iter_mut().find(|pending| pending.id == id) {
            pending.version = version;
        }
    }

    /// The newest version of an object that an answer told. What clients were shown is durable: no store may have an
    /// older one.
    pub fn shown(&self, object: &str) -> u64 {
        self.objects.get(object).map_or(0, |entry| entry.shown)
    }

    /// A request was answered. It is judged once all earlier ones on its object were answered, as tasks may learn of
    /// answers in another order than they came.
    pub fn answered(&mut self, object: &str, id: RequestId, answer: Answer) -> Result<(), Violation> {
        let Some(entry) = self.objects.get_mut(object) else { return Ok(()) };
        if let Some(pending) = entry.pending.iter_mut().find(|pending| pending.id == id) {
            assert!(pending.answer.is_none(), "a request has one answer");
            pending.answer = Some(answer);
        }
        while entry.pending.first().is_some_and(|first| first.answer.is_some()) {
            let Pending { id, asked, answer, version, .. } = entry.pending.remove(0);
            let Some(answer) = answer else { continue };
            if let (Some(listing), Asked::Change(_)) = (&mut self.listing, &asked) {
                listing.settled.insert(object.to_owned());
            }
            if entry.shows_a_later_state(&asked, &answer) {
                continue;
            }
            let settled =
                entry.settle(&asked, &answer).and_then(|()| entry.see_version(&asked, &answer, version));
            settled.map_err(|what| Violation { object: object.to_owned(), what })?;
            entry.heal(id, &asked, &answer);
        }
        Ok(())
    }

    /// Whether a read may show changes that nobody acknowledged yet.
    pub fn is_ahead(&self, object: &str, id: RequestId) -> bool {
        let pending = self.objects.get(object).into_iter().flat_map(|entry| &entry.pending);
        let mut before = pending.take_while(|pending| pending.id != id);
        before.any(|pending| pending.is_change() && pending.answer.is_none())
    }

    /// A block of an object cannot be read from now on, until it is written whole.
    pub fn damaged(&mut self, object: &str, offset: usize) {
        assert!(offset.is_multiple_of(BLOCK), "blocks go bad");
        let next = self.next;
        self.entry(object).leniency.damaged.insert(offset, next);
    }

    /// Blocks of an object that may be unreadable.
    pub fn damage(&self, object: &str) -> Vec<usize> {
        self.objects
            .get(object)
            .map_or_else(Vec::new, |entry| entry.leniency.damaged.keys().copied().collect())
    }

    /// The client died: what it had pending took effect up to some point of its order, or not at all.
    pub fn client_died(&mut self) {
        self.listing = None;
        for object in self.objects.values_mut() {
            object.possible = object.outcomes();
            object.pending.clear();
            assert!(
                object.possible.len() <= POSSIBLE_MAX,
                "a client has too many requests in flight on one object"
            );
        }
    }

    /// Judges what a store holds of an object while nothing runs on it. `unreadable` are blocks that it cannot read,
    /// whose bytes are zeroes in `stored`.
    pub fn check_stored(&self, object: &str, stored: &State, unreadable: &[usize]) -> Result<(), Violation> {
        let violation = |what| Err(Violation { object: object.to_owned(), what });
        let damage = self.damage(object);
        if let Some(block) = unreadable.iter().find(|block| !damage.contains(block)) {
            return violation(format!("its block at {block} cannot be read, and nobody damaged it"));
        }
        let mut possible = self.objects.get(object).map_or_else(|| vec![None], Object::outcomes);
        possible.iter_mut().for_each(|state| blank(state, unreadable));
        if possible.contains(stored) {
            return Ok(());
        }
        let what = possible.last().map_or_else(String::new, |last| describe_difference(last, stored));
        violation(format!("none of {} possible states is on the disk: {what}", possible.len()))
    }

    /// A listing begins: what comes or goes from now on may be in it or not.
    pub fn listing_begins(&mut self) {
        let unsteady = self.objects.iter().filter(|(_, entry)| !entry.is_steady());
        let unsteady = unsteady.map(|(name, _)| name.clone()).collect();
        self.listing = Some(Listing { unsteady, settled: BTreeSet::new() });
    }

    /// The listing ended: judges it. `listed` has no names of other clients. Gives the objects of which it shows a change
    /// that nobody acknowledged: that is as good as acknowledged now.
    pub fn listing_ended(&mut self, listed: &[String]) -> Result<Vec<String>, Violation> {
        let Some(Listing { unsteady, settled }) = self.listing.take() else { return Ok(Vec::new()) };
        let violation =
            |object: &str, what: &str| Err(Violation { object: object.to_owned(), what: what.to_owned() });
        let distinct: BTreeSet<&str> = listed.iter().map(String::as_str).collect();
        if distinct.len() != listed.len() {
            let twice = listed.iter().find(|name| listed.iter().filter(|other| other == name).count() > 1);
            return violation(twice.map_or("", String::as_str), "a listing gives it twice");
        }
        if let Some(name) = distinct.iter().find(|name| !self.objects.contains_key(**name)) {
            return violation(name, "nobody made it, but a listing has it");
        }
        let mut ahead = Vec::new();
        for (name, entry) in self.objects.iter_mut().filter(|(name, _)| !settled.contains(*name)) {
            let is_listed = distinct.contains(name.as_str());
            if entry.possible.iter().any(|state| state.is_some() == is_listed) {
                continue;
            }
            match entry.first_that_leads_to(is_listed).filter(|_| unsteady.contains(name)) {
                Some(index) => {
                    entry.pending[index].listed = true;
                    ahead.push(name.clone());
                }
                None if is_listed => return violation(name, "it is not there, but a listing has it"),
                None => return violation(name, "it is there all the time, but a listing lacks it"),
            }
        }
        Ok(ahead)
    }

    /// The state all requests sent so far lead to, if there is only one; the workload steers by it.
    pub fn likely(&self, object: &str) -> State {
        let entry = self.objects.get(object)?;
        let mut state = entry.possible.first()?.clone();
        for pending in &entry.pending {
            if let Asked::Change(request) = &pending.asked {
                state = apply(&state, request).0;
            }
        }
        state
    }
}

impl Pending {
    fn is_change(&self) -> bool {
        matches!(self.asked, Asked::Change(_))
    }

    /// The states after it, from those before it.
    fn step(&self, frontier: &mut Vec<State>, leniency: &Leniency) {
        let Asked::Change(request) = &self.asked else { return };
        let mut after: Vec<State> = match &self.answer {
            Some(answer) => {
                let judged = frontier.iter().map(|state| judge(state, &self.asked, answer, leniency));
                judged.filter_map(Result::ok).collect()
            }
            None => frontier.iter().map(|state| apply(state, request).0).collect(),
        };
        if self.answer.is_none() && leniency.refuses(request, None) {
            after.append(frontier);
        }
        dedup(&mut after);
        *frontier = after;
    }
}

impl Object {
    /// Whether it is there, and stays so whatever becomes of what is pending; or is not there, and nothing may make it.
    fn is_steady(&self) -> bool {
        let stays = |pending: &Pending| match &pending.asked {
            Asked::Change(request) => !request.contains(&Change::Remove),
            _ => true,
        };
        if self.possible.iter().all(Option::is_some) {
            return self.pending.iter().all(stays);
        }
        self.possible.iter().all(Option::is_none) && !self.pending.iter().any(Pending::is_change)
    }

    /// The first pending change after which it may be there, or not.
    fn first_that_leads_to(&self, is_there: bool) -> Option<usize> {
        let mut frontier = self.possible.clone();
        self.pending.iter().position(|pending| {
            pending.step(&mut frontier, &self.leniency);
            frontier.iter().any(|state| state.is_some() == is_there)
        })
    }

    /// The states that it may be in when what is pending took effect up to some point, which is not before the last
    /// request that was answered: what an answer shows is durable, whether it acknowledges that or only tells of it.
    fn outcomes(&self) -> Vec<State> {
        let is_shown = |pending: &Pending| pending.answer.is_some() || pending.listed;
        let settled = self.pending.iter().rposition(is_shown).map_or(0, |last| last + 1);
        let mut frontier = self.possible.clone();
        let mut possible = if settled == 0 { frontier.clone() } else { Vec::new() };
        for (index, pending) in self.pending.iter().enumerate() {
            pending.step(&mut frontier, &self.leniency);
            if index + 1 >= settled {
                possible.extend(frontier.iter().cloned());
                dedup(&mut possible);
            }
        }
        possible
    }

    /// Whether a read shows what changes submitted after it lead to. Nothing can be ruled out then.
    fn shows_a_later_state(&self, asked: &Asked, answer: &Answer) -> bool {
        if matches!(asked, Asked::Change(_)) {
            return false;
        }
        let mut frontier = self.possible.clone();
        self.pending.iter().any(|pending| {
            pending.step(&mut frontier, &self.leniency);
            let fits = |state| judge(state, asked, answer, &self.leniency).is_ok();
            pending.is_change() && frontier.iter().any(fits)
        })
    }

    /// Rules out the states that the answer does not fit.
    fn settle(&mut self, asked: &Asked, answer: &Answer) -> Result<(), String> {
        let before = std::mem::take(&mut self.possible);
        let mut reasons = Vec::new();
        for state in before {
            match judge(&state, asked, answer, &self.leniency) {
                Ok(after) => self.possible.push(after),
                Err(reason) => reasons.push(reason),
            }
        }
        dedup(&mut self.possible);
        if !self.possible.is_empty() {
            return Ok(());
        }
        let count = reasons.len();
        let first = reasons.into_iter().next().unwrap_or_default();
        Err(if count == 1 { first } else { format!("{first} (and {count} possible states fit no better)") })
    }

    /// Versions ascend with the changes of an object, whatever crashes and removals lie between them.
    fn see_version(&mut self, asked: &Asked, answer: &Answer, version: u64) -> Result<(), String> {
        let Asked::Change(request) = asked else { return Ok(()) };
        if version == 0 || *answer != Answer::Errno(0) || !request.iter().any(Change::always_changes) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.version, version);
        if version > before {
            return Ok(());
        }
        Err(format!("{request:?} was given version {version}, and a change before it {before}"))
    }

    /// What was damaged before a change that replaced or removed everything is well again.
    fn heal(&mut self, id: RequestId, asked: &Asked, answer: &Answer) {
        let Asked::Change(request) = asked else { return };
        let replaces = |change: &Change| matches!(change, Change::Remove | Change::WriteFull { .. });
        if *answer == Answer::Errno(0) && request.iter().any(replaces) {
            self.leniency.damaged.retain(|_, from| *from > id.0);
        }
    }
}

/// Zeroes these blocks.
fn blank(state: &mut State, blocks: &[usize]) {
    let Some(Content { data, .. }) = state else { return };
    for block in blocks {
        let end = (block + BLOCK).min(data.len());
        if let Some(bytes) = data.get_mut(*block..end) {
            bytes.fill(0);
        }
    }
}

fn dedup(states: &mut Vec<State>) {
    let mut kept: Vec<State> = Vec::with_capacity(states.len());
    for state in states.drain(..) {
        if !kept.contains(&state) {
            kept.push(state);
        }
    }
    *states = kept;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::judge::{EIO, ENOSPC};

    #[test]
    fn a_refusal_changes_nothing_and_is_not_for_removals() {
        let mut oracle = Oracle::new(true);
        let id = oracle.submitted("o", append("a"));
        oracle.answered("o", id, Answer::Errno(ENOSPC)).expect("may be");
        let id = oracle.submitted("o", append("b"));
        assert!(
            oracle.check_stored("o", &None, &[]).is_ok()
                && oracle.check_stored("o", &holds("b"), &[]).is_ok()
        );
        oracle.answered("o", id, Answer::Errno(0)).expect("fits");
        assert!(
            oracle.check_stored("o", &None, &[]).is_err()
                && oracle.check_stored("o", &holds("b"), &[]).is_ok()
        );
        let id = oracle.submitted("o", Asked::Change(vec![Change::Remove]));
        assert!(oracle.answered("o", id, Answer::Errno(ENOSPC)).is_err());
        let mut strict = Oracle::new(false);
        let id = strict.submitted("o", append("a"));
        assert!(strict.answered("o", id, Answer::Errno(ENOSPC)).is_err());
    }

    #[test]
    fn versions_ascend_also_over_a_removal() {
        let mut oracle = Oracle::default();
        let mut tell = |asked: Asked, version| {
            let id = oracle.submitted("o", asked);
            oracle.told_version("o", id, version);
            oracle.answered("o", id, Answer::Errno(0))
        };
        tell(append("a"), 7).expect("the first");
        tell(Asked::Change(vec![Change::Remove]), 9).expect("later");
        assert!(tell(append("b"), 9).is_err());
    }

    #[test]
    fn what_was_answered_out_of_turn_is_on_the_disk_with_all_before_it() {
        let mut oracle = Oracle::default();
        oracle.submitted("o", append("a"));
        let second = oracle.submitted("o", append("b"));
        oracle.submitted("o", append("c"));
        oracle.answered("o", second, Answer::Errno(0)).expect("waits");
        for (stored, fits) in [(None, false), (holds("a"), false), (holds("ab"), true), (holds("abc"), true)]
        {
            assert_eq!(oracle.check_stored("o", &stored, &[]).is_ok(), fits, "{stored:?}");
        }
    }

    fn append(text: &'static str) -> Asked {
        Asked::Change(vec![Change::Append { data: Bytes::from_static(text.as_bytes()) }])
    }

    fn holds(text: &str) -> State {
        Some(Content { data: text.as_bytes().to_vec(), ..Content::default() })
    }

    fn observe(oracle: &mut Oracle, seen: State) -> Result<(), Violation> {
        let id = oracle.submitted("o", Asked::Whole);
        oracle.answered("o", id, Answer::Whole(seen))
    }

    #[test]
    fn an_acknowledged_write_may_not_be_missing() {
        let mut oracle = Oracle::default();
        let id = oracle.submitted("o", append("a"));
        oracle.answered("o", id, Answer::Errno(0)).expect("fits");
        oracle.client_died();
        assert!(observe(&mut oracle.clone(), None).is_err());
        assert!(observe(&mut oracle, holds("a")).is_ok());
    }

    #[test]
    fn unknown_outcomes_are_a_prefix() {
        let mut oracle = Oracle::default();
        oracle.submitted("o", append("a"));
        oracle.submitted("o", append("b"));
        oracle.client_died();
        for (seen, fits) in [(None, true), (holds("a"), true), (holds("ab"), true), (holds("b"), false)] {
            assert_eq!(observe(&mut oracle.clone(), seen.clone()).is_ok(), fits, "{seen:?}");
        }
        observe(&mut oracle, holds("a")).expect("fits");
        assert!(observe(&mut oracle, holds("ab")).is_err(), "a state once seen stays");
    }

    #[test]
    fn a_wrong_errno_is_a_violation() {
        let mut oracle = Oracle::default();
        let id = oracle.submitted("o", Asked::Change(vec![Change::Remove]));
        assert!(oracle.answered("o", id, Answer::Errno(0)).is_err());
    }

    #[test]
    fn answers_out_of_order_are_judged_in_order() {
        let mut oracle = Oracle::default();
        let first = oracle.submitted("o", append("a"));
        let read = oracle.submitted("o", Asked::Range { offset: 0, len: 10 });
        let second = oracle.submitted("o", append("b"));
        oracle.answered("o", second, Answer::Errno(0)).expect("waits");
        oracle.answered("o", read, Answer::Range(Some(b"a".to_vec()))).expect("waits");
        oracle.answered("o", first, Answer::Errno(0)).expect("all fit");
        assert_eq!(oracle.likely("o"), holds("ab"));
    }

    #[test]
    fn only_the_damaged_block_may_fail() {
        let mut oracle = Oracle::default();
        let data = Bytes::from(vec![1; 3 * BLOCK]);
        let write = |oracle: &mut Oracle| {
            let id = oracle.submitted("o", Asked::Change(vec![Change::WriteFull { data: data.clone() }]));
            oracle.answered("o", id, Answer::Errno(0)).expect("fits");
        };
        write(&mut oracle);
        oracle.damaged("o", BLOCK);
        let range = |oracle: &mut Oracle, offset, len| {
            let id = oracle.submitted("o", Asked::Range { offset, len });
            oracle.answered("o", id, Answer::Errno(EIO))
        };
        assert!(range(&mut oracle.clone(), 0, BLOCK).is_err());
        assert!(range(&mut oracle, 0, BLOCK + 1).is_ok());
        assert!(range(&mut oracle.clone(), 2 * BLOCK, BLOCK).is_err());
        let mut stored = holds("");
        stored.as_mut().expect("exists").data = [vec![1; BLOCK], vec![0; BLOCK], vec![1; BLOCK]].concat();
        assert!(oracle.check_stored("o", &stored, &[BLOCK]).is_ok());
        assert!(oracle.check_stored("o", &stored, &[]).is_err());
        assert!(oracle.check_stored("o", &stored, &[BLOCK, 0]).is_err());
        write(&mut oracle);
        assert!(range(&mut oracle, BLOCK, 1).is_err(), "what is written whole is well again");
    }

    #[test]
    fn listings_are_judged_by_what_is_steady() {
        let mut oracle = Oracle::default();
        for name in ["a", "b"] {
            let id = oracle.submitted(name, append("x"));
            oracle.answered(name, id, Answer::Errno(0)).expect("fits");
        }
        let list = |oracle: &mut Oracle, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            oracle.listing_ended(&names)
        };
        for (names, fits) in
            [(&["a", "b"][..], true), (&["b"], false), (&["a", "b", "b"], false), (&["a", "b", "c"], false)]
        {
            oracle.listing_begins();
            assert_eq!(list(&mut oracle, names).is_ok(), fits, "{names:?}");
        }
        oracle.listing_begins();
        oracle.submitted("b", Asked::Change(vec![Change::Remove]));
        oracle.submitted("c", append("x"));
        assert!(list(&mut oracle.clone(), &["a", "c"]).is_ok() && list(&mut oracle, &["a", "b"]).is_ok());
        oracle.listing_begins();
        oracle.submitted("a", append("y"));
        assert!(list(&mut oracle, &["b"]).is_err(), "it changes, but does not go");
    }

    #[test]
    fn what_was_read_or_listed_is_on_the_disk() {
        let mut oracle = Oracle::default();
        let id = oracle.submitted("o", append("a"));
        oracle.answered("o", id, Answer::Errno(0)).expect("fits");
        oracle.submitted("o", Asked::Change(vec![Change::Remove]));
        let shows = |oracle: &Oracle| oracle.check_stored("o", &holds("a"), &[]).is_err();
        let mut reads = oracle.clone();
        let id = reads.submitted("o", Asked::Size);
        assert!(reads.is_ahead("o", id) && !shows(&reads));
        reads.answered("o", id, Answer::Size(None)).expect("waits");
        assert!(shows(&reads));
        oracle.listing_begins();
        assert_eq!(oracle.clone().listing_ended(&["o".to_owned()]), Ok(vec![]));
        assert_eq!(oracle.listing_ended(&[]), Ok(vec!["o".to_owned()]));
        assert!(shows(&oracle));
    }
}
