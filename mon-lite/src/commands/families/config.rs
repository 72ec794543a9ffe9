//! `config …`: options of daemons and clients.

use serde_json::{Map, Value, json};

use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_VALUE_BYTES_MAX, CONFIG_VALUES_MAX};
use crate::options::{OPTIONS, OptionInfo};
use crate::render::{Align, Table};
use crate::state::config::{Section, parse_entity};
use crate::state::{Change, ConfigDb};
use crate::view::View;
use wire::Errno;

const WHO: Argument = Argument::new("who", Kind::String);
const NAME: Argument = Argument::new("name", Kind::String);
const VALUE: Argument = Argument::new("value", Kind::String);
const KEY: Argument = Argument::new("key", Kind::String);
const FORCE: Argument = Argument::new("force", Kind::Bool).optional();

pub const COMMANDS: &[Command] = &[
    Command::write("config set", Module::Config, &[WHO, NAME, VALUE, FORCE], "set an option", set),
    Command::write("config rm", Module::Config, &[WHO, NAME], "let an option have its default again", remove),
    Command::read(
        "config get",
        Module::Config,
        &[WHO, KEY.optional()],
        "show what applies to an entity",
        get,
    ),
    Command::read(
        "config show",
        Module::Config,
        &[WHO, KEY.optional()],
        "show what applies to a daemon",
        get,
    ),
    Command::read("config dump", Module::Config, &[], "show all options that are set", dump),
    Command::read("config ls", Module::Config, &[], "list the options that the monitor obeys", list),
    Command::read("config help", Module::Config, &[KEY], "describe an option", help),
    Command::read(
        "config generate-minimal-conf",
        Module::Config,
        &[],
        "make a configuration file for clients",
        minimal_conf,
    ),
];

fn section(request: &Request) -> Result<Section, Refusal> {
    let who = request.need_text("who")?;
    let bad = || {
        format!("'{who}' is not global, mon, osd, client or one of them such as osd.3; masks are not offered")
    };
    Section::parse(&who).ok_or_else(|| Refusal::new(Errno::EINVAL, bad()))
}

fn option_name(request: &Request, argument: &str) -> Result<String, Refusal> {
    let name = ConfigDb::normalise(&request.need_text(argument)?);
    let sound = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_/.".contains(&byte));
    if name.is_empty() || !sound || name.len() > CONFIG_VALUE_BYTES_MAX {
        return Err(Refusal::new(Errno::EINVAL, format!("'{name}' is not the name of an option")));
    }
    Ok(name)
}

fn set(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (section, name, value) =
        (section(request)?, option_name(request, "name")?, request.need_text("value")?);
    let config = &view.state.config;
    let bytes = config.bytes() + ConfigDb::bytes_of(&section, &name, &value);
    if value.len() > CONFIG_VALUE_BYTES_MAX || config.len() >= CONFIG_VALUES_MAX || bytes > CONFIG_BYTES_MAX {
        let text = format!(
            "at most {CONFIG_VALUES_MAX} values, {CONFIG_VALUE_BYTES_MAX} bytes each and {CONFIG_BYTES_MAX} in all are kept"
        );
        return Err(Refusal::new(Errno::ENOSPC, text));
    }
    if let Some(option) = OptionInfo::find(&name).filter(|option| !option.accepts(&value)) {
        let text = format!("'{value}' is not a value of {name}, which is a {:?}", option.kind).to_lowercase();
        return Err(Refusal::new(Errno::EINVAL, text));
    }
    if view.state.config.get(&section, &name) == Some(value.as_str()) {
        return Ok(Reply::default().into());
    }
    Ok(Outcome::commit(vec![Change::Config { section, name, value: Some(value) }], ""))
}

fn remove(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (section, name) = (section(request)?, option_name(request, "name")?);
    if view.state.config.get(&section, &name).is_none() {
        return Ok(Reply::default().into());
    }
    Ok(Outcome::commit(vec![Change::Config { section, name, value: None }], ""))
}

