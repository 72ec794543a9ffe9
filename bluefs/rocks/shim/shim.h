// The C ABI between RocksDB's FileSystem (shim.cc) and BlueFS (src/callbacks.rs). Both sides repeat it by hand;
// the first member is checked at start-up.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

// Results of every callback; anything else is an I/O error.
enum SpCode : int32_t {
  SP_OK = 0,
  SP_NOT_FOUND = 1,
  SP_NO_SPACE = 2,
  SP_CORRUPTION = 3,
  SP_INVALID = 4,
  SP_IO = 5,
};

// Where a callback explains its failure: UTF-8, ended by a zero byte.
constexpr size_t SP_ERROR_BYTES = 512;

struct SpPath {
  const char* bytes;
  size_t len;
};

// `fs`, `writer` and `reader` are opaque to C++. Strings are lent for the call only.
struct SpCallbacks {
  uint64_t abi;  // SP_ABI
  int32_t (*writer_new)(void* fs, SpPath path, int32_t append, void** writer, char* error);
  int32_t (*writer_append)(void* writer, const char* data, size_t len, char* error);
  int32_t (*writer_flush)(void* writer, char* error);
  int32_t (*writer_sync)(void* writer, char* error);
  int32_t (*writer_truncate)(void* writer, uint64_t size, char* error);
  int32_t (*writer_close)(void* writer, char* error);
  int32_t (*writer_size)(void* writer, uint64_t* size, char* error);
  int32_t (*writer_yields)(void* writer, char* error);
  void (*writer_drop)(void* writer);
  int32_t (*reader_new)(void* fs, SpPath path, void** reader, char* error);
  int32_t (*reader_read)(void* reader, uint64_t offset, size_t len, char* out, size_t* got, char* error);
  int32_t (*reader_size)(void* reader, uint64_t* size, char* error);
  void (*reader_drop)(void* reader);
  int32_t (*exists)(void* fs, SpPath path, int32_t* is_dir, char* error);
  int32_t (*list)(void* fs, SpPath dir, void* context, void (*each)(void* context, SpPath name), char* error);
  int32_t (*file_size)(void* fs, SpPath path, uint64_t* size, char* error);
  int32_t (*file_truncate)(void* fs, SpPath path, uint64_t size, char* error);
  int32_t (*unlink)(void* fs, SpPath path, char* error);
  int32_t (*rename)(void* fs, SpPath from, SpPath to, char* error);
  int32_t (*dir_create)(void* fs, SpPath dir, int32_t may_exist, char* error);
  int32_t (*dir_remove)(void* fs, SpPath dir, char* error);
  int32_t (*sync_metadata)(void* fs, char* error);
  int32_t (*free_space)(void* fs, uint64_t* bytes, char* error);
  void (*fs_drop)(void* fs);
};

constexpr uint64_t SP_ABI = 0x7370'6273'0000'0002;

// A rocksdb_env_t whose files are BlueFS's, or null if the layout of rocksdb_env_t is not the one known here. Takes
// `fs` over either way.
void* spirula_env_create(const SpCallbacks* callbacks, void* fs);
}
