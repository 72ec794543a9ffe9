//! `osd …`: changes of the map that move no data.

use std::net::{IpAddr, SocketAddr};

use wire::osdmap::{MapFlags, Osd, OsdMap, OsdState, Ratio};
use wire::types::{Addr, AddrKind, SocketBytes, UTime};

use super::shared::{edit, existing_osd, osd_ids, parse_osd};
use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::limits::BLOCKLIST_ENTRIES_MAX;
use crate::osd_flags;
use crate::render::{bare, timestamp};
use crate::state::Change;
use crate::view::View;
use wire::Errno;

const IDS: Argument = Argument::new("ids", Kind::String).many();
const SURE: Argument = Argument::new("yes_i_really_mean_it", Kind::Bool).optional();
const DEAD: Argument = Argument::new("definitely_dead", Kind::Bool).optional();
const SET_KEY: Argument = Argument::choice(
    "key",
    "pause|noup|nodown|noout|noin|nobackfill|norebalance|norecover|noscrub|nodeep-scrub|notieragent|nosnaptrim",
);
const RATIO: Argument = Argument::new("ratio", Kind::Float).range("0.0|1.0");
const ID: Argument = Argument::new("id", Kind::OsdName);
const WEIGHT: Argument = Argument::new("weight", Kind::Float).range("0.0|1.0");
const BLOCK_OP: Argument = Argument::choice("blocklistop", "add|rm");
const BLACK_OP: Argument = Argument::choice("blacklistop", "add|rm");
const ADDR: Argument = Argument::new("addr", Kind::EntityAddr);
const EXPIRE: Argument = Argument::new("expire", Kind::Float).optional().range("0.0");

const fn write(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::write(prefix, Module::Osd, arguments, help, handler)
}

const fn read(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Osd, arguments, help, handler)
}

pub const COMMANDS: &[Command] = &[
    write("osd set", &[SET_KEY, SURE], "set a flag of the cluster", set_flag),
    write("osd unset", &[SET_KEY], "clear a flag of the cluster", unset_flag),
    write("osd pause", &[], "let all reads and writes wait", pause),
    write("osd unpause", &[], "let reads and writes go on", unpause),
    write("osd down", &[IDS, DEAD], "mark OSDs down; those that run come back", down),
    write("osd in", &[IDS], "mark OSDs in", mark_in),
    write("osd set-full-ratio", &[RATIO], "set the use at which an OSD is full", full_ratio),
    write("osd set-nearfull-ratio", &[RATIO], "set the use at which an OSD is nearly full", nearfull_ratio),
    write(
        "osd set-backfillfull-ratio",
        &[RATIO],
        "set the use at which an OSD takes no backfill",
        backfillfull_ratio,
    ),
    write("osd primary-affinity", &[ID, WEIGHT], "set how good a primary an OSD is", primary_affinity),
    write("osd blocklist", &[BLOCK_OP, ADDR, EXPIRE], "block a client, or no longer", blocklist),
    write("osd blacklist", &[BLACK_OP, ADDR, EXPIRE], "block a client, or no longer", blocklist),
    read("osd blocklist ls", &[], "list the clients that are blocked", blocklist_ls),
    read("osd blacklist ls", &[], "list the clients that are blocked", blocklist_ls),
    write("osd blocklist clear", &[], "block no client any more", blocklist_clear),
    write("osd blacklist clear", &[], "block no client any more", blocklist_clear),
];

fn flag_of(request: &Request) -> Result<(String, MapFlags), Refusal> {
    let key = request.need_text("key")?;
    let flag = osd_flags::named(&key).filter(|flag| flag.0 & MapFlags::NEW_CLUSTER.0 == 0);
    let unknown = || Refusal::new(Errno::EINVAL, format!("unrecognized flag '{key}'"));
    let flag = flag.ok_or_else(unknown)?;
    // Clients and `osd dump` know the two halves of pause by their own names.
    let shown = if key == "pause" { "pauserd,pausewr".to_owned() } else { key };
    Ok((shown, flag))
}

fn change_flags(
    view: &View<'_>,
    change: impl FnOnce(MapFlags) -> MapFlags,
    status: String,
) -> Result<Outcome, Refusal> {
    let flags = change(view.osd_map().flags);
    if flags == view.osd_map().flags {
        return Ok(Reply::status(status).into());
    }
    let changes = edit(view, |map| {
        map.flags = flags;
        Ok(())
    })?;
    Ok(Outcome::commit(changes, status))
}

fn set_flag(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (name, flag) = flag_of(request)?;
    change_flags(view, |flags| MapFlags(flags.0 | flag.0), format!("{name} is set"))
}

