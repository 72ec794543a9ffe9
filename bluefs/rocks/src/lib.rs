//! RocksDB on BlueFS.
