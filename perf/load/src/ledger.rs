//! [`Ledger`]: what a run that verifies has written where, and who is at which block now.
//!
//! Invariant: a block has any number of readers or one writer, so what a read must find is one write and no other. Whoever finds
//! his block taken gets the next one that is not.

use std::collections::BTreeMap;

use crate::content::Wrong;
use crate::limits::FINDINGS_MAX;

/// Something wrong at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The block.
    pub position: u64,
    /// Where that is.
    pub place: String,
    /// What.
    pub wrong: Wrong,
}

/// See the module.
pub struct Ledger {
    /// Writes of each block by this run.
    generations: Vec<u32>,
    /// Readers of a block, or its writer.
    taken: BTreeMap<u64, Taken>,
    checked: u64,
    wrong: u64,
    findings: Vec<Finding>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    ByReaders(u32),
    ByWriter,
}

impl Ledger {
    /// Of so many blocks.
    pub fn new(positions: u64) -> Self {
        let positions = usize::try_from(positions).unwrap_or(usize::MAX);
        Self {
            generations: vec![0; positions],
            taken: BTreeMap::new(),
            checked: 0,
            wrong: 0,
            findings: Vec::new(),
        }
    }

    /// Takes a block to read: this one, or the next without a writer. Gives the write that must be found there, 0 if there was
    /// none.
    pub fn begin_read(&mut self, wanted: u64) -> (u64, u32) {
        let position = self.next(wanted, |taken| taken != Some(Taken::ByWriter));
        let readers = match self.taken.get(&position) {
            Some(Taken::ByReaders(readers)) => *readers,
            _ => 0,
        };
        self.taken.insert(position, Taken::ByReaders(readers + 1));
        (position, self.generation(position))
    }

    /// Takes a block to write: this one, or the next that nobody is at. Gives the number of that write.
    pub fn begin_write(&mut self, wanted: u64) -> (u64, u32) {
        let position = self.next(wanted, |taken| taken.is_none());
        self.taken.insert(position, Taken::ByWriter);
        (position, self.generation(position).saturating_add(1))
    }

    /// The write is done, or failed: who asks for the block afterwards expects it either way, as the run ends at a failure.
    pub fn end_write(&mut self, position: u64, generation: u32) {
        self.taken.remove(&position);
        if let Some(known) = self.generations.get_mut(position as usize) {
            *known = generation;
        }
    }

    /// The read is done. What it found out is kept if something is wrong.
    pub fn end_read(
        &mut self,
        position: u64,
        checked: Option<Result<(), Wrong>>,
        place: impl FnOnce() -> String,
    ) {
        match self.taken.get_mut(&position) {
            Some(Taken::ByReaders(readers)) if *readers > 1 => *readers -= 1,
            _ => drop(self.taken.remove(&position)),
        }
        let Some(checked) = checked else { return };
        self.checked += 1;
        let Err(wrong) = checked else { return };
        self.wrong += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { position, place: place(), wrong });
        }
    }

    /// The blocks that were written.
    pub fn written(&self) -> Vec<u64> {
        (0..).zip(&self.generations).filter(|(_, generation)| **generation > 0).map(|(at, _)| at).collect()
    }

    /// Reads compared, how many were wrong, and the first of these.
    pub fn found(&self) -> (u64, u64, &[Finding]) {
        (self.checked, self.wrong, &self.findings)
    }

    fn generation(&self, position: u64) -> u32 {
        self.generations.get(position as usize).copied().unwrap_or(0)
    }

    fn next(&self, wanted: u64, fits: impl Fn(Option<Taken>) -> bool) -> u64 {
        let positions = self.generations.len() as u64;
        // A job is refused that has not twice as many blocks as operations in flight.
        let free = (wanted..positions).chain(0..wanted).find(|at| fits(self.taken.get(at).copied()));
        free.unwrap_or(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_readers_or_one_writer() {
        let mut ledger = Ledger::new(4);
        assert_eq!(ledger.begin_write(2), (2, 1));
        assert_eq!(ledger.begin_read(2), (3, 0), "the next one");
        assert_eq!(ledger.begin_read(3), (3, 0), "beside the other reader");
        assert_eq!(ledger.begin_write(2), (0, 1), "from the first after the last");
        ledger.end_write(2, 1);
        assert_eq!(ledger.begin_read(2), (2, 1));
        ledger.end_read(3, None, String::new);
        assert_eq!(ledger.begin_write(3), (1, 1), "one reader is left");
        ledger.end_read(3, None, String::new);
        assert_eq!(ledger.begin_write(3), (3, 1));
        assert_eq!(ledger.written(), [2]);
    }

    #[test]
    fn many_findings_are_counted_and_the_first_ones_named() {
        let mut ledger = Ledger::new(100);
        for at in 0..100 {
            let (position, _) = ledger.begin_read(at);
            let wrong = Wrong::Lost { expected: 2, found: 1 };
            ledger.end_read(position, Some(Err(wrong)), || format!("byte {}", at * 4096));
        }
        let (checked, wrong, findings) = ledger.found();
        assert_eq!((checked, wrong, findings.len()), (100, 100, FINDINGS_MAX));
        assert_eq!((findings[1].position, findings[1].place.as_str()), (1, "byte 4096"));
    }
}
