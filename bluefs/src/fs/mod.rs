//! BlueFS: a small log-structured file system for a key-value store's files.
//!
//! Its whole metadata is a log of records; files are made of extents from space lent ahead. [`Machine`] decides
//! everything and does no I/O; [`BlueFs`] drives it from blocking threads, [`LocalBlueFs`] from tasks of one core.
//! `FORMAT.md` describes the bytes.

mod bell;
mod blocking;
mod check;
mod codec;
mod desk;
mod error;
mod fault;
pub(crate) mod fuzzing;
pub mod limits;
mod local;
mod log;
mod machine;
mod record;
mod superblock;
mod tree;

pub use bell::Bell;
pub use blocking::{BlueFs, FileReader, FileWriter};
pub use check::{Owner, Problem, check};
pub use desk::{SpaceDesk, SpaceRequests, SpaceWish, space_desk};
pub use error::{FsError, FsResult};
pub use fault::Planted;
pub use local::{LocalBlueFs, LocalReader, LocalWriter};
pub use machine::{
    Amount, Commit, CopyStep, FormatOptions, FsStats, Io, Loaded, Machine, MountOptions, Move, MovePlan,
    OpenFile, ReadPiece, ReadPlan, Ticket, WritePlan, format,
};
pub use record::{Ino, Record};
pub use superblock::Superblock;
pub use tree::{Inode, Tree};
