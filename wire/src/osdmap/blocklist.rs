//! Addresses that may not talk to OSDs any more.

use std::collections::BTreeMap;

use crate::codec::{DecodeResult, Reader, Wire, Writer, encode_to_bytes};
use crate::types::{Addr, AddrVec, UTime};

/// Addresses and until when each is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blocklist(pub BTreeMap<Addr, UTime>);

impl Blocklist {
    /// Whether one of a peer's addresses is blocked: exactly, or by an entry for its whole host (port and nonce
    /// 0). The protocol kind does not matter. Entries that ran out are the monitor's to remove.
    pub fn blocks(&self, peer: &AddrVec) -> bool {
        let matches = |entry: &Addr, addr: &Addr| match (entry.socket_addr(), addr.socket_addr()) {
            (Some(entry_socket), Some(socket)) => {
                let whole_host = entry_socket.port() == 0 && entry.nonce == 0;
                entry_socket.ip() == socket.ip() && (whole_host || entry.nonce == addr.nonce)
            }
            _ => false,
        };
        peer.0.iter().any(|addr| self.0.keys().any(|entry| matches(entry, addr)))
    }
}

impl Wire for Blocklist {
    const BYTES_MIN: usize = 4;

    fn encode(&self, w: &mut Writer) {
        //= ceph 16.2 types: addresses sort by their bytes in memory, which are those of the encoding after the
        //= envelope and without the length
        let mut entries: Vec<_> =
            self.0.iter().map(|(addr, until)| (encode_to_bytes(addr), addr, until)).collect();
        entries.sort_by(|(a, ..), (b, ..)| in_memory(a).cmp(&in_memory(b)));
        w.count(entries.len());
        for (_, addr, until) in entries {
            w.put(addr);
            w.put(until);
        }
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.map().map(Self)
    }
}

/// Kind and nonce, then the socket address.
fn in_memory(encoded: &[u8]) -> (&[u8], &[u8]) {
    let (fixed, socket) = encoded.split_at(encoded.len().min(19));
    (&fixed[7.min(fixed.len())..15.min(fixed.len())], socket)
}
