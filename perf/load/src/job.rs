//! [`Job`]: what is to be done, as fio would say it. The same for every target.

use crate::distribution::Distribution;
use crate::limits::{BLOCK_BYTES_MAX, DEPTH_MAX, POSITIONS_VERIFIED_MAX, RATE_MAX, STAMPED_BYTES_MIN};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Bytes of an operation.
    pub block_size: u64,
    /// Operations in flight: always so many in a closed loop, at most so many in an open one.
    pub depth: usize,
    /// Operations that arrive in a second, whatever becomes of earlier ones: an open loop. None for a closed one, where the end
    /// of one operation begins the next.
    pub rate: Option<f64>,
    /// How they are spaced.
    pub spacing: Spacing,
    /// Percent of operations that read; the others write.
    pub mix: u8,
    /// Which blocks.
    pub distribution: Distribution,
    /// How long is measured.
    pub length: Length,
    /// Seconds of the same load before anything is measured.
    pub warm_up: f64,
    /// Every block is written once before that, in order.
    pub fill: bool,
    /// Blocks overwritten at random before that, as a multiple of all blocks.
    pub age: f64,
    /// What is read is compared with what was written, and at the end everything that was written is read.
    pub verify: bool,
    /// Of everything that is drawn.
    pub seed: u64,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            block_size: 4096,
            depth: 32,
            rate: None,
            spacing: Spacing::Exponential,
            mix: 0,
            distribution: Distribution::Uniform,
            length: Length::Seconds(10.0),
            warm_up: 0.0,
            fill: false,
            age: 0.0,
            verify: false,
            seed: 1,
        }
    }
}

/// When the operations of an open loop arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// At equal distances.
    Fixed,
    /// At random, as if from many clients who know nothing of each other: a Poisson process.
    Exponential,
}

impl Spacing {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Exponential => "exponential",
        }
    }
}

/// When a measurement ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// After so long; what is in flight then is waited for.
    Seconds(f64),
    /// After so many operations.
    Operations(u64),
}

/// Why a job cannot be done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum JobError {
    #[error("a block of {got} bytes is none: give from 1 to {BLOCK_BYTES_MAX} bytes")]
    BlockSize { got: u64 },
    #[error("{got} operations in flight are none or too many: give from 1 to {DEPTH_MAX}")]
    Depth { got: usize },
    #[error("a rate of {got} per second is none: give more than 0 and at most {RATE_MAX}")]
    Rate { got: f64 },
    #[error("{got} percent of reads: give from 0 to 100")]
    Mix { got: u8 },
    #[error("{what} of {got}: give a number that is not negative")]
    Negative { what: &'static str, got: f64 },
    #[error("there is nothing to measure: give more than 0 seconds or operations")]
    Nothing,
    #[error(
        "there is no room for a block of {block_size} bytes in {bytes} bytes: give smaller blocks or more room"
    )]
    NoRoom { block_size: u64, bytes: u64 },
    #[error(
        "what verification writes into a block does not fit into {got} bytes: give blocks of a multiple of {STAMPED_BYTES_MIN}"
    )]
    VerifyBlockSize { got: u64 },
    #[error(
        "{positions} blocks are too many to keep account of, {POSITIONS_VERIFIED_MAX} are the most: give larger blocks or less room, \
         or do not verify"
    )]
    VerifyTooMany { positions: u64 },
    #[error(
        "{positions} blocks are too few to verify with {depth} operations in flight, as no two may be at one block: give at least \
         {} blocks", 2 * depth
    )]
    VerifyTooFew { positions: u64, depth: usize },
}

impl Job {
    /// Whether it can be done where there are so many blocks.
    pub fn check(&self, positions: u64) -> Result<(), JobError> {
        if !(1..=BLOCK_BYTES_MAX).contains(&self.block_size) {
            return Err(JobError::BlockSize { got: self.block_size });
        }
        if !(1..=DEPTH_MAX).contains(&self.depth) {
            return Err(JobError::Depth { got: self.depth });
        }
        if let Some(got) = self.rate.filter(|rate| !(*rate > 0.0 && *rate <= RATE_MAX)) {
            return Err(JobError::Rate { got });
        }
        if self.mix > 100 {
            return Err(JobError::Mix { got: self.mix });
        }
        for (what, got) in [("a warm-up", self.warm_up), ("an age", self.age)] {
            if !(got >= 0.0 && got.is_finite()) {
                return Err(JobError::Negative { what, got });
            }
        }
        let is_long = match self.length {
            Length::Seconds(seconds) => seconds > 0.0 && seconds.is_finite(),
            Length::Operations(operations) => operations > 0,
        };
        if !is_long {
            return Err(JobError::Nothing);
        }
        if positions == 0 {
            return Err(JobError::NoRoom { block_size: self.block_size, bytes: 0 });
        }
        if self.verify { self.check_verification(positions) } else { Ok(()) }
    }

    fn check_verification(&self, positions: u64) -> Result<(), JobError> {
        if !self.block_size.is_multiple_of(STAMPED_BYTES_MIN) {
            return Err(JobError::VerifyBlockSize { got: self.block_size });
        }
        if positions > POSITIONS_VERIFIED_MAX {
            return Err(JobError::VerifyTooMany { positions });
        }
        if positions < 2 * self.depth as u64 {
            return Err(JobError::VerifyTooFew { positions, depth: self.depth });
        }
        Ok(())
    }

    /// Blocks of this size in so many bytes; an error if there is none.
    pub fn positions_in(&self, bytes: u64) -> Result<u64, JobError> {
        match bytes.checked_div(self.block_size) {
            None => Err(JobError::BlockSize { got: self.block_size }),
            Some(0) => Err(JobError::NoRoom { block_size: self.block_size, bytes }),
            Some(positions) => Ok(positions),
        }
    }

    /// Whether nothing is ever written.
    pub fn only_reads(&self) -> bool {
        self.mix == 100 && !self.fill && self.age == 0.0
    }
}
