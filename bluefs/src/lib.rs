//! BlueFS, the small log-structured file system under the key-value store, and the key-value seam.

pub mod kv;