fn get(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let who = request.need_text("who")?;
    let unknown =
        || Refusal::new(Errno::EINVAL, format!("'{who}' is not an entity such as osd.3 or client.admin"));
    let entity = parse_entity(&who).ok_or_else(unknown)?;
    let effective = view.state.config.effective(&entity);
    if request.text("key")?.is_none() {
        return Ok(Reply::formatted(
            request,
            || {
                let rows = effective
                    .iter()
                    .map(|(name, (section, value))| [section.to_string(), name.clone(), value.clone()]);
                option_table(rows)
            },
            || {
                let one = |(name, (section, value)): (&String, &(Section, String))| {
                    (name.clone(), json!({"value": value, "section": section.to_string(), "mask": {}}))
                };
                Value::Object(effective.iter().map(one).collect::<Map<_, _>>())
            },
        )
        .into());
    }
    let key = option_name(request, "key")?;
    let set = effective.get(&key).map(|(_, value)| value.clone());
    let value = set.or_else(|| OptionInfo::find(&key).map(|option| option.default.to_owned()));
    let value = value.ok_or_else(|| Refusal::new(Errno::ENOENT, format!("'{key}' is not set for {who}")))?;
    Ok(Reply::formatted(request, || format!("{value}\n"), || json!({key.clone(): value})).into())
}

fn option_table(rows: impl Iterator<Item = [String; 3]>) -> String {
    use Align::Left;
    let columns =
        [("WHO", Left), ("MASK", Left), ("LEVEL", Left), ("OPTION", Left), ("VALUE", Left), ("RO", Left)];
    let mut table = Table::new(&columns);
    for [who, name, value] in rows {
        table.row([who, String::new(), "advanced".to_owned(), name, value, String::new()]);
    }
    table.render()
}

fn dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let all = || view.state.config.iter();
    let text =
        || option_table(all().map(|(who, name, value)| [who.to_string(), name.to_owned(), value.to_owned()]));
    let one = |(who, name, value): (&Section, &str, &str)| {
        json!({
            "section": who.to_string(),
            "name": name,
            "value": value,
            "level": "advanced",
            "can_update_at_runtime": true,
            "mask": "",
        })
    };
    Ok(Reply::formatted(request, text, || all().map(one).collect()).into())
}

fn list(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let text = || OPTIONS.iter().map(|option| format!("{}\n", option.name)).collect();
    Ok(Reply::formatted(request, text, || OPTIONS.iter().map(|option| option.name).collect()).into())
}

fn help(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let key = option_name(request, "key")?;
    let option = OptionInfo::find(&key);
    let unknown =
        || format!("'{key}' is not an option of the monitor; options of others are kept and handed on");
    let option = option.ok_or_else(|| Refusal::new(Errno::ENOENT, unknown()))?;
    let kind = format!("{:?}", option.kind).to_lowercase();
    let text =
        || format!("{key} - {}\n  ({kind}, advanced)\n  Default: {}\n", option.description, option.default);
    let value = || {
        json!({
            "name": key,
            "type": kind,
            "level": "advanced",
            "desc": option.description,
            "default": option.default,
            "can_update_at_runtime": true,
        })
    };
    Ok(Reply::formatted(request, text, value).into())
}

fn minimal_conf(view: &View<'_>, _: &Request) -> Result<Outcome, Refusal> {
    let map = view.mon_map()?;
    let hosts: Vec<String> = map.mons.values().map(|info| format!("[{}]", info.addrs)).collect();
    let text = format!(
        "# minimal ceph.conf for {fsid}\n[global]\n\tfsid = {fsid}\n\tmon_host = {}\n\
         \tauth_client_required = none\n\tauth_cluster_required = none\n\tauth_service_required = none\n",
        hosts.join(" "),
        fsid = map.fsid,
    );
    Ok(Reply::output(text).into())
}
