//! BlueFS, the small log-structured file system under the key-value store, and the key-value seam.

#![forbid(unsafe_code)]

mod changes;
pub mod fs;
pub mod fuzzing;
pub mod kv;
