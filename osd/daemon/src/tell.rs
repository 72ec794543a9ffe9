//! `ceph tell osd.N …`: commands for this daemon.
//!
//! Output is JSON text, indented unless the command asks for a format. Lives on one core.

mod bench;
mod options;
mod show;
mod table;

use std::rc::Rc;

use bytes::Bytes;
use serde_json::{Map, Value};
use store::{DeviceGrowth, FsckLevel, StoreError};
use wire::Errno;
use wire::msg::{Command, CommandReply};
use wire::msgr2::Data;

use crate::limits::COMMAND_BYTES_MAX;
use crate::osd::Osd;
use crate::{defrag, fsck, memory, scrub, space};

/// What a command gives: JSON, or why not.
type Answer = Result<Value, Failure>;

/// Why a command was refused.
struct Failure {
    errno: Errno,
    text: String,
}

impl Failure {
    fn invalid(text: impl Into<String>) -> Self {
        Self { errno: Errno::EINVAL, text: text.into() }
    }
}

/// The words and arguments of a command.
struct Arguments(Map<String, Value>);

impl Arguments {
    fn parse(command: &Command) -> Result<Self, Failure> {
        let [text] = command.command.as_slice() else {
            return Err(Failure::invalid("a command is one JSON text"));
        };
        if text.len() > COMMAND_BYTES_MAX {
            return Err(Failure::invalid("the command is too long"));
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            _ => Err(Failure::invalid("the command is not a JSON object")),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A list of words, or one, as a line.
    fn words(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(word) => Some(word.clone()),
            Value::Array(words) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
                Some(words.join(" "))
            }
            other => Some(other.to_string()),
        }
    }

    /// A number, however it is written.
    fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let number = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| Failure::invalid(format!("{name} is not a number from 0 on")))
    }
}

/// Runs a command.
pub async fn run(osd: &Rc<Osd>, command: &Command) -> CommandReply {
    match answer(osd, command).await {
        Ok(output) => CommandReply { result: 0, status: String::new(), output },
        Err(Failure { errno, text }) => {
            CommandReply { result: errno.code(), status: text, output: Data::new() }
        }
    }
}

async fn answer(osd: &Rc<Osd>, command: &Command) -> Result<Data, Failure> {
    let arguments = Arguments::parse(command)?;
    let prefix = arguments.text("prefix").unwrap_or_default().to_owned();
    let value = match prefix.as_str() {
        "get_command_descriptions" => return Ok(text(table::descriptions().to_string())),
        "help" => table::help(),
        "version" => show::version(),
        "git_version" => serde_json::json!({ "git_version": "" }),
        "status" => show::status(osd),
        "perf dump" => show::counters(osd),
        "dump_ops_in_flight" | "ops" => osd.tracker.dump_in_flight(osd.core.now()),
        "dump_historic_ops" => osd.tracker.dump_newest(osd.core.now()),
        "dump_historic_ops_by_duration" | "dump_historic_slow_ops" => {
            osd.tracker.dump_slowest(osd.core.now())
        }
        "dump_mempools" => memory::dump(osd),
        "dump_blocklist" => show::blocklist(osd),
        "dump_pgs" => show::groups(osd),
        "dump_scrubs" => scrub::show(osd),
        "deep_scrub" => want_scrub(osd, &arguments)?,
        "deep_scrub_stop" => {
            osd.scrubs.stop();
            serde_json::json!({ "wanted": [] })
        }
        "fsck" => want_check(osd, &arguments)?,
        "dump_fsck" => fsck::show(osd),
        "fsck_stop" => {
            osd.checks.stop();
            serde_json::json!({ "wanted": null })
        }
        "defrag" => want_defrag(osd, &arguments)?,
        "defrag space" => {
            osd.clears.want();
            osd.defrags.wake();
            serde_json::json!({ "wanted": "space" })
        }
        "dump_defrag" => defrag::show(osd),
        "defrag_stop" => {
            osd.defrags.stop();
            osd.clears.stop();
            serde_json::json!({ "wanted": null })
        }
        "sessions" => show::sessions(osd),
        "get_mapped_pools" => show::pools(osd),
        "config show" => options::show(osd),
        "config get" => options::get(osd, &arguments)?,
        "config set" => options::set(osd, &arguments)?,
        "config unset" => options::unset(osd, &arguments)?,
        "config diff" => options::diff(osd),
        "bluestore expand" => expand(osd).await?,
        "bench" => bench::run(osd, &arguments).await?,
        _ => return Err(Failure::invalid(format!("unknown command prefix {prefix}"))),
    };
    let compact = arguments.text("format") == Some("json");
    let rendered = if compact { Ok(value.to_string()) } else { serde_json::to_string_pretty(&value) };
    match rendered {
        Ok(rendered) => Ok(text(rendered + if compact { "" } else { "\n" })),
        Err(error) => Err(Failure { errno: Errno::EIO, text: error.to_string() }),
    }
}

