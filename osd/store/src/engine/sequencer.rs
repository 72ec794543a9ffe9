//! The order of transactions: one at a time on a collection, in the order of submission; several collections at once.
//!
//! A transaction takes its place in the line of each of its collections when it is submitted, so no two can wait
//! for each other. Lives on one core.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use rt::sync::{OneReceiver, OneSender, oneshot};

use smallvec::SmallVec;

use crate::types::CollectionId;

/// Distinct collections; mostly one.
pub type Lines = SmallVec<[CollectionId; 1]>;

/// Shared by clones.
#[derive(Clone, Default)]
pub struct Sequencer(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    next: u64,
    lines: BTreeMap<CollectionId, VecDeque<u64>>,
    waiting: BTreeMap<u64, (Lines, OneSender<()>)>,
}

/// A place in the lines. Leaves them when dropped.
pub struct Turn {
    sequencer: Sequencer,
    number: u64,
    collections: Lines,
    /// None if it is its turn from the beginning.
    granted: Option<OneReceiver<()>>,
}

impl Sequencer {
    /// Takes a place at the end of the lines of these collections.
    pub fn enter(&self, collections: impl Iterator<Item = CollectionId>) -> Turn {
        let mut lines = Lines::new();
        for collection in collections {
            if !lines.contains(&collection) {
                lines.push(collection);
            }
        }
        let mut state = self.0.borrow_mut();
        let number = state.next;
        state.next += 1;
        let mut is_first = true;
        for collection in &lines {
            let line = state.lines.entry(*collection).or_default();
            is_first &= line.is_empty();
            line.push_back(number);
        }
        let granted = (!is_first).then(|| {
            let (sender, receiver) = oneshot();
            state.waiting.insert(number, (lines.clone(), sender));
            receiver
        });
        drop(state);
        Turn { sequencer: self.clone(), number, collections: lines, granted }
    }

    /// Whether nobody is in the line of a collection.
    pub fn is_free(&self, collection: CollectionId) -> bool {
        !self.0.borrow().lines.contains_key(&collection)
    }
}

impl State {
    fn grant(&mut self, number: u64) {
        let first = |collection| self.lines.get(collection).and_then(VecDeque::front) == Some(&number);
        let ready = self.waiting.get(&number).is_some_and(|(collections, _)| collections.iter().all(first));
        if ready && let Some((_, sender)) = self.waiting.remove(&number) {
            // Nobody waits if the turn was dropped in line; then it leaves the lines itself.
            let _left = sender.send(());
        }
    }
}

impl Turn {
    /// Waits until all before it in each line have left.
    pub async fn come(&mut self) {
        if let Some(granted) = self.granted.take() {
            let came = granted.await;
            assert!(came.is_ok(), "the sequencer outlives those in line");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.sequencer.0.borrow_mut();
        state.waiting.remove(&self.number);
        let mut next: SmallVec<[u64; 1]> = SmallVec::new();
        for collection in &self.collections {
            let Some(line) = state.lines.get_mut(collection) else { continue };
            line.retain(|number| *number != self.number);
            match line.front() {
                Some(first) => next.push(*first),
                None => {
                    state.lines.remove(collection);
                }
            }
        }
        for number in next {
            state.grant(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::time::Duration;

    use rt::Group;
    use rt::sim::{Config, Sim};

    use super::*;

    #[test]
    fn order_holds_per_collection_and_not_across() {
        for seed in 0..20 {
            let sim = Sim::new(seed, Config::default());
            let (sequencer, log) = (Sequencer::default(), Rc::new(RefCell::new(Vec::new())));
            let id = |seed| CollectionId { pool: 1, seed };
            let sets = [vec![1], vec![2], vec![1, 2], vec![1], vec![3], vec![2, 3]];
            let core = sim.core(0);
            for (number, set) in sets.iter().enumerate() {
                let mut turn = sequencer.enter(set.iter().map(|seed| id(*seed)));
                let (log, sleeper) = (Rc::clone(&log), core.clone());
                core.spawn(Group::Client, "turn", async move {
                    turn.come().await;
                    let wait = sleeper.random_u64() % 1000;
                    sleeper.sleep(Duration::from_micros(wait)).await;
                    log.borrow_mut().push(number);
                });
            }
            sim.run_until_idle();
            let log = log.borrow();
            for line in 1..4 {
                let seen: Vec<_> = log.iter().filter(|number| sets[**number].contains(&line)).collect();
                assert!(seen.is_sorted(), "seed {seed} line {line}: {log:?}");
            }
            assert_eq!(log.len(), sets.len());
        }
    }
}
