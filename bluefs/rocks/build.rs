//! Compiles the shim against the headers of the RocksDB that is linked: a prebuilt one (ROCKSDB_INCLUDE_DIR beside
//! ROCKSDB_LIB_DIR) or the one that librocksdb-sys builds from its own sources.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rerun-if-env-changed=ROCKSDB_INCLUDE_DIR");
    println!("cargo:rerun-if-env-changed=ROCKSDB_LIB_DIR");
    let bundled =
        env::var_os("DEP_ROCKSDB_CARGO_MANIFEST_DIR").map(|dir| PathBuf::from(dir).join("rocksdb/include"));
    let prebuilt = env::var_os("ROCKSDB_LIB_DIR").and(env::var_os("ROCKSDB_INCLUDE_DIR")).map(PathBuf::from);
    let Some(include) = prebuilt.or(bundled) else {
        panic!("librocksdb-sys does not say where its headers are; set ROCKSDB_INCLUDE_DIR");
    };
    cc::Build::new()
        .cpp(true)
        .std("c++20")
        .include(include)
        .file("shim/shim.cc")
        .flag_if_supported("-Wno-unused-parameter")
        .compile("spirula_rocks_shim");
}
