//! The one error of decoding: what was being read, where, what was expected and what was there.

use std::borrow::Cow;

/// Result of decoding.
pub type DecodeResult<T> = Result<T, DecodeError>;

/// Why bytes could not be decoded. Made only from input, never from our own state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}: expected {expected}, got {got}")]
pub struct DecodeError {
    /// The structure being decoded.
    pub what: &'static str,
    /// Offset from the start of the buffer handed to the reader.
    pub offset: usize,
    /// What would have been right.
    pub expected: Cow<'static, str>,
    /// What was found.
    pub got: Cow<'static, str>,
}
