//! Network addresses of daemons and clients.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::limits::SOCKADDR_BYTES_MAX;

const FAMILY_UNSPECIFIED: u16 = 0;
const FAMILY_IPV4: u16 = 2;
const FAMILY_IPV6: u16 = 10;

/// Protocol of an address. Kinds we do not know are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddrKind(pub u32);

impl AddrKind {
    /// Unset.
    pub const NONE: Self = Self(0);
    /// msgr1.
    pub const LEGACY: Self = Self(1);
    /// msgr2.
    pub const MSGR2: Self = Self(2);
    /// Either protocol: a client's own address.
    pub const ANY: Self = Self(3);
    /// A network, in blocklists.
    pub const CIDR: Self = Self(4);
}

impl fmt::Display for AddrKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.write_str("none"),
            Self::LEGACY => f.write_str("v1"),
            Self::MSGR2 => f.write_str("v2"),
            Self::ANY => f.write_str("any"),
            Self::CIDR => f.write_str("cidr"),
            Self(other) => write!(f, "type{other}"),
        }
    }
}

/// The socket address inside an [`Addr`]. The two unset forms differ only on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SocketBytes {
    /// No bytes at all.
    #[default]
    Absent,
    /// A zeroed structure of 28 bytes.
    Unspecified,
    /// IPv4.
    V4(SocketAddrV4),
    /// IPv6.
    V6(SocketAddrV6),
}

/// `addr`: protocol, instance and socket address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Addr {
    /// Protocol.
    pub kind: AddrKind,
    /// Tells apart processes that use the same socket address one after the other; monitors have 0.
    pub nonce: u32,
    /// Socket address.
    pub socket: SocketBytes,
}

impl Addr {
    /// A msgr2 address.
    pub fn msgr2(socket: SocketAddr, nonce: u32) -> Self {
        Self { kind: AddrKind::MSGR2, nonce, socket: socket.into() }
    }

    /// An address of any protocol: what a client calls its own.
    pub fn any(socket: SocketAddr, nonce: u32) -> Self {
        Self { kind: AddrKind::ANY, nonce, socket: socket.into() }
    }

    /// The socket address if set.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.socket {
            SocketBytes::Absent | SocketBytes::Unspecified => None,
            SocketBytes::V4(v4) => Some(v4.into()),
            SocketBytes::V6(v6) => Some(v6.into()),
        }
    }

    /// Whether there is neither protocol nor socket address.
    pub fn is_unset(&self) -> bool {
        self.socket_addr().is_none()
    }
}

impl From<SocketAddr> for SocketBytes {
    fn from(socket: SocketAddr) -> Self {
        match socket {
            SocketAddr::V4(v4) => Self::V4(v4),
            SocketAddr::V6(v6) => Self::V6(v6),
        }
    }
}

/// As Ceph prints it: `v2:127.0.0.1:6800/77`.
impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket_addr() {
            None => f.write_str("-"),
            Some(socket) => write!(f, "{}:{}/{}", self.kind, socket, self.nonce),
        }
    }
}

impl Wire for Addr {
    const BYTES_MIN: usize = 1 + 6 + 12;
    fn encode(&self, w: &mut Writer) {
        w.u8(1);
        w.env(1, 1, |w| {
            w.u32(self.kind.0);
            w.u32(self.nonce);
            match self.socket {
                SocketBytes::Absent => w.u32(0),
                SocketBytes::Unspecified => {
                    w.u32(28);
                    w.zeros(28);
                }
                SocketBytes::V4(v4) => {
                    w.u32(16);
                    w.u16(FAMILY_IPV4);
                    w.raw(&v4.port().to_be_bytes());
                    w.raw(&v4.ip().octets());
                    w.zeros(8);
                }
                SocketBytes::V6(v6) => {
                    w.u32(28);
                    w.u16(FAMILY_IPV6);
                    w.raw(&v6.port().to_be_bytes());
                    w.raw(&v6.flowinfo().to_be_bytes());
                    w.raw(&v6.ip().octets());
                    w.u32(v6.scope_id());
                }
            }
        });
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("addr", |r| {
            let marker = r.u8()?;
            if marker != 1 {
                return Err(r.error("address form 1", marker.to_string()));
            }
            decode_after_marker(r)
        })
    }
}