fn unset_flag(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (name, flag) = flag_of(request)?;
    change_flags(view, |flags| MapFlags(flags.0 & !flag.0), format!("{name} is unset"))
}

const PAUSE: MapFlags = MapFlags(MapFlags::PAUSERD.0 | MapFlags::PAUSEWR.0);

fn pause(view: &View<'_>, _: &Request) -> Result<Outcome, Refusal> {
    change_flags(view, |flags| MapFlags(flags.0 | PAUSE.0), "pauserd,pausewr is set".to_owned())
}

fn unpause(view: &View<'_>, _: &Request) -> Result<Outcome, Refusal> {
    change_flags(view, |flags| MapFlags(flags.0 & !PAUSE.0), "pauserd,pausewr is unset".to_owned())
}

/// The OSDs of `ids`: numbers, names, or `all` / `any` / `*`.
fn chosen(map: &OsdMap, request: &Request) -> Result<Vec<i32>, Refusal> {
    let mut chosen = Vec::new();
    for text in request.list("ids")? {
        if ["all", "any", "*"].contains(&text.as_str()) {
            chosen.extend(osd_ids(map));
            continue;
        }
        let id = parse_osd(&text)?;
        if !map.exists(id) {
            return Err(Refusal::new(Errno::ENOENT, format!("osd.{id} does not exist. ")));
        }
        chosen.push(id);
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// Applies `change` to the OSDs asked for, of which `fits` says whether there is anything to do.
fn change_osds(
    view: &View<'_>,
    request: &Request,
    fits: impl Fn(&Osd) -> bool,
    words: (&str, &str),
    change: impl Fn(&mut Osd),
) -> Result<Outcome, Refusal> {
    let ids = chosen(view.osd_map(), request)?;
    let (todo, done): (Vec<i32>, Vec<i32>) =
        ids.into_iter().partition(|id| view.osd_map().osd(*id).is_some_and(&fits));
    let mut status = String::new();
    done.iter().for_each(|id| status.push_str(&format!("osd.{id} is already {}. ", words.1)));
    todo.iter().for_each(|id| status.push_str(&format!("marked {} osd.{id}. ", words.0)));
    if todo.is_empty() {
        return Ok(Reply::status(status).into());
    }
    let changes = edit(view, |map| {
        let osds = (0..).zip(&mut map.osds).filter(|(id, _)| todo.contains(id));
        osds.for_each(|(_, osd)| change(osd));
        Ok(())
    })?;
    Ok(Outcome::commit(changes, status))
}

fn down(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    change_osds(view, request, Osd::is_up, ("down", "down"), |osd| {
        osd.state = osd.state.without(OsdState::UP)
    })
}

fn mark_in(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    // An OSD that is out holds nothing that the map knows of, so bringing it in moves data.
    let out = chosen(view.osd_map(), request)?
        .into_iter()
        .find(|id| !view.osd_map().osd(*id).is_some_and(Osd::is_in));
    if let Some(id) = out {
        return Err(super::refused::moves_data(&format!("marking osd.{id} in")));
    }
    change_osds(view, request, |_| false, ("in", "in"), |_| ())
}

fn change_ratio(
    view: &View<'_>,
    request: &Request,
    name: &str,
    field: fn(&mut OsdMap) -> &mut Ratio,
) -> Result<Outcome, Refusal> {
    let ratio = request.need_float("ratio")?;
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Refusal::new(Errno::EINVAL, format!("{ratio} is not between 0 and 1")));
    }
    #[expect(clippy::cast_possible_truncation, reason = "the map has single precision")]
    let changes = edit(view, |map| {
        *field(map) = Ratio::new(ratio as f32);
        if map.nearfull_ratio.get() > map.full_ratio.get() {
            let text = format!(
                "nearfull ratio {} above full ratio {}",
                map.nearfull_ratio.get(),
                map.full_ratio.get()
            );
            return Err(Refusal::new(Errno::EINVAL, text));
        }
        Ok(())
    })?;
    Ok(Outcome::commit(changes, format!("osd set-{name}-ratio {ratio}")))
}

fn full_ratio(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    change_ratio(view, request, "full", |map| &mut map.full_ratio)
}

fn nearfull_ratio(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    change_ratio(view, request, "nearfull", |map| &mut map.nearfull_ratio)
}

fn backfillfull_ratio(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    change_ratio(view, request, "backfillfull", |map| &mut map.backfillfull_ratio)
}

