//! What the cluster may show a client: for every object the states that are possible, given which requests were
//! acknowledged, which are pending, and which have an outcome that nobody knows. Pure.
//!
//! Changes of one object take effect in the order of submission. A read whose connection broke is sent again, and then may
//! also show changes submitted after it. A request whose client was killed may or may not
//! have taken effect, but never after one submitted later to the same object by the same client.

use std::collections::BTreeMap;

use crate::operation::{Change, Content, Outcome, State, apply};

/// States that an object may be in before the oracle calls the search off as too wide.
const POSSIBLE_MAX: usize = 64;

/// Identity of a request within the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(u64);

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A change, all or nothing.
    Change(Vec<Change>),
    /// The bytes of a range.
    Range {
        /// First byte.
        offset: usize,
        /// Bytes, fewer at the end.
        len: usize,
    },
    /// Everything.
    Whole,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a change: 0 or an errno.
    Errno(i32),
    /// To a range: the bytes, or none if the object is missing.
    Range(Option<Vec<u8>>),
    /// To the whole.
    Whole(State),
}

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
}

#[derive(Clone, Debug)]
struct Object {
    /// States possible if none of `pending` took effect; at least one.
    possible: Vec<State>,
    /// Submitted and not settled, in order.
    pending: Vec<Pending>,
}

impl Default for Object {
    fn default() -> Self {
        Self { possible: vec![None], pending: Vec::new() }
    }
}

/// The model of the objects of one client.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    objects: BTreeMap<String, Object>,
    next: u64,
}

impl Oracle {
    /// A request was sent.
    pub fn submitted(&mut self, object: &str, asked: Asked) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        let entry = self.objects.entry(object.to_owned()).or_default();
        entry.pending.push(Pending { id, asked, answer: None });
        id
    }

    /// A request was answered. It is judged once all earlier ones on its object were answered, as tasks may learn of
    /// answers in another order than they came.
    pub fn answered(&mut self, object: &str, id: RequestId, answer: Answer) -> Result<(), Violation> {
        let entry = self.objects.entry(object.to_owned()).or_default();
        if let Some(pending) = entry.pending.iter_mut().find(|pending| pending.id == id) {
            assert!(pending.answer.is_none(), "a request has one answer");
            pending.answer = Some(answer);
        }
        while entry.pending.first().is_some_and(|first| first.answer.is_some()) {
            let Pending { asked, answer, .. } = entry.pending.remove(0);
            let Some(answer) = answer else { continue };
            if entry.shows_a_later_state(&asked, &answer) {
                continue;
            }
            entry.settle(&asked, &answer).map_err(|what| Violation { object: object.to_owned(), what })?;
        }
        Ok(())
    }

    /// The client died: what it had pending took effect up to some point of its order, or not at all.
    pub fn client_died(&mut self) {
        for object in self.objects.values_mut() {
            let mut possible = object.possible.clone();
            let mut frontier = object.possible.clone();
            for pending in object.pending.drain(..) {
                let Asked::Change(request) = pending.asked else { continue };
                for state in &mut frontier {
                    *state = apply(state, &request).0;
                }
                possible.extend(frontier.iter().cloned());
            }
            dedup(&mut possible);
            assert!(possible.len() <= POSSIBLE_MAX, "a client has too many requests in flight on one object");
            object.possible = possible;
        }
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

    /// Names of objects that exist in every possible state, and of those that exist in some.
    pub fn existing(&self) -> (Vec<String>, Vec<String>) {
        let mut surely = Vec::new();
        let mut perhaps = Vec::new();
        for (name, entry) in &self.objects {
            if entry.possible.iter().all(Option::is_some) && entry.pending.is_empty() {
                surely.push(name.clone());
            }
            if entry.possible.iter().any(Option::is_some) || !entry.pending.is_empty() {
                perhaps.push(name.clone());
            }
        }
        (surely, perhaps)
    }

    /// Every name ever used, ascending.
    pub fn names(&self) -> Vec<String> {
        self.objects.keys().cloned().collect()
    }
}

