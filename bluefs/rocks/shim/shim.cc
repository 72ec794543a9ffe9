// rocksdb::FileSystem over BlueFS. The only C++ of the project: no logic, only translation.

#include "shim.h"

#include <rocksdb/c.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <memory>
#include <string>
#include <vector>

// Private to RocksDB's db/c.cc, repeated here because the crate's Env wraps this type. layout_ok() checks it.
struct rocksdb_env_t {
  rocksdb::Env* rep;
  bool is_default;
};

namespace {

using namespace ROCKSDB_NAMESPACE;

SpPath path_of(const std::string& path) { return SpPath{path.data(), path.size()}; }

// A callback's outcome as RocksDB's.
IOStatus status_of(int32_t code, const char* error) {
  switch (code) {
    case SP_OK:
      return IOStatus::OK();
    case SP_NOT_FOUND:
      return IOStatus::NotFound(error);
    case SP_NO_SPACE:
      return IOStatus::NoSpace(error);
    case SP_CORRUPTION:
      return IOStatus::Corruption(error);
    case SP_INVALID:
      return IOStatus::InvalidArgument(error);
    default:
      return IOStatus::IOError(error);
  }
}

// Calls with a buffer for the error message as the last argument.
template <typename Callback, typename... Args>
IOStatus call(Callback callback, Args... args) {
  char error[SP_ERROR_BYTES] = {0};
  int32_t code = callback(args..., error);
  return status_of(code, error);
}

// Callbacks and the Rust object they work on. Files share it, so it outlives them.
class Fs {
 public:
  Fs(const SpCallbacks* callbacks, void* rust) : f(*callbacks), rust(rust) {}
  ~Fs() { f.fs_drop(rust); }
  Fs(const Fs&) = delete;
  Fs& operator=(const Fs&) = delete;

  const SpCallbacks f;
  void* const rust;
};

using FsRef = std::shared_ptr<Fs>;

class Writer : public FSWritableFile {
 public:
  Writer(FsRef fs, void* writer) : fs_(std::move(fs)), writer_(writer) {}
  ~Writer() override { fs_->f.writer_drop(writer_); }

  using FSWritableFile::Append;
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.writer_append, writer_, data.data(), data.size());
  }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return call(fs_->f.writer_flush, writer_); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return call(fs_->f.writer_sync, writer_); }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.writer_truncate, writer_, size);
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return call(fs_->f.writer_close, writer_); }
  // Compactions write at low priority. A failure shows at the next write.
  void SetIOPriority(Env::IOPriority priority) override {
    FSWritableFile::SetIOPriority(priority);
    if (priority == Env::IO_LOW) call(fs_->f.writer_yields, writer_).PermitUncheckedError();
  }
  bool IsSyncThreadSafe() const override { return false; }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override {
    uint64_t size = 0;
    // The interface has no way to report an error here; the next write does.
    call(fs_->f.writer_size, writer_, &size).PermitUncheckedError();
    return size;
  }

 private:
  FsRef fs_;
  void* writer_;
};

// One reading handle behind both of RocksDB's interfaces.
class Reader {
 public:
  Reader(FsRef fs, void* reader) : fs_(std::move(fs)), reader_(reader) {}
  ~Reader() { fs_->f.reader_drop(reader_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  IOStatus read(uint64_t offset, size_t n, Slice* result, char* scratch) const {
    size_t got = 0;
    IOStatus status = call(fs_->f.reader_read, reader_, offset, n, scratch, &got);
    *result = Slice(scratch, status.ok() ? got : 0);
    return status;
  }
  IOStatus size(uint64_t* size) const { return call(fs_->f.reader_size, reader_, size); }

 private:
  FsRef fs_;
  void* reader_;
};

class RandomReader : public FSRandomAccessFile {
 public:
  explicit RandomReader(std::unique_ptr<Reader> reader) : reader_(std::move(reader)) {}
  IOStatus Read(uint64_t offset, size_t n, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    return reader_->read(offset, n, result, scratch);
  }
  IOStatus GetFileSize(uint64_t* size) override { return reader_->size(size); }

 private:
  std::unique_ptr<Reader> reader_;
};

class SequentialReader : public FSSequentialFile {
 public:
  explicit SequentialReader(std::unique_ptr<Reader> reader) : reader_(std::move(reader)) {}
  IOStatus Read(size_t n, const IOOptions&, Slice* result, char* scratch, IODebugContext*) override {
    IOStatus status = reader_->read(at_, n, result, scratch);
    at_ += result->size();
    return status;
  }
  IOStatus Skip(uint64_t n) override {
    at_ += n;
    return IOStatus::OK();
  }

 private:
  std::unique_ptr<Reader> reader_;
  uint64_t at_ = 0;
};

class Directory : public FSDirectory {
 public:
  explicit Directory(FsRef fs) : fs_(std::move(fs)) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return call(fs_->f.sync_metadata, fs_->rust); }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }

 private:
  FsRef fs_;
};

// The device is open to one process only, and a store to one directory of it: there is nothing to lock.
class NoLock : public FileLock {};

class BlueFileSystem : public FileSystem {
 public:
  explicit BlueFileSystem(FsRef fs) : fs_(std::move(fs)) {}

  const char* Name() const override { return "BlueFS"; }

