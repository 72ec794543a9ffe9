//! What a command answers, and what it wants changed first. Pure.

use bytes::Bytes;
use serde_json::Value;

use super::Request;
use crate::render::{Format, to_text};
use crate::state::{Change, MapFull};
use wire::Errno;

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// 0, or a negated error number.
    pub code: i32,
    /// Status text; the command line prints it to its standard error.
    pub status: String,
    /// Output; the command line prints it to its standard output.
    pub output: Bytes,
}

/// A command that is not carried out, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({code})")]
pub struct Refusal {
    /// A negated error number.
    pub code: i32,
    /// For the user.
    pub text: String,
}

/// What a handler decided.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// To commit before answering; empty for nothing.
    pub changes: Vec<Change>,
    /// The answer if that succeeds.
    pub reply: Reply,
}

impl Refusal {
    /// A refusal with a positive error number.
    pub fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self { code: errno.code(), text: text.into() }
    }
}

impl From<MapFull> for Refusal {
    fn from(error: MapFull) -> Self {
        Self::new(Errno::ENOSPC, error.to_string())
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, status: refusal.text, output: Bytes::new() }
    }
}

impl Reply {
    /// Success with a status text.
    pub fn status(text: impl Into<String>) -> Self {
        Self { code: 0, status: text.into(), output: Bytes::new() }
    }

    /// Success with output as it is.
    pub fn output(output: impl Into<Bytes>) -> Self {
        Self { code: 0, status: String::new(), output: output.into() }
    }

    /// Success with text for people, or a value for programs, whichever was asked for.
    pub fn formatted(
        request: &Request,
        plain: impl FnOnce() -> String,
        value: impl FnOnce() -> Value,
    ) -> Self {
        match request.format {
            Format::Plain => Self::output(plain()),
            format => Self::output(to_text(format, &value())),
        }
    }

    /// Success with a value that has no form for people but pretty JSON.
    pub fn value(request: &Request, value: &Value) -> Self {
        let mut text = to_text(request.format, value);
        if request.format != Format::Json {
            text.push('\n');
        }
        Self::output(text)
    }

    /// The same with another status text.
    pub fn with_status(mut self, text: impl Into<String>) -> Self {
        self.status = text.into();
        self
    }
}

impl From<Reply> for Outcome {
    fn from(reply: Reply) -> Self {
        Self { changes: Vec::new(), reply }
    }
}

impl Outcome {
    /// Commit `changes`, then answer with a status text.
    pub fn commit(changes: Vec<Change>, status: impl Into<String>) -> Self {
        Self { changes, reply: Reply::status(status) }
    }
}