/// Wants the store to be checked.
fn want_check(osd: &Osd, arguments: &Arguments) -> Answer {
    let (level, name) = match arguments.text("level") {
        None | Some("metadata") => (FsckLevel::Metadata, "metadata"),
        Some("deep") => (FsckLevel::Deep, "deep"),
        Some(other) => return Err(Failure::invalid(format!("'{other}' is neither 'metadata' nor 'deep'"))),
    };
    osd.checks.want(level);
    Ok(serde_json::json!({ "wanted": name }))
}

/// Has the store take up what its devices have grown by; tells of each.
async fn expand(osd: &Osd) -> Answer {
    let grown = osd.store.grow().await.map_err(|error| {
        let errno = if matches!(error, StoreError::NoSpace(_)) { Errno::ENOSPC } else { Errno::EIO };
        Failure { errno, text: error.to_string() }
    })?;
    space::look(osd);
    let device = |device: &DeviceGrowth| {
        let DeviceGrowth { role, before, bytes } = device;
        serde_json::json!({ "role": role.name(), "before": before, "bytes": bytes })
    };
    Ok(serde_json::json!({ "devices": grown.iter().map(device).collect::<Vec<_>>() }))
}

/// Wants objects in pieces that are shorter than a threshold on average to be moved together.
fn want_defrag(osd: &Osd, arguments: &Arguments) -> Answer {
    let threshold = arguments.number("threshold")?.unwrap_or(defrag::THRESHOLD_DEFAULT);
    osd.defrags.want(threshold);
    Ok(serde_json::json!({ "wanted": threshold }))
}

/// Wants one group to be scrubbed, or all.
fn want_scrub(osd: &Osd, arguments: &Arguments) -> Answer {
    let served = osd.all_groups().into_iter().filter(|group| group.serving_since().is_some());
    let mut wanted: Vec<_> = served.map(|group| group.id()).collect();
    if let Some(one) = arguments.text("pgid") {
        wanted.retain(|pg| pg.to_string() == one);
        if wanted.is_empty() {
            let text = format!("there is no placement group {one} on osd.{}", osd.config.whoami);
            return Err(Failure { errno: Errno::ENOENT, text });
        }
    }
    wanted.iter().for_each(|pg| osd.scrubs.want(*pg));
    Ok(serde_json::json!({ "wanted": wanted.iter().map(ToString::to_string).collect::<Vec<_>>() }))
}

fn text(text: String) -> Data {
    Data::from(Bytes::from(text))
}

/// Fuzz entry: any text as a command, and what its handlers ask of it.
pub(crate) fn fuzz_arguments(input: &[u8]) {
    let command = Command {
        fsid: uuid::Uuid::nil(),
        command: vec![String::from_utf8_lossy(input).into_owned()],
        input: Data::new(),
    };
    let Ok(arguments) = Arguments::parse(&command) else { return };
    for name in ["prefix", "var", "val", "count", "size", "object_size", "format"] {
        let (text, words) = (arguments.text(name), arguments.words(name));
        assert!(text.is_none() || words.as_deref() == text);
        // A word of one byte may be written as six, and separators are added between words.
        assert!(words.is_none_or(|words| words.len() <= 8 * input.len()));
        let number = arguments.number(name);
        assert!(arguments.0.contains_key(name) || matches!(number, Ok(None)));
    }
}
