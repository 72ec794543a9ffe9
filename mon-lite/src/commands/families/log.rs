//! `log`: the cluster log.

use serde_json::{Value, json};
use wire::msg::{LogEntry, LogPriority};
use wire::types::{AuthName, EntityKind, EntityName};

use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::render::{addrvec, first_addr, timestamp};
use crate::state::{Change, cluster_log};
use crate::view::View;
use wire::Errno;

const NUM: Argument = Argument::new("num", Kind::Int).optional().range("1");
const LEVEL: Argument = Argument::choice("level", "debug|info|sec|warn|error").optional();
const CHANNEL: Argument = Argument::choice("channel", "*|cluster|audit|cephadm").optional();
const TEXT: Argument = Argument::new("logtext", Kind::String).many();

pub const COMMANDS: &[Command] = &[
    Command::read(
        "log last",
        Module::Mon,
        &[NUM, LEVEL, CHANNEL],
        "show the newest entries of the log",
        last,
    ),
    Command::write("log", Module::Mon, &[TEXT], "write a line into the cluster log", add),
];

const LINES_DEFAULT: i64 = 20;

fn last(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let wanted = usize::try_from(request.int("num")?.unwrap_or(LINES_DEFAULT).max(0)).unwrap_or(usize::MAX);
    let level = request.text("level")?.unwrap_or_else(|| "info".to_owned());
    let level = cluster_log::priority_named(&level)
        .ok_or_else(|| Refusal::new(Errno::EINVAL, format!("unknown level '{level}'")))?;
    let channel = request.text("channel")?.unwrap_or_else(|| "*".to_owned());
    let fits = |entry: &&LogEntry| entry.priority >= level && (channel == "*" || entry.channel == channel);
    let log = &view.state.cluster_log;
    let mut entries: Vec<&LogEntry> =
        log.iter().rev().map(|(_, entry)| entry).filter(fits).take(wanted).collect();
    entries.reverse();
    let text = || entries.iter().map(|entry| cluster_log::line(entry) + "\n").collect();
    Ok(Reply::formatted(request, text, || entries.iter().map(|entry| value(entry)).collect()).into())
}

fn value(entry: &LogEntry) -> Value {
    json!({
        "rank": entry.rank.to_string(),
        "addrs": addrvec(&entry.addrs),
        "addr": first_addr(&entry.addrs),
        "name": entry.name.to_string(),
        "stamp": timestamp(entry.stamp),
        "seq": entry.seq,
        "channel": entry.channel,
        "priority": cluster_log::tag(entry.priority),
        "message": entry.text,
    })
}

fn add(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let entry = LogEntry {
        // Who asked is not known here without authentication; administrators are whom it is for.
        name: AuthName { kind: EntityKind::CLIENT, id: "admin".to_owned() },
        rank: EntityName::new(EntityKind::CLIENT, 0),
        addrs: view.live.monitor.addrs.clone(),
        stamp: view.now,
        seq: view.state.cluster_log.version() + 1,
        priority: LogPriority::INFO,
        text: request.list("logtext")?.join(" "),
        channel: "cluster".to_owned(),
    };
    Ok(Outcome::commit(vec![Change::Log(cluster_log::bounded(entry))], ""))
}
