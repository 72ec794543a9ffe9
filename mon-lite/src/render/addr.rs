//! Addresses in JSON, as Ceph lays them out. Pure.

use serde_json::{Value, json};
use wire::types::{Addr, AddrVec};

/// `{"addrvec":[{"type":"v2","addr":"127.0.0.1:6800","nonce":1}]}`.
pub fn addrvec(addrs: &AddrVec) -> Value {
    let one = |addr: &Addr| json!({"type": addr.kind.to_string(), "addr": socket(addr), "nonce": addr.nonce});
    json!({"addrvec": addrs.0.iter().map(one).collect::<Vec<_>>()})
}

/// The first address without its kind: `127.0.0.1:6800/1`; `:/0` if there is none.
pub fn first_addr(addrs: &AddrVec) -> String {
    addrs.0.first().map_or_else(|| ":/0".to_owned(), bare)
}

/// An address without its kind: `127.0.0.1:6800/1`.
pub fn bare(addr: &Addr) -> String {
    format!("{}/{}", socket(addr), addr.nonce)
}

fn socket(addr: &Addr) -> String {
    addr.socket_addr().map_or_else(|| ":".to_owned(), |socket| socket.to_string())
}