impl Object {
    /// Whether a read shows what changes submitted after it lead to. Nothing can be ruled out then.
    fn shows_a_later_state(&self, asked: &Asked, answer: &Answer) -> bool {
        if matches!(asked, Asked::Change(_)) {
            return false;
        }
        let mut frontier = self.possible.clone();
        self.pending.iter().any(|pending| {
            let Asked::Change(request) = &pending.asked else { return false };
            for state in &mut frontier {
                *state = apply(state, request).0;
            }
            frontier.iter().any(|state| judge(state, asked, answer).is_ok())
        })
    }

    /// Rules out the states that the answer does not fit.
    fn settle(&mut self, asked: &Asked, answer: &Answer) -> Result<(), String> {
        let before = std::mem::take(&mut self.possible);
        let mut reasons = Vec::new();
        for state in before {
            match judge(&state, asked, answer) {
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
}

/// The state after an answer, if it fits the state before.
fn judge(state: &State, asked: &Asked, answer: &Answer) -> Result<State, String> {
    match (asked, answer) {
        (Asked::Change(request), Answer::Errno(errno)) => {
            let (after, outcome) = apply(state, request);
            let expected = match outcome {
                Outcome::Done => 0,
                Outcome::Fails(code) => code,
            };
            if *errno == expected {
                return Ok(after);
            }
            Err(format!("{request:?} was answered with errno {errno}, but the model says {expected}"))
        }
        (Asked::Range { offset, len }, Answer::Range(seen)) => {
            let expected = state.as_ref().map(|content| {
                let size = content.data.len();
                &content.data[(*offset).min(size)..(offset + len).min(size)]
            });
            if expected == seen.as_deref() {
                return Ok(state.clone());
            }
            let say = |bytes: Option<&[u8]>| {
                bytes.map_or("nothing".to_owned(), |bytes| format!("{} bytes", bytes.len()))
            };
            let at =
                expected.zip(seen.as_deref()).and_then(|(a, b)| a.iter().zip(b).position(|(a, b)| a != b));
            Err(format!(
                "a read of {len} bytes at {offset} gave {}, but the model says {}{}",
                say(seen.as_deref()),
                say(expected),
                at.map_or(String::new(), |at| format!("; they differ from byte {}", offset + at))
            ))
        }
        (Asked::Whole, Answer::Whole(seen)) => {
            if state == seen {
                Ok(state.clone())
            } else {
                Err(describe_difference(state, seen))
            }
        }
        (asked, answer) => Err(format!("{asked:?} was answered with {answer:?}")),
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

fn describe_difference(expected: &State, seen: &State) -> String {
    match (expected, seen) {
        (None, Some(content)) => {
            format!("it exists with {} bytes, but the model says absent", content.data.len())
        }
        (Some(content), None) => format!("it is missing, but the model has {} bytes", content.data.len()),
        (Some(expected), Some(seen)) => describe_content(expected, seen),
        (None, None) => "absent in both".to_owned(),
    }
}

fn describe_content(expected: &Content, seen: &Content) -> String {
    if expected.data.len() != seen.data.len() {
        return format!("its size is {}, but the model says {}", seen.data.len(), expected.data.len());
    }
    let differs = |(a, b): (&u8, &u8)| a != b;
    if let Some(first) = expected.data.iter().zip(&seen.data).position(differs) {
        let last = expected.data.iter().zip(&seen.data).rposition(differs).unwrap_or(first);
        return format!("its bytes {first} to {last} of {} are not what was written", seen.data.len());
    }
    if expected.xattrs != seen.xattrs {
        return format!("its xattrs are {:?}, but the model says {:?}", seen.xattrs, expected.xattrs);
    }
    if expected.omap != seen.omap {
        let key = expected.omap.iter().chain(&seen.omap).map(|(key, _)| key);
        let key = key.into_iter().find(|key| expected.omap.get(*key) != seen.omap.get(*key));
        return format!(
            "its omap ({} keys, expected {}) differs at {key:?}",
            seen.omap.len(),
            expected.omap.len()
        );
    }
    format!("its omap header is {:?}, but the model says {:?}", seen.header, expected.header)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

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
}
