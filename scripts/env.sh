# Sourced by the other scripts: where builds go, and RocksDB's library if it was built before.
#
# RocksDB's C++ takes most of a build from scratch, so it is built once into a cache outside the checkout and linked
# from there by every later build, whatever its profile. Nothing depends on the cache being there.

SPIRULA_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export SPIRULA_ROOT
export SPIRULA_CACHE=${SPIRULA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spirula}
# A folder for each checkout: Cargo tells builds in one folder apart by paths below the checkout, so it would take another
# one's for this one's. What this file chose for another checkout, in the same shell, is nobody's wish.
if [ "${CARGO_TARGET_DIR:-}" = "${SPIRULA_BUILD:-}" ]; then
    unset CARGO_TARGET_DIR
fi
export SPIRULA_BUILD=$SPIRULA_CACHE/build/$(printf %s "$SPIRULA_ROOT" | sha256sum | cut -c1-12)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$SPIRULA_BUILD}

# The cache is keyed by the locked version, so a new RocksDB is a new cache entry.
spirula_rocksdb_version() {
    awk '/^name = "librocksdb-sys"$/ { getline; gsub(/version = |"/, ""); print; exit }' "$SPIRULA_ROOT/Cargo.lock"
}
SPIRULA_ROCKSDB=$SPIRULA_CACHE/rocksdb-$(spirula_rocksdb_version)
if [ -e "$SPIRULA_ROCKSDB/complete" ]; then
    export ROCKSDB_LIB_DIR=$SPIRULA_ROCKSDB/lib
    export ROCKSDB_INCLUDE_DIR=$SPIRULA_ROCKSDB/include
    export ROCKSDB_STATIC=1
fi
