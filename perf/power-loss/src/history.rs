//! What every object held after each request of the load, as digests, and what it may hold at a moment. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use sim::operation::State;
use sim::oracle::Asked;
use twox_hash::XxHash3_128;

use crate::script::Script;

/// Digest of an object's state; [`ABSENT`] if there is none.
pub type Digest = u128;

/// No object.
pub const ABSENT: Digest = 0;

/// Changes before the first that must be there which a sentence about an object tells of.
const CHANGES_SHOWN: usize = 3;

/// One object's life.
struct Life {
    name: String,
    /// Numbers of the requests that changed it, or tried to.
    changes: Vec<u64>,
    /// What it held before any of them, and after each.
    digests: Vec<Digest>,
}

/// All lives.
pub struct History {
    seed: u64,
    lives: Vec<Life>,
    index: BTreeMap<String, usize>,
    /// For each request: its object, and how many changes of that one it and those before it are.
    requests: Vec<(usize, usize)>,
}

/// What must be there at a moment.
#[derive(Clone)]
pub struct Floor {
    /// For each object, how many of its changes were told to somebody.
    known: Arc<Vec<usize>>,
    /// Requests that may have taken effect: those below this number.
    submitted: u64,
}

impl History {
    /// Of the first `requests` requests of a seed.
    pub fn new(seed: u64, requests: u64) -> Self {
        let mut history = Self { seed, lives: Vec::new(), index: BTreeMap::new(), requests: Vec::new() };
        let count = usize::try_from(requests).unwrap_or(usize::MAX);
        for request in Script::new(seed).take(count) {
            let lives = &mut history.lives;
            let at = *history.index.entry(request.object.clone()).or_insert_with(|| {
                lives.push(Life { name: request.object, changes: Vec::new(), digests: vec![ABSENT] });
                lives.len() - 1
            });
            let life = &mut history.lives[at];
            if matches!(request.asked, Asked::Change(_)) {
                life.changes.push(request.number);
                life.digests.push(digest(&request.after));
            }
            history.requests.push((at, life.changes.len()));
        }
        history
    }

    /// Nothing was told to anybody.
    pub fn floor(&self) -> Floor {
        Floor { known: Arc::new(vec![0; self.lives.len()]), submitted: 0 }
    }

    /// Everything wrong with these objects, a sentence each.
    pub fn judge(&self, floor: &Floor, found: &BTreeMap<Vec<u8>, Digest>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (life, &known) in self.lives.iter().zip(floor.known.iter()) {
            let digest = found.get(life.name.as_bytes()).copied().unwrap_or(ABSENT);
            let newest = life.changes.partition_point(|&change| change < floor.submitted);
            if !life.digests[known..=newest].contains(&digest) {
                wrong.push(self.describe(life, known, newest, digest));
            }
        }
        for name in found.keys() {
            if std::str::from_utf8(name).is_err() || !self.index.contains_key(&*String::from_utf8_lossy(name))
            {
                wrong.push(format!("object '{}' was never written", name.escape_ascii()));
            }
        }
        wrong
    }

    fn describe(&self, life: &Life, known: usize, newest: usize, digest: Digest) -> String {
        let told = match known.checked_sub(1) {
            Some(last) => format!("request {} and those before it were answered", life.changes[last]),
            None => "nothing was answered".to_owned(),
        };
        let holds = match life.digests.iter().rposition(|old| *old == digest) {
            Some(0) => "is missing".to_owned(),
            Some(at) if digest == ABSENT => format!("is missing, as after request {}", life.changes[at - 1]),
            Some(at) => format!("is as after request {}", life.changes[at - 1]),
            None => "is as no request left it".to_owned(),
        };
        let last = life.changes.get(known.saturating_sub(CHANGES_SHOWN)..newest).unwrap_or_default();
        format!("object '{}' {holds}; {told}; of its changes: {}", life.name, self.tell(last))
    }

    /// What requests asked, in words. Walks the script again, as its requests are too large to keep.
    fn tell(&self, numbers: &[u64]) -> String {
        let requests = Script::new(self.seed).filter(|request| numbers.contains(&request.number));
        let told =
            requests.take(numbers.len()).map(|request| format!("{} {:?}", request.number, request.asked));
        told.collect::<Vec<_>>().join(", ")
    }
}

impl Floor {
    /// These requests were answered. An answer tells of all changes of its object that were sent before, too.
    pub fn answered(&mut self, history: &History, requests: &[u64]) {
        let known = Arc::make_mut(&mut self.known);
        for request in requests {
            let Some(&(object, changes)) =
                usize::try_from(*request).ok().and_then(|request| history.requests.get(request))
            else {
                continue;
            };
            known[object] = known[object].max(changes);
        }
    }

    /// Requests below this number may have taken effect.
    pub fn with_submitted(&self, submitted: u64) -> Self {
        Self { known: self.known.clone(), submitted }
    }
}

/// Of everything that a client can observe.
pub fn digest(state: &State) -> Digest {
    let Some(content) = state else { return ABSENT };
    let mut hash = XxHash3_128::new();
    let mut put = |bytes: &[u8]| {
        hash.write(&(bytes.len() as u64).to_le_bytes());
        hash.write(bytes);
    };
    put(&content.data);
    put(&content.header);
    for map in [&content.xattrs, &content.omap] {
        put(&(map.len() as u64).to_le_bytes());
        for (key, value) in map {
            put(key);
            put(value);
        }
    }
    hash.finish_128().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the objects hold after so many requests.
    fn after(seed: u64, requests: usize) -> BTreeMap<Vec<u8>, Digest> {
        let mut found = BTreeMap::new();
        for request in Script::new(seed).take(requests) {
            found.insert(request.object.into_bytes(), digest(&request.after));
        }
        found.retain(|_, digest| *digest != ABSENT);
        found
    }

    #[test]
    fn what_was_answered_must_be_there_and_what_was_sent_may_be() {
        let history = History::new(5, 400);
        let mut floor = history.floor();
        floor.answered(&history, &(0..200).collect::<Vec<_>>());
        let floor = floor.with_submitted(300);
        for requests in [200, 250, 300] {
            assert_eq!(history.judge(&floor, &after(5, requests)), Vec::<String>::new(), "{requests}");
        }
        assert!(!history.judge(&floor, &after(5, 150)).is_empty(), "answered changes are missing");
        assert!(!history.judge(&floor, &after(5, 390)).is_empty(), "changes are there that nobody sent");
        assert!(!history.judge(&floor, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn foreign_objects_and_foreign_content_are_found() {
        let history = History::new(5, 100);
        let mut found = after(5, 100);
        let floor = history.floor().with_submitted(100);
        assert_eq!(history.judge(&floor, &found), Vec::<String>::new());
        found.insert(b"stranger".to_vec(), 7);
        let name = found.keys().next().cloned().expect("one object");
        found.insert(name, 8);
        assert_eq!(history.judge(&floor, &found).len(), 2);
    }
}
