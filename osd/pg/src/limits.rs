//! Bounds of a request and of what a placement group remembers.

/// Largest object, bytes. //= ceph 16.2 osd_max_object_size
pub const OBJECT_BYTES_MAX: u64 = 128 << 20;
/// Longest object name or locator key, bytes. //= ceph 16.2 osd_max_object_name_len
pub const OBJECT_NAME_BYTES_MAX: usize = 2048;
/// Longest namespace, bytes. //= ceph 16.2 osd_max_object_namespace_len
pub const NAMESPACE_BYTES_MAX: usize = 256;
/// Longest extended attribute name, bytes. //= ceph 16.2 osd_max_attr_name_len
pub const ATTR_NAME_BYTES_MAX: usize = 100;
/// Most payload of a writing request, bytes. //= ceph 16.2 osd_max_write_size
pub const WRITE_PAYLOAD_BYTES_MAX: usize = 90 << 20;
/// Most output of a request's ops together, bytes: all of the largest object, with the extents of a sparse read.
pub const OUTPUT_BYTES_MAX: u64 = OBJECT_BYTES_MAX + (4 << 20);
/// Omap values looked up in one go, so that few of the longest are in memory beyond what a reply may hold.
pub const OMAP_LOOKUP_KEYS: usize = 16;
/// Most output of one op of a writing request with return values, bytes. //= ceph 16.2 osd_max_write_op_reply_len
pub const WRITE_OUTPUT_BYTES_MAX: usize = 64;
/// Most omap entries in one reply; the reply says that there are more. //= ceph 16.2 osd_max_omap_entries_per_request
pub const OMAP_ENTRIES_MAX: usize = 1024;
/// About the most bytes of omap in one reply. Ceph allows 1 GiB; clients go on where a shorter page ends.
pub const OMAP_BYTES_MAX: usize = 32 << 20;
/// Most entries of one listing reply.
pub const LIST_ENTRIES_MAX: usize = 1024;
/// Requests a placement group recognizes as repeated, at least. //= ceph 16.2 osd_pg_log_dups_tracked
pub const DUPLICATES_MIN: usize = 3000;
/// Longest error number of a plain errno; compare-extent mismatches go above. //= ceph 16.2 MAX_ERRNO
pub const ERRNO_MAX: i32 = 4095;

// A mismatch anywhere in the largest object must fit the reply's result.
const _: () = assert!(ERRNO_MAX as u64 + OBJECT_BYTES_MAX < i32::MAX as u64);
// What a request returns must fit its reply.
const _: () = assert!(OUTPUT_BYTES_MAX <= wire::limits::MESSAGE_DATA_BYTES_MAX as u64);
// One object must fit a full payload, or WRITEFULL could never reach the limit that its error names.
const _: () = assert!((WRITE_PAYLOAD_BYTES_MAX as u64) < OBJECT_BYTES_MAX);
