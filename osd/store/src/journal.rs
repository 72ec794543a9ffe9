//! The journal: a ring of groups, each a header and records. [`format`] is the bytes of a group, [`item`] those of a
//! change in it, [`ring`] where they lie,
//! [`scan`] the chain of valid groups after a crash. Pure; the engine does the I/O.

pub mod format;
pub mod item;
pub mod ring;
pub mod scan;
