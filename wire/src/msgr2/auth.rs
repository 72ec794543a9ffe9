//! Authentication method "none": the client says who it is and is believed.

use bytes::Bytes;

use crate::codec::{DecodeResult, Reader, Writer};
use crate::msgr2::control::AuthRequest;
use crate::types::{AuthName, EntityKind};

/// Method number of "none".
pub const METHOD_NONE: u32 = 1;
/// Connection mode with checksums only.
pub const MODE_CRC: u32 = 1;
/// errno of a refused method (EOPNOTSUPP).
pub const METHOD_REFUSED: i32 = -95;

/// First byte towards monitors.
const MON_MODE: u8 = 10;
/// First byte towards all others: version of the authorizer.
const AUTHORIZER_VERSION: u8 = 1;

/// Who the client claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Name, such as `client.admin`.
    pub name: AuthName,
    /// Its id in the cluster; 0 asks a monitor for one.
    pub global_id: u64,
}

/// The request a client sends to a daemon of kind `peer`.
pub fn request(claim: &Claim, peer: EntityKind) -> AuthRequest {
    let mut w = Writer::new();
    w.u8(if peer == EntityKind::MON { MON_MODE } else { AUTHORIZER_VERSION });
    w.put(&claim.name);
    w.u64(claim.global_id);
    AuthRequest { method: METHOD_NONE, modes: vec![MODE_CRC], payload: w.finish() }
}

/// What a request's payload claims. Both first bytes are accepted everywhere: the content is the same.
pub fn claim(payload: Bytes) -> DecodeResult<Claim> {
    let mut r = Reader::new("auth none credentials", payload);
    let mode = r.u8()?;
    if mode != MON_MODE && mode != AUTHORIZER_VERSION {
        return Err(r.error("1 or 10", mode.to_string()));
    }
    Ok(Claim { name: r.get()?, global_id: r.u64()? })
}
