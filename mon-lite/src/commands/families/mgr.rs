//! `mgr …`: there is no manager daemon, and these say so in the shape that clients expect.

use serde_json::{Value, json};

use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::render::timestamp;
use crate::view::View;
use wire::Errno;

const WHO: Argument = Argument::new("who", Kind::String).optional();
const PROPERTY: Argument = Argument::new("property", Kind::String);

pub const COMMANDS: &[Command] = &[
    Command::read("mgr stat", Module::Mgr, &[], "summarise the managers", stat),
    Command::read("mgr dump", Module::Mgr, &[], "show the manager map", dump),
    Command::read("mgr services", Module::Mgr, &[], "list services of managers", empty),
    Command::read("mgr module ls", Module::Mgr, &[], "list modules of managers", modules),
    Command::read("mgr metadata", Module::Mgr, &[WHO], "show what a manager says of itself", metadata),
    Command::read("mgr count-metadata", Module::Mgr, &[PROPERTY], "count managers by a property", empty),
    Command::read("mgr versions", Module::Mgr, &[], "count the versions of managers", empty),
    Command::read("service dump", Module::Mgr, &[], "show the service map", services),
    Command::read("service status", Module::Mgr, &[], "show the state of services", empty),
];

fn stat(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let value = json!({"epoch": 1, "available": false, "active_name": "", "num_standby": 0});
    Ok(Reply::value(request, &value).into())
}

fn dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let value = json!({
        "epoch": 1,
        "active_gid": 0,
        "active_name": "",
        "active_addrs": {"addrvec": []},
        "active_addr": ":/0",
        "active_change": timestamp(view.osd_map().created),
        "active_mgr_features": 0,
        "available": false,
        "standbys": [],
        "modules": [],
        "available_modules": [],
        "services": {},
        "always_on_modules": {},
        "last_failure_osd_epoch": 0,
        "active_clients": [],
    });
    Ok(Reply::value(request, &value).into())
}

fn modules(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let value = json!({"always_on_modules": [], "enabled_modules": [], "disabled_modules": []});
    Ok(Reply::value(request, &value).into())
}

fn metadata(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    match request.text("who")? {
        Some(who) => Err(Refusal::new(Errno::ENOENT, format!("there is no mgr.{who}"))),
        None => Ok(Reply::value(request, &json!([])).into()),
    }
}

fn services(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let value = json!({"epoch": 1, "modified": timestamp(view.osd_map().created), "services": {}});
    Ok(Reply::value(request, &value).into())
}

fn empty(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::value(request, &Value::Object(serde_json::Map::new())).into())
}
