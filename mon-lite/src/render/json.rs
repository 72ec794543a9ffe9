//! Formats of an answer, and JSON as Ceph lays it out. Pure.

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// What the client asked for in `format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    #[default]
    Plain,
    /// JSON in one line.
    Json,
    /// JSON over several lines.
    JsonPretty,
}

/// The client asked for a format that is not offered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("format '{0}' is not supported, use plain, json or json-pretty")]
pub struct UnknownFormat(pub String);

impl Format {
    /// Reads the name of a format.
    pub fn parse(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "" | "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "json-pretty" => Ok(Self::JsonPretty),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// JSON text of `value`. Plain means pretty: several commands know nothing else.
pub fn to_text(format: Format, value: &Value) -> String {
    if format == Format::Json {
        return value.to_string();
    }
    let mut out = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    match value.serialize(&mut serializer) {
        Ok(()) => String::from_utf8_lossy(&out).into_owned(),
        Err(error) => unreachable!("a JSON value is written to memory: {error}"),
    }
}

/// A JSON number, whole if it is; one that JSON cannot say becomes 0.
#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
pub fn number(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        return Value::from(value as i64);
    }
    serde_json::Number::from_f64(value).map_or(Value::from(0), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pretty_indents_by_four_and_keeps_the_order() {
        let value = json!({"epoch": 4, "available": true, "modules": []});
        let pretty = "{\n    \"epoch\": 4,\n    \"available\": true,\n    \"modules\": []\n}";
        assert_eq!(to_text(Format::JsonPretty, &value), pretty);
        assert_eq!(to_text(Format::Json, &value), "{\"epoch\":4,\"available\":true,\"modules\":[]}");
    }

    #[test]
    fn numbers_are_whole_if_they_can_be() {
        assert_eq!(number(1.0).to_string(), "1");
        assert_eq!(number(0.5).to_string(), "0.5");
        assert_eq!(number(f64::NAN).to_string(), "0");
    }
}
