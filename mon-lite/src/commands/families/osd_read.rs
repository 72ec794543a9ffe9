//! `osd …`: questions about OSDs and the map as a whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use wire::codec::encode_to_bytes;
use wire::placement::ObjectName;

use super::shared::{existing_osd, map_at_epoch, named_pool, osd_counts, osd_ids, parse_osd};
use super::status::osd_line;
use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::crush_view;
use crate::render::addrvec;
use crate::view::View;
use wire::Errno;

const EPOCH: Argument = Argument::new("epoch", Kind::Int).optional().range("0");
const ID: Argument = Argument::new("id", Kind::OsdName);
const POOL: Argument = Argument::new("pool", Kind::PoolName);
const OBJECT: Argument = Argument::new("object", Kind::ObjectName);
const NSPACE: Argument = Argument::new("nspace", Kind::String).optional();
const PROPERTY: Argument = Argument::new("property", Kind::String);

const fn read(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Osd, arguments, help, handler)
}

pub const COMMANDS: &[Command] = &[
    read("osd stat", &[], "summarise the OSDs", stat),
    read("osd ls", &[EPOCH], "list the ids of OSDs", list),
    read("osd getmap", &[EPOCH], "get the OSD map in its binary form", getmap),
    read("osd getcrushmap", &[EPOCH], "get the CRUSH map in its binary form", getcrushmap),
    read("osd getmaxosd", &[], "show the largest id that an OSD may have, plus one", getmaxosd),
    read("osd find", &[ID], "show where an OSD is", find),
    read("osd metadata", &[ID.optional()], "show what an OSD says of itself", metadata),
    read("osd count-metadata", &[PROPERTY], "count OSDs by a property", count_metadata),
    read("osd info", &[ID.optional()], "show what the map says of an OSD", info),
    read("osd map", &[POOL, OBJECT, NSPACE], "show where an object is, or would be", map_object),
    read("osd lspools", &[], "list pools", lspools),
    read(
        "osd get-require-min-compat-client",
        &[],
        "show the oldest clients that may connect",
        min_compat_client,
    ),
    read("osd erasure-code-profile ls", &[], "list erasure code profiles", profiles),
    read(
        "osd erasure-code-profile get",
        &[Argument::new("name", Kind::String)],
        "show an erasure code profile",
        profile,
    ),
];

fn stat(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let (all, up, in_) = osd_counts(map);
    let value = || {
        json!({
            "epoch": map.epoch.0,
            "num_osds": all,
            "num_up_osds": up,
            "osd_up_since": map.last_up_change.seconds,
            "num_in_osds": in_,
            "osd_in_since": map.last_in_change.seconds,
            "num_remapped_pgs": 0,
        })
    };
    Ok(Reply::formatted(request, || format!("{}; epoch: e{}\n", osd_line(view), map.epoch), value).into())
}

fn list(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_at_epoch(view, request)?;
    let text = || osd_ids(&map).map(|id| format!("{id}\n")).collect();
    Ok(Reply::formatted(request, text, || osd_ids(&map).collect()).into())
}

fn getmap(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_at_epoch(view, request)?;
    Ok(Reply::output(encode_to_bytes(&*map)).with_status(format!("got osdmap epoch {}", map.epoch)).into())
}

fn getcrushmap(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_at_epoch(view, request)?;
    Ok(Reply::output(encode_to_bytes(&*map.crush)).with_status(map.crush_version.to_string()).into())
}

fn getmaxosd(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let (epoch, max) = (map.epoch.0, map.osds.len());
    let text = || format!("max_osd = {max} in epoch {epoch}\n");
    Ok(Reply::formatted(request, text, || json!({"epoch": epoch, "max_osd": max})).into())
}

fn find(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let id = existing_osd(map, request)?;
    let osd = map.osd(id).ok_or_else(|| Refusal::new(Errno::ENOENT, format!("osd.{id} does not exist")))?;
    let mut value = json!({
        "osd": id,
        "addrs": addrvec(&osd.client_addrs),
        "osd_fsid": osd.uuid.to_string(),
    });
    if let Value::Object(object) = &mut value {
        if let Some(host) = view.state.osd_metadata.get(&id).and_then(|metadata| metadata.get("hostname")) {
            object.insert("host".into(), host.clone().into());
        }
        object.insert("crush_location".into(), json!(crush_view::location_of(&map.crush, id)));
    }
    Ok(Reply::value(request, &value).into())
}

/// What an OSD said of itself, under its id.
fn metadata_value(view: &View<'_>, id: i32) -> Value {
    let mut value = Map::new();
    value.insert("id".into(), id.into());
    let said = view.state.osd_metadata.get(&id).into_iter().flatten();
    value.extend(said.map(|(key, text)| (key.clone(), text.clone().into())));
    value.into()
}

