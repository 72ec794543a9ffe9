//! Codes of operations.

use std::fmt;

use crate::msg::op_args::Layout;

/// What an operation does. Codes that are not known here are kept, to be refused where they are executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpCode(pub u16);

/// Whether an operation reads, writes, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Reads what it then writes.
    ReadWrite,
    /// Cache tiering, and codes of no kind.
    Other,
}

macro_rules! op_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $args:ident;)*) => {
        impl OpCode {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// How the arguments of this code are laid out.
            pub(super) fn layout(self) -> Layout {
                match self {
                    $(Self::$name => Layout::$args,)*
                    _ => Layout::Raw,
                }
            }
        }

        impl fmt::Debug for OpCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(code) => write!(f, "{code:#06x}"),
                }
            }
        }
    };
}

op_codes! {
    /// Bytes of a range.
    READ = 0x1201, Extent;
    /// Size and modification time.
    STAT = 0x1202, Extent;
    /// Extents of a range.
    MAPEXT = 0x1203, Extent;
    /// Extents and bytes of a range.
    SPARSE_READ = 0x1205, Extent;
    /// Notifies the watchers.
    NOTIFY = 0x1206, Notify;
    /// A watcher's answer.
    NOTIFY_ACK = 0x1207, Extent;
    /// Fails unless the object has this version.
    ASSERT_VERSION = 0x1208, AssertVersion;
    /// Watchers of an object.
    LIST_WATCHERS = 0x1209, Extent;
    /// Clones of an object.
    LIST_SNAPS = 0x120a, Extent;
    /// As READ.
    SYNC_READ = 0x120b, Extent;
    /// Obsolete.
    TMAPGET = 0x120c, Extent;
    /// Keys of the omap.
    OMAP_GET_KEYS = 0x1211, Extent;
    /// Keys and values of the omap.
    OMAP_GET_VALUES = 0x1212, Extent;
    /// Header of the omap.
    OMAP_GET_HEADER = 0x1213, Extent;
    /// Values of given keys.
    OMAP_GET_VALUES_BY_KEYS = 0x1214, Extent;
    /// Compares values.
    OMAP_CMP = 0x1219, Extent;
    /// Cache tiering.
    IS_DIRTY = 0x121d, Extent;
    /// Between OSDs.
    COPY_GET = 0x121e, CopyGet;
    /// Checksums of a range.
    CHECKSUM = 0x121f, Checksum;
    /// Compares bytes.
    CMPEXT = 0x1220, Extent;
    /// Value of an xattr.
    GETXATTR = 0x1301, Xattr;
    /// All xattrs.
    GETXATTRS = 0x1302, Xattr;
    /// Compares an xattr.
    CMPXATTR = 0x1303, Xattr;
    /// Calls a method of an object class.
    CALL = 0x1401, Call;
    /// Lists a placement group, old form.
    PGLS = 0x1501, PgList;
    /// Lists a placement group filtered, old form.
    PGLS_FILTER = 0x1502, PgList;
    /// Cache tiering.
    PG_HITSET_LS = 0x1503, Extent;
    /// Cache tiering.
    PG_HITSET_GET = 0x1504, Raw;
    /// Lists a placement group.
    PGNLS = 0x1505, PgList;
    /// Lists a placement group filtered.
    PGNLS_FILTER = 0x1506, PgList;
    /// Results of scrubbing.
    SCRUBLS = 0x1507, Raw;
    /// Writes a range.
    WRITE = 0x2201, Extent;
    /// Replaces the content.
    WRITE_FULL = 0x2202, Extent;
    /// Changes the size.
    TRUNCATE = 0x2203, Extent;
    /// Punches a hole.
    ZERO = 0x2204, Extent;
    /// Deletes the object.
    DELETE = 0x2205, Extent;
    /// Writes at the end.
    APPEND = 0x2206, Extent;
    /// CephFS, old.
    SET_TRUNC = 0x2208, Extent;
    /// CephFS.
    TRIM_TRUNC = 0x2209, Extent;
    /// Obsolete.
    TMAPPUT = 0x220b, Extent;
    /// Makes the object.
    CREATE = 0x220d, Extent;
    /// Back to a snapshot.
    ROLLBACK = 0x220e, Snap;
    /// Registers, renews or ends a watch.
    WATCH = 0x220f, Watch;
    /// Sets omap entries.
    OMAP_SET_VALUES = 0x2215, Extent;
    /// Sets the omap's header.
    OMAP_SET_HEADER = 0x2216, Extent;
    /// Empties the omap.
    OMAP_CLEAR = 0x2217, Extent;
    /// Removes omap entries.
    OMAP_REMOVE_KEYS = 0x2218, Extent;
    /// Copies another object.
    COPY_FROM = 0x221a, CopyFrom;
    /// Cache tiering.
    UNDIRTY = 0x221c, Extent;
    /// Hints at how the object will be used.
    SET_ALLOC_HINT = 0x2223, AllocHint;
    /// Cache tiering.
    CACHE_PIN = 0x2224, Extent;
    /// Cache tiering.
    CACHE_UNPIN = 0x2225, Extent;
    /// Writes a pattern again and again.
    WRITE_SAME = 0x2226, WriteSame;
    /// Removes a range of omap entries.
    OMAP_REMOVE_KEY_RANGE = 0x222c, Extent;
    /// Copies another object and sets its truncation.
    COPY_FROM2 = 0x222d, CopyFrom;
    /// Sets an xattr.
    SETXATTR = 0x2301, Xattr;
    /// Sets several xattrs.
    SETXATTRS = 0x2302, Xattr;
    /// Replaces all xattrs.
    RESETXATTRS = 0x2303, Xattr;
    /// Removes an xattr.
    RMXATTR = 0x2304, Xattr;
    /// Obsolete.
    TMAPUP = 0x320a, Extent;
}

impl OpCode {
    /// Whether it reads or writes. A CALL depends on its method.
    pub fn access(self) -> AccessKind {
        match self.0 & 0xf000 {
            0x1000 => AccessKind::Read,
            0x2000 => AccessKind::Write,
            0x3000 => AccessKind::ReadWrite,
            _ => AccessKind::Other,
        }
    }

    /// Whether it is addressed to a placement group and not to an object.
    pub fn is_pg_op(self) -> bool {
        self.0 & 0x0f00 == 0x0500
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_how_they_access() {
        assert_eq!(OpCode::READ.access(), AccessKind::Read);
        assert_eq!(OpCode::WRITE.access(), AccessKind::Write);
        assert_eq!(OpCode::TMAPUP.access(), AccessKind::ReadWrite);
        assert_eq!(OpCode(0x8220).access(), AccessKind::Other);
        assert!(OpCode::PGNLS.is_pg_op() && !OpCode::CALL.is_pg_op());
    }
}