fn decode_after_marker(r: &mut Reader) -> DecodeResult<Addr> {
    r.env("addr", 1, |r, _| {
        let kind = AddrKind(r.u32()?);
        let nonce = r.u32()?;
        let length = r.count(1)?;
        if length > SOCKADDR_BYTES_MAX {
            return Err(r.error(format!("at most {SOCKADDR_BYTES_MAX} bytes"), length.to_string()));
        }
        let mut bytes = Reader::new("addr", r.raw_bytes(length)?);
        Ok(Addr { kind, nonce, socket: decode_socket(&mut bytes)? })
    })
}

/// Bytes after the part that the family needs are ignored, as the operating system does.
fn decode_socket(r: &mut Reader) -> DecodeResult<SocketBytes> {
    if r.is_empty() {
        return Ok(SocketBytes::Absent);
    }
    match r.u16()? {
        FAMILY_UNSPECIFIED => Ok(SocketBytes::Unspecified),
        FAMILY_IPV4 => {
            let port = u16::from_be_bytes(r.array()?);
            Ok(SocketBytes::V4(SocketAddrV4::new(Ipv4Addr::from(r.array::<4>()?), port)))
        }
        FAMILY_IPV6 => {
            let port = u16::from_be_bytes(r.array()?);
            let flowinfo = u32::from_be_bytes(r.array()?);
            let ip = Ipv6Addr::from(r.array::<16>()?);
            Ok(SocketBytes::V6(SocketAddrV6::new(ip, port, flowinfo, r.u32()?)))
        }
        other => Err(r.error("an IPv4 or IPv6 address", format!("family {other}"))),
    }
}

/// `addrvec`: all addresses of one entity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AddrVec(pub Vec<Addr>);

impl AddrVec {
    /// The first msgr2 address.
    pub fn msgr2(&self) -> Option<&Addr> {
        self.0.iter().find(|addr| addr.kind == AddrKind::MSGR2)
    }

    /// Whether `addr` is one of these, in type, socket address and nonce.
    pub fn contains(&self, addr: &Addr) -> bool {
        self.0.contains(addr)
    }
}

impl From<Addr> for AddrVec {
    fn from(addr: Addr) -> Self {
        Self(vec![addr])
    }
}

/// As Ceph prints it: a bare address if there is one, else a bracketed list.
impl fmt::Display for AddrVec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return only.fmt(f);
        }
        f.write_str("[")?;
        for (i, addr) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            addr.fmt(f)?;
        }
        f.write_str("]")
    }
}

impl Wire for AddrVec {
    const BYTES_MIN: usize = 5;
    fn encode(&self, w: &mut Writer) {
        w.u8(2);
        w.list(&self.0);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("addrvec", |r| match r.u8()? {
            2 => Ok(Self(r.list()?)),
            1 => Ok(Self(vec![decode_after_marker(r)?])),
            other => Err(r.error("address list form 2 or 1", other.to_string())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode_exact, encode_to_bytes};

    #[test]
    fn ipv6_round_trips_and_prints() {
        let addr = Addr::msgr2("[fe80::1]:6800".parse().unwrap(), 9);
        let bytes = encode_to_bytes(&addr);
        assert_eq!(bytes.len(), 1 + 6 + 12 + 28);
        assert_eq!(decode_exact::<Addr>("addr", bytes), Ok(addr));
        assert_eq!(addr.to_string(), "v2:[fe80::1]:6800/9");
    }

    #[test]
    fn a_single_address_is_accepted_as_a_list() {
        let addr = Addr::any("127.0.0.1:0".parse().unwrap(), 5);
        assert_eq!(decode_exact::<AddrVec>("addrs", encode_to_bytes(&addr)), Ok(addr.into()));
    }

    #[test]
    fn unknown_families_and_lengths_are_refused() {
        let addr = Addr::msgr2("127.0.0.1:1".parse().unwrap(), 0);
        let mut bytes = encode_to_bytes(&addr).to_vec();
        bytes[19] = 77;
        assert!(decode_exact::<Addr>("addr", bytes.clone().into()).is_err());
        bytes[15..19].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(decode_exact::<Addr>("addr", bytes.into()).is_err());
    }
}
