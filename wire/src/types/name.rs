//! Who a daemon or client is: by number on connections, by text in authentication.

use std::fmt;

use crate::codec::{DecodeResult, Reader, Wire, Writer};

/// Kind of an entity; a byte on connections and a u32 in authentication. Kinds we do not know are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntityKind(pub u8);

impl EntityKind {
    /// No kind: the name in a client's reqid.
    pub const NONE: Self = Self(0);
    /// Monitor.
    pub const MON: Self = Self(1);
    /// Metadata server.
    pub const MDS: Self = Self(2);
    /// Object storage daemon.
    pub const OSD: Self = Self(4);
    /// Client.
    pub const CLIENT: Self = Self(8);
    /// Manager.
    pub const MGR: Self = Self(16);
    /// The authentication service.
    pub const AUTH: Self = Self(32);
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::MON => "mon",
            Self::MDS => "mds",
            Self::OSD => "osd",
            Self::CLIENT => "client",
            Self::MGR => "mgr",
            Self::AUTH => "auth",
            _ => "unknown",
        })
    }
}

impl fmt::Debug for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}({})", self.0)
    }
}

/// `entity_name`: kind and number, such as `osd.3` or `client.4120`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntityName {
    /// Kind.
    pub kind: EntityKind,
    /// Rank, OSD id or global id.
    pub number: i64,
}

impl EntityName {
    /// A name.
    pub fn new(kind: EntityKind, number: i64) -> Self {
        Self { kind, number }
    }

    /// `client.<global id>`.
    pub fn client(global_id: i64) -> Self {
        Self::new(EntityKind::CLIENT, global_id)
    }

    /// `osd.<id>`.
    pub fn osd(id: i64) -> Self {
        Self::new(EntityKind::OSD, id)
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.kind)?;
        if self.number < 0 { f.write_str("?") } else { write!(f, "{}", self.number) }
    }
}

impl Wire for EntityName {
    const BYTES_MIN: usize = 9;
    fn encode(&self, w: &mut Writer) {
        w.u8(self.kind.0);
        w.s64(self.number);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { kind: EntityKind(r.u8()?), number: r.s64()? })
    }
}

/// `EntityName`: kind and text, such as `client.admin`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AuthName {
    /// Kind.
    pub kind: EntityKind,
    /// Id, without the kind.
    pub id: String,
}

impl fmt::Display for AuthName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.id)
    }
}

impl Wire for AuthName {
    const BYTES_MIN: usize = 8;
    fn encode(&self, w: &mut Writer) {
        w.u32(u32::from(self.kind.0));
        w.str(&self.id);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let kind = r.u32()?;
        let Ok(kind) = u8::try_from(kind) else {
            return Err(r.error("an entity kind below 256", kind.to_string()));
        };
        Ok(Self { kind: EntityKind(kind), id: r.str()? })
    }
}
