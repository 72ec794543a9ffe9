//! A command as it came from a client: the prefix, the arguments, the input. Pure.
//!
//! Clients are lenient with types, and so are we: numbers come as numbers or text, flags as booleans, as `"true"`
//! or as the option's own spelling, lists as lists or as one element.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Refusal;
use crate::limits::{COMMAND_BYTES_MAX, COMMAND_LIST_MAX};
use crate::render::Format;
use wire::Errno;

/// A parsed command.
#[derive(Clone, Debug)]
pub struct Request {
    /// The literal words, joined by blanks.
    pub prefix: String,
    /// How to answer.
    pub format: Format,
    /// What `-i` gave.
    pub input: Bytes,
    arguments: Map<String, Value>,
}

impl Request {
    /// Reads the JSON text of a command. Old clients send it in several pieces, which belong together.
    pub fn parse(pieces: &[String], input: Bytes) -> Result<Self, Refusal> {
        let bytes: usize = pieces.iter().map(String::len).sum();
        if bytes > COMMAND_BYTES_MAX {
            return Err(Refusal::new(Errno::E2BIG, "the command is too long"));
        }
        let bad =
            |why: &str| Refusal::new(Errno::EINVAL, format!("unparseable JSON {}: {why}", pieces.concat()));
        let parsed = serde_json::from_str(&pieces.concat()).map_err(|error| bad(&error.to_string()))?;
        let Value::Object(arguments) = parsed else { return Err(bad("it is not an object")) };
        let Some(Value::String(prefix)) = arguments.get("prefix") else {
            return Err(Refusal::new(Errno::EINVAL, "command missing prefix"));
        };
        let format = match arguments.get("format") {
            Some(Value::String(name)) => Format::parse(name),
            _ => Ok(Format::Plain),
        };
        let format = format.map_err(|error| Refusal::new(Errno::EINVAL, error.to_string()))?;
        Ok(Self { prefix: prefix.trim().to_owned(), format, input, arguments })
    }

    /// A command without arguments, for the monitor's own use and tests.
    pub fn bare(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), format: Format::Plain, input: Bytes::new(), arguments: Map::new() }
    }

    /// An optional text.
    pub fn text(&self, name: &str) -> Result<Option<String>, Refusal> {
        match self.arguments.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(Value::Bool(flag)) => Ok(Some(flag.to_string())),
            Some(Value::Array(words)) if words.iter().all(Value::is_string) => {
                Ok(Some(words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")))
            }
            Some(other) => Err(wrong(name, "text", other)),
        }
    }

    /// A text that must be there.
    pub fn need_text(&self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// An optional whole number.
    pub fn int(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.arguments.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value @ Value::Number(number)) => {
                number.as_i64().map(Some).ok_or_else(|| wrong(name, "a whole number", value))
            }
            Some(value @ Value::String(text)) => {
                text.trim().parse().map(Some).map_err(|_| wrong(name, "a whole number", value))
            }
            Some(other) => Err(wrong(name, "a whole number", other)),
        }
    }

    /// A whole number that must be there.
    pub fn need_int(&self, name: &str) -> Result<i64, Refusal> {
        self.int(name)?.ok_or_else(|| missing(name))
    }

    /// An optional number; never infinite nor NaN.
    pub fn float(&self, name: &str) -> Result<Option<f64>, Refusal> {
        let (value, number) = match self.arguments.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(value @ Value::Number(number)) => (value, number.as_f64()),
            Some(value @ Value::String(text)) => (value, text.trim().parse().ok()),
            Some(other) => (other, None),
        };
        number.filter(|number| number.is_finite()).map(Some).ok_or_else(|| wrong(name, "a number", value))
    }

    /// A number that must be there.
    pub fn need_float(&self, name: &str) -> Result<f64, Refusal> {
        self.float(name)?.ok_or_else(|| missing(name))
    }

    /// A flag; absent is false.
    pub fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.arguments.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::Number(number)) => Ok(number.as_i64() != Some(0)),
            Some(value @ Value::String(text)) => match text.as_str() {
                "true" | "yes" | "1" => Ok(true),
                "false" | "no" | "0" | "" => Ok(false),
                option if option.trim_start_matches('-').replace('-', "_") == name => Ok(true),
                _ => Err(wrong(name, "true or false", value)),
            },
            Some(other) => Err(wrong(name, "true or false", other)),
        }
    }

    /// A list of texts; absent is empty.
    pub fn list(&self, name: &str) -> Result<Vec<String>, Refusal> {
        let item = |value: &Value| match value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            other => Err(wrong(name, "a list of texts", other)),
        };
        let items: Vec<String> = match self.arguments.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(values)) => values.iter().map(item).collect::<Result<_, _>>()?,
            Some(value) => vec![item(value)?],
        };
        if items.len() > COMMAND_LIST_MAX {
            return Err(Refusal::new(
                Errno::E2BIG,
                format!("{name} has more than {COMMAND_LIST_MAX} elements"),
            ));
        }
        Ok(items)
    }
}

fn missing(name: &str) -> Refusal {
    Refusal::new(Errno::EINVAL, format!("missing required parameter {name}"))
}

fn wrong(name: &str, wanted: &str, got: &Value) -> Refusal {
    Refusal::new(Errno::EINVAL, format!("{name} must be {wanted}, not {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<Request, Refusal> {
        Request::parse(&[json.to_owned()], Bytes::new())
    }

    #[test]
    fn arguments_come_in_every_type() {
        let request = request(
            r#"{"prefix":"x","a":"12","b":12,"c":"1.5","d":true,"e":"--yes_i","yes_i":"--yes-i","l":["1",2],"m":"7"}"#,
        )
        .unwrap();
        assert_eq!((request.int("a"), request.int("b")), (Ok(Some(12)), Ok(Some(12))));
        assert_eq!(request.text("b"), Ok(Some("12".into())));
        assert_eq!((request.float("c"), request.float("b")), (Ok(Some(1.5)), Ok(Some(12.0))));
        assert_eq!(
            (request.flag("d"), request.flag("yes_i"), request.flag("none")),
            (Ok(true), Ok(true), Ok(false))
        );
        assert_eq!(request.list("l"), Ok(vec!["1".into(), "2".into()]));
        assert_eq!(request.list("m"), Ok(vec!["7".into()]));
        assert_eq!(request.need_int("e").unwrap_err().code, Errno::EINVAL.code());
        assert_eq!(request.need_text("none").unwrap_err().text, "missing required parameter none");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["", "[]", "{", "{}", r#"{"prefix":1}"#, r#"{"prefix":"status","format":"xml"}"#] {
            assert_eq!(request(bad).unwrap_err().code, Errno::EINVAL.code(), "{bad}");
        }
        let huge = format!(r#"{{"prefix":"{}"}}"#, "x".repeat(COMMAND_BYTES_MAX));
        assert_eq!(request(&huge).unwrap_err().code, Errno::E2BIG.code());
        let deep = "[".repeat(100_000);
        assert_eq!(request(&deep).unwrap_err().code, Errno::EINVAL.code());
    }
}
