//! `config-key …`: a small store of keys and values for tools.

use serde_json::{Map, Value};

use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::limits::{CONFIG_KEY_BYTES_MAX, CONFIG_KEYS_BYTES_MAX, CONFIG_KEYS_MAX};
use crate::state::Change;
use crate::view::View;
use wire::Errno;

const KEY: Argument = Argument::new("key", Kind::String);
const VALUE: Argument = Argument::new("val", Kind::String).optional();

const fn read(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::ConfigKey, arguments, help, handler)
}

const fn write(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::write(prefix, Module::ConfigKey, arguments, help, handler)
}

pub const COMMANDS: &[Command] = &[
    write("config-key set", &[KEY, VALUE], "set a key to a value, or to the input", set),
    write("config-key put", &[KEY, VALUE], "set a key to a value, or to the input", set),
    write("config-key rm", &[KEY], "remove a key", remove),
    write("config-key del", &[KEY], "remove a key", remove),
    read("config-key get", &[KEY], "show the value of a key", get),
    read("config-key exists", &[KEY], "tell whether there is a key", exists),
    read("config-key ls", &[], "list keys", list),
    read("config-key list", &[], "list keys", list),
    read("config-key dump", &[KEY.optional()], "show keys, of a prefix, with their values", dump),
];

fn missing(key: &str) -> Refusal {
    Refusal::new(Errno::ENOENT, format!("key '{key}' doesn't exist"))
}

fn set(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let key = request.need_text("key")?;
    let value = match request.text("val")? {
        Some(text) => text.into(),
        None => request.input.clone(),
    };
    let keys = &view.state.config_keys;
    let others: usize =
        keys.iter().filter(|(other, _)| **other != key).map(|(key, value)| key.len() + value.len()).sum();
    let fits = key.len() + value.len() <= CONFIG_KEY_BYTES_MAX
        && others + key.len() + value.len() <= CONFIG_KEYS_BYTES_MAX
        && (keys.len() < CONFIG_KEYS_MAX || keys.contains_key(&key));
    if !fits {
        let text = format!(
            "at most {CONFIG_KEYS_MAX} keys, {CONFIG_KEY_BYTES_MAX} bytes each and {CONFIG_KEYS_BYTES_MAX} in all are kept"
        );
        return Err(Refusal::new(Errno::ENOSPC, text));
    }
    let status = format!("set {key}");
    Ok(Outcome::commit(vec![Change::ConfigKey { key, value: Some(value) }], status))
}

fn remove(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let key = request.need_text("key")?;
    if !view.state.config_keys.contains_key(&key) {
        return Ok(Reply::status(format!("no such key '{key}'")).into());
    }
    Ok(Outcome::commit(vec![Change::ConfigKey { key, value: None }], "key deleted"))
}

fn get(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let key = request.need_text("key")?;
    let value = view.state.config_keys.get(&key).ok_or_else(|| missing(&key))?;
    Ok(Reply::output(value.clone()).into())
}

fn exists(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let key = request.need_text("key")?;
    if !view.state.config_keys.contains_key(&key) {
        return Err(missing(&key));
    }
    Ok(Reply::status(format!("key '{key}' exists")).into())
}

fn list(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let keys: Value = view.state.config_keys.keys().cloned().collect();
    Ok(Reply::value(request, &keys).into())
}

fn dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let prefix = request.text("key")?.unwrap_or_default();
    let shown = view.state.config_keys.iter().filter(|(key, _)| key.starts_with(&prefix));
    let text = |value: &bytes::Bytes| match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("<<< binary blob of length {} >>>", value.len()),
    };
    let value: Map<String, Value> = shown.map(|(key, value)| (key.clone(), text(value).into())).collect();
    Ok(Reply::value(request, &value.into()).into())
}
