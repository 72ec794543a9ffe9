//! [`bluefs_env`]: a RocksDB environment whose files are BlueFS's.

#![expect(unsafe_code, reason = "the C ABI to the shim")]

use std::ffi::c_void;

use bluefs::fs::BlueFs;
use bluefs::kv::KvError;
use rocksdb::Env;

use crate::callbacks::{CALLBACKS, Callbacks};

unsafe extern "C" {
    fn spirula_env_create(callbacks: *const Callbacks, fs: *mut c_void) -> *mut c_void;
}

/// An environment over `fs`, which lives as long as it. Threads and clocks are RocksDB's own.
pub fn bluefs_env(fs: BlueFs) -> Result<Env, KvError> {
    let fs = Box::into_raw(Box::new(fs)).cast::<c_void>();
    // SAFETY: the table is static and matches shim.h (its first member is checked); the box is C++'s from here on.
    let env = unsafe { spirula_env_create(&raw const CALLBACKS, fs) };
    if env.is_null() {
        let reason = "the linked RocksDB is not the one the shim was written for (layout of rocksdb_env_t)";
        return Err(KvError::Io(reason.to_owned()));
    }
    // SAFETY: a fresh rocksdb_env_t of our own, owned by nobody else.
    Ok(unsafe { Env::from_raw(env.cast::<librocksdb_sys::rocksdb_env_t>()) })
}
