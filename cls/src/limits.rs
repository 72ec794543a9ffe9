//! Bounds of native classes.

/// Longest input of hello's greetings, bytes. //= ceph 16.2 hello
pub const HELLO_INPUT_BYTES_MAX: usize = 100;
