//! What several families need: finding things by name, and sums over maps.

use std::sync::Arc;

use serde_json::{Map, Value};
use wire::osdmap::{Osd, OsdMap, Pool};
use wire::types::{Epoch, PoolId};

use crate::commands::{Refusal, Request};
use crate::crush_view;
use crate::live::IoRates;
use crate::render::bytes;
use crate::state::Change;
use crate::view::View;
use wire::Errno;

/// Elections end at odd numbers in Ceph; a monitor alone has had one.
pub const ELECTION_EPOCH: u32 = 3;

/// Existing OSDs, those that are up, those that are in.
pub fn osd_counts(map: &OsdMap) -> (usize, usize, usize) {
    let count = |wanted: fn(&Osd) -> bool| map.osds.iter().filter(|osd| wanted(osd)).count();
    (count(Osd::exists), count(Osd::is_up), count(Osd::is_in))
}

/// Ids of the OSDs that exist.
pub fn osd_ids(map: &OsdMap) -> impl Iterator<Item = i32> {
    (0..).zip(&map.osds).filter(|(_, osd)| osd.exists()).map(|(id, _)| id)
}

/// An OSD from `3` or `osd.3`.
pub fn parse_osd(text: &str) -> Result<i32, Refusal> {
    let id = text.strip_prefix("osd.").unwrap_or(text).parse().ok().filter(|id| *id >= 0);
    id.ok_or_else(|| Refusal::new(Errno::EINVAL, format!("'{text}' is not an osd id such as 3 or osd.3")))
}

/// The argument `id`, an OSD that exists.
pub fn existing_osd(map: &OsdMap, request: &Request) -> Result<i32, Refusal> {
    let id = parse_osd(&request.need_text("id")?)?;
    if !map.exists(id) {
        return Err(Refusal::new(Errno::ENOENT, format!("osd.{id} does not exist")));
    }
    Ok(id)
}

/// The argument `name`, a pool that exists.
pub fn named_pool<'a>(map: &'a OsdMap, request: &Request, name: &str) -> Result<(PoolId, &'a Pool), Refusal> {
    let pool = request.need_text(name)?;
    let unknown = || Refusal::new(Errno::ENOENT, format!("unrecognized pool '{pool}'"));
    let id = map.pool_id(&pool).ok_or_else(unknown)?;
    Ok((id, map.pools.get(&id).ok_or_else(unknown)?))
}

/// The map of the argument `epoch`, or the newest.
pub fn map_at_epoch(view: &View<'_>, request: &Request) -> Result<Arc<OsdMap>, Refusal> {
    let Some(epoch) = request.int("epoch")? else { return Ok(view.osd_map().clone()) };
    let map = u32::try_from(epoch).ok().and_then(|epoch| view.state.osd_maps.full(Epoch(epoch)));
    map.ok_or_else(|| Refusal::new(Errno::ENOENT, format!("there is no map for epoch {epoch}")))
}

/// A change of the OSD map.
pub fn edit(
    view: &View<'_>,
    edit: impl FnOnce(&mut OsdMap) -> Result<(), Refusal>,
) -> Result<Vec<Change>, Refusal> {
    Ok(vec![view.state.osd_maps.edit(view.now, edit)?])
}

/// A change of one pool, which exists.
pub fn edit_pool(
    view: &View<'_>,
    id: PoolId,
    change: impl FnOnce(&mut Pool) -> Result<(), Refusal>,
) -> Result<Vec<Change>, Refusal> {
    edit(view, |map| match map.pools.get_mut(&id) {
        Some(pool) => change(pool),
        None => Err(Refusal::new(Errno::ENOENT, format!("pool {id} does not exist"))),
    })
}

/// Bytes that can still be written to a pool: its OSDs fill evenly by weight, until the first is at the full ratio.
pub fn pool_room(view: &View<'_>, pool: &Pool) -> u64 {
    let map = view.osd_map();
    let rule =
        map.crush.find_rule(pool.crush_rule, pool.kind, pool.size).and_then(|rule| map.crush.rule(rule));
    let Some(rule) = rule else { return 0 };
    let take = rule.steps.iter().find(|step| step.op == wire::crush::Step::TAKE).map(|step| step.arg1);
    let nodes = take.map(|root| crush_view::tree_from(&map.crush, root)).unwrap_or_default();
    let in_use = |node: &&crush_view::Node| node.id >= 0 && map.osd(node.id).is_some_and(Osd::is_in);
    let osds: Vec<(i32, u64)> =
        nodes.iter().filter(in_use).map(|node| (node.id, u64::from(node.weight))).collect();
    let weights: u64 = osds.iter().map(|(_, weight)| weight).sum();
    let full = f64::from(map.full_ratio.get());
    let room = |(osd, weight): &(i32, u64)| {
        let space = view.live.reports.of(*osd)?.space;
        let reserved = lossy(space.total) * (1.0 - full);
        let usable = (lossy(space.available) - reserved).max(0.0);
        (*weight > 0).then(|| usable * lossy(weights) / lossy(*weight))
    };
    let least = osds.iter().map(room).try_fold(f64::INFINITY, |least, room| Some(least.min(room?)));
    // An OSD that has not reported yet says nothing; so nothing is promised.
    least.filter(|room| room.is_finite()).map_or(0, |room| truncate(room / f64::from(pool.size.max(1))))
}

/// `2.7 KiB/s rd, 1 MiB/s wr, 3 op/s rd, 250 op/s wr`, of what is not zero.
pub fn traffic_text(rates: IoRates) -> String {
    let parts = [
        (rates.read_bytes, format!("{}/s rd", bytes(rates.read_bytes))),
        (rates.write_bytes, format!("{}/s wr", bytes(rates.write_bytes))),
        (rates.reads, format!("{} op/s rd", crate::render::count(rates.reads))),
        (rates.writes, format!("{} op/s wr", crate::render::count(rates.writes))),
    ];
    let some = parts.into_iter().filter(|(rate, _)| *rate > 0).map(|(_, text)| text);
    some.collect::<Vec<_>>().join(", ")
}

/// The same for programs; empty if nothing is going on.
pub fn traffic_value(rates: IoRates) -> Map<String, Value> {
    let parts = [
        ("read_bytes_sec", rates.read_bytes),
        ("write_bytes_sec", rates.write_bytes),
        ("read_op_per_sec", rates.reads),
        ("write_op_per_sec", rates.writes),
    ];
    if rates == IoRates::default() {
        return Map::new();
    }
    parts.into_iter().map(|(key, rate)| (key.to_owned(), rate.into())).collect()
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
pub fn lossy(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturates")]
fn truncate(value: f64) -> u64 {
    value as u64
}

/// `part / whole`, 0 of nothing.
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { lossy(part) / lossy(whole) }
}
