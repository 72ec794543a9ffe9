//! Loading of test vectors.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses some of it")]

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;

fn folder() -> PathBuf {
    // The fuzzer takes this in from another package and says where the vectors are.
    let elsewhere = std::env::var_os("SPIRULA_WIRE_VECTORS").map(PathBuf::from);
    elsewhere.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"))
}

/// One vector file.
pub fn load(name: &str) -> Value {
    let path = folder().join(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All vector files of a folder, by name.
pub fn vectors_in(name: &str) -> Vec<(String, Value)> {
    let mut names: Vec<String> = fs::read_dir(folder().join(name))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file.ends_with(".json"))
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names.into_iter().map(|file| (file.clone(), load(&format!("{name}/{file}")))).collect()
}

/// Bytes written in hex.
pub fn hex(value: &Value) -> Bytes {
    unhex(text(value))
}

/// Bytes of a hex string.
pub fn unhex(text: &str) -> Bytes {
    let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}"))
}

/// A whole number.
pub fn int<T: TryFrom<i128>>(value: &Value) -> T {
    let wide = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    wide.and_then(|wide| T::try_from(wide).ok()).unwrap_or_else(|| panic!("not such a number: {value}"))
}
