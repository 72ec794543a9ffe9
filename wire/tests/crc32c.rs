//! CRC-32C against Ceph's values.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

mod common;

use wire::crc::crc32c;

#[test]
fn agrees_with_ceph() {
    let vectors = common::load("crc32c.json");
    let tests = vectors["tests"].as_array().unwrap();
    assert!(tests.len() >= 18);
    for test in tests {
        let number = |key: &str| u32::from_str_radix(test[key].as_str().unwrap(), 16).unwrap();
        assert_eq!(crc32c(number("seed"), &common::hex(&test["hex"])), number("crc"), "{test}");
    }
}
