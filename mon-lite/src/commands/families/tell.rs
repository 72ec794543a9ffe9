//! `ceph tell mon.X …`: commands to this monitor alone, on a connection of their own.

use serde_json::{Value, json};

use super::mon::monmap_value;
use super::shared::ELECTION_EPOCH;
use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::options::OptionInfo;
use crate::state::config::{Section, parse_entity};
use crate::state::{Change, ConfigDb};
use crate::version;
use crate::view::View;
use wire::Errno;

const VAR: Argument = Argument::new("var", Kind::String);
const VAL: Argument = Argument::new("val", Kind::String).many();
const ARGS: Argument = Argument::new("injected_args", Kind::String).many();

/// The table of `tell`.
pub const COMMANDS: &[Command] = &[
    Command::read("version", Module::Mon, &[], "show the version", show_version),
    Command::read("mon_status", Module::Mon, &[], "show the state of this monitor", mon_status),
    Command::read("quorum_status", Module::Mon, &[], "show the state of this monitor", mon_status),
    Command::read("config get", Module::Mon, &[VAR], "show an option of this monitor", config_get),
    Command::read("config show", Module::Mon, &[], "show the options of this monitor", config_show),
    Command::write("config set", Module::Mon, &[VAR, VAL], "set an option of this monitor", config_set),
    Command::write("config unset", Module::Mon, &[VAR], "let an option have its default again", config_unset),
    Command::write(
        "injectargs",
        Module::Mon,
        &[ARGS],
        "set options of this monitor, as --name=value",
        inject,
    ),
    Command::read("sessions", Module::Mon, &[], "count who is connected", sessions),
];

fn show_version(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::value(request, &version::value()).into())
}

fn mon_status(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let ranks: Vec<usize> = (0..view.ranks().len()).collect();
    let name = &view.live.monitor.name;
    let value = json!({
        "name": name,
        "rank": view.ranks().iter().position(|other| other == name),
        "state": "leader",
        "election_epoch": ELECTION_EPOCH,
        "quorum": ranks,
        "quorum_age": view.seconds_since(view.live.monitor.leading_since),
        "outside_quorum": [],
        "extra_probe_peers": [],
        "sync_provider": [],
        "monmap": monmap_value(view),
    });
    Ok(Reply::value(request, &value).into())
}

fn own_section(view: &View<'_>) -> Section {
    Section::Entity(format!("mon.{}", view.live.monitor.name))
}

fn known(name: &str) -> Result<(&'static OptionInfo, String), Refusal> {
    let name = ConfigDb::normalise(name);
    let unknown = || Refusal::new(Errno::ENOENT, format!("'{name}' is not an option of the monitor"));
    Ok((OptionInfo::find(&name).ok_or_else(unknown)?, name.clone()))
}

fn current(view: &View<'_>, option: &OptionInfo) -> String {
    let who = parse_entity(&own_section(view).to_string());
    let set = who.and_then(|who| view.state.config.effective(&who).remove(option.name));
    set.map_or_else(|| option.default.to_owned(), |(_, value)| value)
}

fn config_get(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (option, name) = known(&request.need_text("var")?)?;
    Ok(Reply::value(request, &json!({name: current(view, option)})).into())
}

fn config_show(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let all =
        crate::options::OPTIONS.iter().map(|option| (option.name.to_owned(), current(view, option).into()));
    Ok(Reply::value(request, &Value::Object(all.collect())).into())
}

fn change(view: &View<'_>, name: &str, value: Option<String>) -> Result<Change, Refusal> {
    let (option, name) = known(name)?;
    if let Some(value) = value.as_ref().filter(|value| !option.accepts(value)) {
        return Err(Refusal::new(Errno::EINVAL, format!("'{value}' is not a value of {name}")));
    }
    Ok(Change::Config { section: own_section(view), name, value })
}

fn config_set(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let value = request.list("val")?.join(" ");
    let change = change(view, &request.need_text("var")?, Some(value))?;
    let reply = Reply::value(request, &json!({"success": ""}));
    Ok(Outcome { changes: vec![change], reply })
}

fn config_unset(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let change = change(view, &request.need_text("var")?, None)?;
    let reply = Reply::value(request, &json!({"success": ""}));
    Ok(Outcome { changes: vec![change], reply })
}

fn inject(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let text = request.list("injected_args")?.join(" ");
    let mut words = text.split([' ', '=']).filter(|word| !word.is_empty());
    let mut changes = Vec::new();
    while let Some(word) = words.next() {
        let bad = || Refusal::new(Errno::EINVAL, format!("'{word}' is not --name=value"));
        let name = word.strip_prefix("--").ok_or_else(bad)?;
        changes.push(change(view, name, Some(words.next().ok_or_else(bad)?.to_owned()))?);
    }
    Ok(Outcome::commit(changes, ""))
}

fn sessions(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let one = |((kind, features), count): (&(wire::types::EntityKind, wire::types::Features), &u64)| json!({"entity_type": kind.to_string(), "features": format!("{:#x}", features.0), "num": count});
    Ok(Reply::value(request, &view.live.sessions.iter().map(one).collect()).into())
}
