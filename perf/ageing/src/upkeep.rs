//! [`Upkeep`]: what has to be done that space which was released can be taken again.

use allocator::Request;

use crate::held::Held;

const EXTENTS_MAX: usize = 1 << 16;

/// See the module.
pub trait Upkeep<A> {
    /// How what is in use is to be kept.
    fn hold(&self) -> Held;
    /// Bytes that are never in use.
    fn reserve(&self) -> u64;
    /// Sees to it that so many bytes can be taken.
    fn make_free(&mut self, space: &mut A, held: &mut Held, bytes: u64) -> anyhow::Result<()>;
    /// Bytes that were moved for it, if it moves any at all.
    fn moved(&self) -> Option<u64>;
}

/// What is released is free at once: nothing has to be done.
pub struct AtOnce;

impl<A> Upkeep<A> for AtOnce {
    fn hold(&self) -> Held {
        Held::default()
    }

    fn reserve(&self) -> u64 {
        0
    }

    fn make_free(&mut self, _: &mut A, _: &mut Held, _: u64) -> anyhow::Result<()> {
        Ok(())
    }

    fn moved(&self) -> Option<u64> {
        None
    }
}

/// What the load and its upkeep ask for: so many bytes, in any pieces.
pub fn request(len: u64, unit: u64) -> Request {
    Request { len, unit, extents_max: EXTENTS_MAX, hint: None }
}
