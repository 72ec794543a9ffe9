//! Codes of the ops inside a request. //= ceph 16.2 rados.h: CEPH_OSD_OP_*

#![expect(missing_docs, reason = "the names are Ceph's")]

/// Bit in the code of every op that reads.
pub const MODE_READ: u16 = 0x1000;
/// Bit in the code of every op that changes something.
pub const MODE_WRITE: u16 = 0x2000;

pub const READ: u16 = 0x1201;
pub const STAT: u16 = 0x1202;
pub const MAPEXT: u16 = 0x1203;
pub const SPARSE_READ: u16 = 0x1205;
pub const NOTIFY: u16 = 0x1206;
pub const NOTIFY_ACK: u16 = 0x1207;
pub const ASSERT_VER: u16 = 0x1208;
pub const LIST_WATCHERS: u16 = 0x1209;
pub const LIST_SNAPS: u16 = 0x120a;
pub const SYNC_READ: u16 = 0x120b;
pub const OMAP_GET_KEYS: u16 = 0x1211;
pub const OMAP_GET_VALS: u16 = 0x1212;
pub const OMAP_GET_HEADER: u16 = 0x1213;
pub const OMAP_GET_VALS_BY_KEYS: u16 = 0x1214;
pub const OMAP_CMP: u16 = 0x1219;
pub const CHECKSUM: u16 = 0x121f;
pub const CMPEXT: u16 = 0x1220;
pub const GETXATTR: u16 = 0x1301;
pub const GETXATTRS: u16 = 0x1302;
pub const CMPXATTR: u16 = 0x1303;
pub const CALL: u16 = 0x1401;
pub const PGLS: u16 = 0x1501;
pub const PGLS_FILTER: u16 = 0x1502;
pub const PG_HITSET_LS: u16 = 0x1503;
pub const PG_HITSET_GET: u16 = 0x1504;
pub const PGNLS: u16 = 0x1505;
pub const PGNLS_FILTER: u16 = 0x1506;
pub const SCRUBLS: u16 = 0x1507;
pub const WRITE: u16 = 0x2201;
pub const WRITEFULL: u16 = 0x2202;
pub const TRUNCATE: u16 = 0x2203;
pub const ZERO: u16 = 0x2204;
pub const DELETE: u16 = 0x2205;
pub const APPEND: u16 = 0x2206;
pub const TRIMTRUNC: u16 = 0x2209;
pub const CREATE: u16 = 0x220d;
pub const WATCH: u16 = 0x220f;
pub const OMAP_SET_VALS: u16 = 0x2215;
pub const OMAP_SET_HEADER: u16 = 0x2216;
pub const OMAP_CLEAR: u16 = 0x2217;
pub const OMAP_RM_KEYS: u16 = 0x2218;
pub const SETALLOCHINT: u16 = 0x2223;
pub const WRITESAME: u16 = 0x2226;
pub const OMAP_RM_KEY_RANGE: u16 = 0x222c;
pub const SETXATTR: u16 = 0x2301;
pub const RMXATTR: u16 = 0x2304;

/// Whether the op concerns a whole placement group.
pub fn is_group_op(code: u16) -> bool {
    code & 0x0f00 == 0x0500
}