  IOStatus NewWritableFile(const std::string& path, const FileOptions&, std::unique_ptr<FSWritableFile>* result,
                           IODebugContext*) override {
    return new_writer(path, 0, result);
  }
  IOStatus ReopenWritableFile(const std::string& path, const FileOptions&, std::unique_ptr<FSWritableFile>* result,
                              IODebugContext*) override {
    return new_writer(path, 1, result);
  }
  IOStatus NewRandomAccessFile(const std::string& path, const FileOptions&,
                               std::unique_ptr<FSRandomAccessFile>* result, IODebugContext*) override {
    std::unique_ptr<Reader> reader;
    IOStatus status = new_reader(path, &reader);
    if (status.ok()) result->reset(new RandomReader(std::move(reader)));
    return status;
  }
  IOStatus NewSequentialFile(const std::string& path, const FileOptions&, std::unique_ptr<FSSequentialFile>* result,
                             IODebugContext*) override {
    std::unique_ptr<Reader> reader;
    IOStatus status = new_reader(path, &reader);
    if (status.ok()) result->reset(new SequentialReader(std::move(reader)));
    return status;
  }
  IOStatus NewDirectory(const std::string&, const IOOptions&, std::unique_ptr<FSDirectory>* result,
                        IODebugContext*) override {
    result->reset(new Directory(fs_));
    return IOStatus::OK();
  }
  IOStatus FileExists(const std::string& path, const IOOptions&, IODebugContext*) override {
    int32_t is_dir = 0;
    return call(fs_->f.exists, fs_->rust, path_of(path), &is_dir);
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is_dir, IODebugContext*) override {
    int32_t found = 0;
    IOStatus status = call(fs_->f.exists, fs_->rust, path_of(path), &found);
    *is_dir = found != 0;
    return status;
  }
  IOStatus GetChildren(const std::string& dir, const IOOptions&, std::vector<std::string>* result,
                       IODebugContext*) override {
    result->clear();
    auto each = [](void* context, SpPath name) {
      static_cast<std::vector<std::string>*>(context)->emplace_back(name.bytes, name.len);
    };
    void (*push)(void*, SpPath) = each;
    return call(fs_->f.list, fs_->rust, path_of(dir), static_cast<void*>(result), push);
  }
  IOStatus DeleteFile(const std::string& path, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.unlink, fs_->rust, path_of(path));
  }
  IOStatus Truncate(const std::string& path, size_t size, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.file_truncate, fs_->rust, path_of(path), static_cast<uint64_t>(size));
  }
  IOStatus CreateDir(const std::string& dir, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.dir_create, fs_->rust, path_of(dir), 0);
  }
  IOStatus CreateDirIfMissing(const std::string& dir, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.dir_create, fs_->rust, path_of(dir), 1);
  }
  IOStatus DeleteDir(const std::string& dir, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.dir_remove, fs_->rust, path_of(dir));
  }
  IOStatus GetFileSize(const std::string& path, const IOOptions&, uint64_t* size, IODebugContext*) override {
    return call(fs_->f.file_size, fs_->rust, path_of(path), size);
  }
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t* time, IODebugContext*) override {
    // BlueFS keeps no times; RocksDB uses them for options that are not set here.
    *time = 0;
    return IOStatus::OK();
  }
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&, IODebugContext*) override {
    return call(fs_->f.rename, fs_->rust, path_of(from), path_of(to));
  }
  IOStatus LockFile(const std::string&, const IOOptions&, FileLock** lock, IODebugContext*) override {
    *lock = new NoLock;
    return IOStatus::OK();
  }
  IOStatus UnlockFile(FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete lock;
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* result,
                           IODebugContext*) override {
    *result = path;
    return IOStatus::OK();
  }
  IOStatus GetFreeSpace(const std::string&, const IOOptions&, uint64_t* bytes, IODebugContext*) override {
    return call(fs_->f.free_space, fs_->rust, bytes);
  }
  void SupportedOps(int64_t& ops) override { ops = 0; }

 private:
  IOStatus new_writer(const std::string& path, int32_t append, std::unique_ptr<FSWritableFile>* result) {
    void* writer = nullptr;
    IOStatus status = call(fs_->f.writer_new, fs_->rust, path_of(path), append, &writer);
    if (status.ok()) result->reset(new Writer(fs_, writer));
    return status;
  }
  IOStatus new_reader(const std::string& path, std::unique_ptr<Reader>* result) {
    void* reader = nullptr;
    IOStatus status = call(fs_->f.reader_new, fs_->rust, path_of(path), &reader);
    if (status.ok()) result->reset(new Reader(fs_, reader));
    return status;
  }

  FsRef fs_;
};

// Whether rocksdb_env_t is what we think: the default environment must show the default Env and say so.
bool layout_ok() {
  rocksdb_env_t* env = rocksdb_create_default_env();
  bool ok = env->rep == Env::Default() && env->is_default;
  rocksdb_env_destroy(env);
  return ok;
}

}  // namespace

extern "C" void* spirula_env_create(const SpCallbacks* callbacks, void* fs) {
  auto shared = std::make_shared<Fs>(callbacks, fs);
  if (callbacks->abi != SP_ABI || !layout_ok()) return nullptr;
  auto* env = new rocksdb_env_t;
  env->rep = NewCompositeEnv(std::make_shared<BlueFileSystem>(std::move(shared))).release();
  // rocksdb_env_destroy() deletes what is not the default.
  env->is_default = false;
  return env;
}
