//! Verification against a target that forgets, misplaces, tears and damages.

use std::cell::RefCell;

use super::*;
use crate::Wrong;

/// What goes wrong, once, with a write of one block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Loses,
    /// Writes to the block after it.
    Misplaces,
    /// Only the first half comes.
    Tears,
    Damages,
    /// The read gives an error.
    FailsToRead,
}

/// The block, and the write of it, that the fault is about.
const VICTIM: u64 = 17;
const WRITE: u64 = 2;

struct Faulty {
    core: Core,
    fault: Fault,
    blocks: RefCell<Vec<Vec<u8>>>,
    writes_of_victim: Cell<u64>,
}

impl Faulty {
    fn new(core: &Core, fault: Fault) -> Self {
        let blocks = vec![vec![0; 4096]; 100];
        Self { core: core.clone(), fault, blocks: RefCell::new(blocks), writes_of_victim: Cell::new(0) }
    }

    async fn pause(&self) {
        self.core.sleep(Duration::from_nanos(self.core.random_u64() % 100_000)).await;
    }
}

impl Target for Faulty {
    fn positions(&self) -> u64 {
        100
    }

    fn place(&self, position: u64) -> String {
        format!("shelf {position}")
    }

    async fn read(&self, position: u64, _: bool) -> Result<Bytes, TargetError> {
        self.pause().await;
        if self.fault == Fault::FailsToRead && position == VICTIM {
            return Err(TargetError::new(self.place(position), "it is gone"));
        }
        Ok(Bytes::from(self.blocks.borrow()[position as usize].clone()))
    }

    async fn write(&self, position: u64, content: Content) -> Result<(), TargetError> {
        self.pause().await;
        let mut bytes = content.bytes().to_vec();
        let mut at = position as usize;
        if position == VICTIM {
            self.writes_of_victim.set(self.writes_of_victim.get() + 1);
            if self.writes_of_victim.get() == WRITE {
                let before = self.blocks.borrow()[at].clone();
                match self.fault {
                    Fault::Loses => bytes = before,
                    Fault::Misplaces => at += 1,
                    Fault::Tears => bytes[2048..].copy_from_slice(&before[2048..]),
                    Fault::Damages => bytes[3000] ^= 0x10,
                    Fault::None | Fault::FailsToRead => {}
                }
            }
        }
        self.blocks.borrow_mut()[at] = bytes;
        self.pause().await;
        Ok(())
    }

    async fn spent(&self) -> Result<Vec<Party>, TargetError> {
        Ok(Vec::new())
    }

    async fn device_bytes(&self) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }
}

/// Every block is written once, and then again in order: the second write of the victim goes wrong.
fn verified(fault: Fault, job: Job) -> Result<Measured, Failed> {
    let sim = Sim::new(3, Config::default());
    sim.run(0, move |core| async move { run(&core, &Faulty::new(&core, fault), &job, &()).await })
}

fn writes() -> Job {
    Job {
        verify: true,
        fill: true,
        distribution: Distribution::Sequential,
        length: Length::Operations(100),
        depth: 8,
        ..Job::default()
    }
}

#[test]
fn a_sound_target_passes_however_it_is_used() {
    for distribution in [Distribution::Uniform, Distribution::Sequential, Distribution::Zipf(1.5)] {
        for rate in [None, Some(20_000.0)] {
            for mix in [0, 50, 100] {
                let job =
                    Job { mix, distribution, rate, age: 1.0, length: Length::Operations(3000), ..writes() };
                let measured = verified(Fault::None, job).expect("nothing fails");
                let verified = measured.verified.expect("it was asked for");
                assert_eq!((verified.wrong, verified.findings), (0, vec![]));
                // All blocks at the end, and the reads before.
                assert_eq!(verified.checked, 100 + measured.reads.operations());
            }
        }
    }
}

#[test]
fn each_fault_is_found_and_the_place_named() {
    let found = |fault| {
        let measured = verified(fault, writes()).expect("nothing fails");
        let found = measured.verified.expect("it was asked for");
        assert_eq!(found.wrong as usize, found.findings.len(), "{found:?}");
        found.findings
    };
    let victim = |fault| {
        let findings = found(fault);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!((findings[0].position, findings[0].place.as_str()), (VICTIM, "shelf 17"));
        findings[0].wrong.clone()
    };
    assert_eq!(victim(Fault::Loses), Wrong::Lost { expected: 2, found: 1 });
    assert_eq!(victim(Fault::Tears), Wrong::Torn { expected: 2, foreign: 4, sectors: 8, at: 2048 });
    assert!(matches!(victim(Fault::Damages), Wrong::Damaged { expected: 2, .. }));
    // The block that it was for is old. Its neighbour may have been written again since.
    let misplaced = found(Fault::Misplaces);
    let victim = misplaced.iter().find(|finding| finding.position == VICTIM).expect("it is found");
    assert_eq!(victim.wrong, Wrong::Lost { expected: 2, found: 1 }, "{misplaced:?}");
}

#[test]
fn a_block_of_another_place_is_found_where_it_should_not_be() {
    // Nobody writes the neighbour again: only the victim is written twice.
    let job = Job { length: Length::Operations(VICTIM + 1), ..writes() };
    let found = verified(Fault::Misplaces, job).expect("nothing fails").verified.expect("it was asked for");
    let wrongs: Vec<_> = found.findings.iter().map(|finding| (finding.position, &finding.wrong)).collect();
    let misplaced = Wrong::Misplaced { position: VICTIM, generation: 2 };
    assert!(wrongs.contains(&(VICTIM + 1, &misplaced)), "{wrongs:?}");
}

#[test]
fn an_error_ends_the_run_and_is_told() {
    let failed = verified(Fault::FailsToRead, writes()).err().expect("it fails");
    assert_eq!(failed.to_string(), "the phase 'check' stopped: shelf 17: it is gone");
}