/// Allowed: with one copy, the choice of the primary among the copies changes nothing.
fn primary_affinity(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let id = existing_osd(view.osd_map(), request)?;
    let weight = request.need_float("weight")?;
    if !(0.0..=1.0).contains(&weight) {
        return Err(Refusal::new(Errno::EINVAL, format!("{weight} is not between 0 and 1")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 65536")]
    let fixed = (weight * 65536.0) as u32;
    let changes = edit(view, |map| {
        let osds = map.osds.len();
        map.primary_affinity.resize(osds, wire::osdmap::AFFINITY_DEFAULT);
        let slot = usize::try_from(id).ok().and_then(|index| map.primary_affinity.get_mut(index));
        if let Some(slot) = slot {
            *slot = fixed;
        }
        Ok(())
    })?;
    Ok(Outcome::commit(changes, format!("set osd.{id} primary-affinity to {weight} ({fixed:x})")))
}

/// An address as commands have it: `127.0.0.1:0/4242`, perhaps with `v2:` or `any:` before it, or without the nonce.
fn parse_addr(text: &str) -> Result<Addr, Refusal> {
    let bad = || Refusal::new(Errno::EINVAL, format!("'{text}' is not an address such as 127.0.0.1:0/4242"));
    let (kind, rest) = match text.split_once(':') {
        Some(("v1", rest)) => (AddrKind::LEGACY, rest),
        Some(("v2", rest)) => (AddrKind::MSGR2, rest),
        Some(("any", rest)) => (AddrKind::ANY, rest),
        _ => (AddrKind::ANY, text),
    };
    let (socket, nonce) = rest.split_once('/').unwrap_or((rest, "0"));
    let nonce = nonce.parse().map_err(|_| bad())?;
    // A bare host means every port of it.
    let host = |_| socket.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    let socket = socket.parse::<SocketAddr>().or_else(host).map_err(|_| bad())?;
    Ok(Addr { kind, nonce, socket: SocketBytes::from(socket) })
}

const BLOCK_SECONDS_DEFAULT: f64 = 3600.0;

fn blocklist(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let addr = parse_addr(&request.need_text("addr")?)?;
    let op = match request.text("blocklistop")? {
        Some(op) => op,
        None => request.need_text("blacklistop")?,
    };
    let shown = bare(&addr);
    match op.as_str() {
        "add" => {
            let seconds =
                request.float("expire")?.filter(|seconds| *seconds > 0.0).unwrap_or(BLOCK_SECONDS_DEFAULT);
            if view.osd_map().blocklist.0.len() >= BLOCKLIST_ENTRIES_MAX {
                return Err(Refusal::new(
                    Errno::ENOSPC,
                    format!("{BLOCKLIST_ENTRIES_MAX} clients are blocked already"),
                ));
            }
            let until = later(view.now, seconds);
            let changes = edit(view, |map| {
                map.blocklist.0.insert(addr, until);
                Ok(())
            })?;
            Ok(Outcome::commit(
                changes,
                format!("blocklisting {shown} until {} ({seconds} sec)", timestamp(until)),
            ))
        }
        "rm" => {
            let found = view
                .osd_map()
                .blocklist
                .0
                .keys()
                .find(|other| other.socket_addr() == addr.socket_addr() && other.nonce == addr.nonce);
            let Some(found) = found.cloned() else {
                return Ok(Reply::status(format!("{shown} isn't blocklisted")).into());
            };
            let changes = edit(view, |map| {
                map.blocklist.0.remove(&found);
                Ok(())
            })?;
            Ok(Outcome::commit(changes, format!("un-blocklisting {shown}")))
        }
        other => Err(Refusal::new(Errno::EINVAL, format!("'{other}' is neither add nor rm"))),
    }
}

fn later(now: UTime, seconds: f64) -> UTime {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturates")]
    let nanoseconds = (seconds * 1e9) as u64;
    UTime::from_nanoseconds(now.as_nanoseconds().saturating_add(nanoseconds))
}

fn blocklist_ls(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let entries = || view.osd_map().blocklist.0.iter();
    let text = || entries().map(|(addr, until)| format!("{} {}\n", bare(addr), timestamp(*until))).collect();
    let value = || {
        entries()
            .map(|(addr, until)| serde_json::json!({"addr": bare(addr), "until": timestamp(*until)}))
            .collect()
    };
    let count = entries().count();
    Ok(Reply::formatted(request, text, value).with_status(format!("listed {count} entries")).into())
}

fn blocklist_clear(view: &View<'_>, _: &Request) -> Result<Outcome, Refusal> {
    let status = " removed all blocklist entries";
    if view.osd_map().blocklist.0.is_empty() {
        return Ok(Reply::status(status).into());
    }
    let changes: Vec<Change> = edit(view, |map| {
        map.blocklist.0.clear();
        Ok(())
    })?;
    Ok(Outcome::commit(changes, status))
}
