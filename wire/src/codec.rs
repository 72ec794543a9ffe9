//! Ceph's encoding: little-endian, unaligned, length-prefixed; a bounded [`Reader`], a [`Writer`], and the
//! [`Wire`] trait that ties a value to its bytes.
//!
//! Invariant: no decoder allocates more than a small constant times the bytes that are left in its input; a
//! count is compared with what is left before anything is reserved for it. Pure; any core.

mod error;
mod reader;
mod wire;
mod writer;

pub use error::{DecodeError, DecodeResult};
pub use reader::Reader;
pub use wire::{Wire, decode_exact, encode_to_bytes};
pub use writer::Writer;