fn metadata(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    if request.text("id")?.is_some() {
        let id = existing_osd(map, request)?;
        return Ok(Reply::value(request, &metadata_value(view, id)).into());
    }
    let all: Value = osd_ids(map).map(|id| metadata_value(view, id)).collect();
    Ok(Reply::value(request, &all).into())
}

fn count_metadata(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let property = request.need_text("property")?;
    let mut counts = BTreeMap::<&str, usize>::new();
    for id in osd_ids(view.osd_map()) {
        let value = view.state.osd_metadata.get(&id).and_then(|metadata| metadata.get(&property));
        *counts.entry(value.map_or("unknown", String::as_str)).or_default() += 1;
    }
    Ok(Reply::value(request, &json!(counts)).into())
}

fn info(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let wanted = request.text("id")?.map(|text| parse_osd(&text)).transpose()?;
    if let Some(id) = wanted {
        existing_osd(map, request)?;
        let text = || super::osd_dump::osd_line(map, id) + "\n";
        return Ok(Reply::formatted(request, text, || super::osd_dump::osd_value(map, id)).into());
    }
    let text = || osd_ids(map).map(|id| super::osd_dump::osd_line(map, id) + "\n").collect();
    Ok(Reply::formatted(request, text, || {
        osd_ids(map).map(|id| super::osd_dump::osd_value(map, id)).collect()
    })
    .into())
}

/// `[1,0]`, as sets of OSDs are written.
pub fn osd_set(osds: &[i32]) -> String {
    let ids: Vec<String> =
        osds.iter().map(|id| if *id < 0 { "NONE".to_owned() } else { id.to_string() }).collect();
    format!("[{}]", ids.join(","))
}

fn map_object(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let (id, pool) = named_pool(map, request, "pool")?;
    let (pool_name, object) = (request.need_text("pool")?, request.need_text("object")?);
    let nspace = request.text("nspace")?.unwrap_or_default();
    let name = ObjectName { name: object.as_bytes(), nspace: nspace.as_bytes(), ..ObjectName::default() };
    let mapping = wire::placement::map(map, id, name)
        .ok_or_else(|| Refusal::new(Errno::ENOENT, format!("pool '{pool_name}' does not exist")))?;
    let hash = pool.hash_object(object.as_bytes(), b"", nspace.as_bytes());
    let (raw, pg, at) = (format!("{id}.{hash:x}"), mapping.pg, mapping.at);
    let shown = if nspace.is_empty() { object.clone() } else { format!("{nspace}/{object}") };
    let text = || {
        format!(
            "osdmap e{} pool '{pool_name}' ({id}) object '{shown}' -> pg {raw} ({pg}) -> up ({}, p{}) acting ({}, p{})\n",
            map.epoch,
            osd_set(&at.up),
            at.up_primary,
            osd_set(&at.acting),
            at.acting_primary,
        )
    };
    let value = || {
        json!({
            "epoch": map.epoch.0,
            "pool": pool_name,
            "pool_id": id,
            "objname": shown,
            "raw_pgid": raw,
            "pgid": pg.to_string(),
            "up": at.up,
            "up_primary": at.up_primary,
            "acting": at.acting,
            "acting_primary": at.acting_primary,
        })
    };
    Ok(Reply::formatted(request, text, value).into())
}

fn lspools(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let names = || view.osd_map().pool_names.iter();
    let text = || names().map(|(id, name)| format!("{id} {name}\n")).collect();
    let value = || names().map(|(id, name)| json!({"poolnum": id, "poolname": name})).collect();
    Ok(Reply::formatted(request, text, value).into())
}

fn min_compat_client(view: &View<'_>, _: &Request) -> Result<Outcome, Refusal> {
    let release = super::osd_dump::release_name(view.osd_map().require_min_compat_client);
    Ok(Reply::output(format!("{release}\n")).into())
}

fn profiles(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let names = || view.osd_map().erasure_code_profiles.keys();
    let text = || names().map(|name| format!("{name}\n")).collect();
    Ok(Reply::formatted(request, text, || names().cloned().collect()).into())
}

fn profile(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let name = request.need_text("name")?;
    let unknown = || Refusal::new(Errno::ENOENT, format!("unknown erasure code profile '{name}'"));
    let profile = view.osd_map().erasure_code_profiles.get(&name).ok_or_else(unknown)?;
    let text = || profile.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    Ok(Reply::formatted(request, text, || json!(profile)).into())
}
