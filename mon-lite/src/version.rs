//! What we call ourselves. Pure.

use serde_json::{Value, json};

/// Name of the release of Ceph whose protocol we speak.
pub const RELEASE_NAME: &str = "pacific";

/// For `ceph versions` and metadata.
pub const TEXT: &str = concat!("spirula ", env!("CARGO_PKG_VERSION"), " (speaks ceph 16.2 pacific)");

/// The answer to `version`.
pub fn value() -> Value {
    json!({"version": env!("CARGO_PKG_VERSION"), "release": RELEASE_NAME, "release_type": "stable"})
}
