//! `pg …`: placement groups, as the map places them and as their OSDs report them.

use serde_json::{Value, json};
use wire::placement::Mapping;
use wire::types::{PgId, PoolId};

use super::osd_read::osd_set;
use super::shared::{named_pool, parse_osd};
use super::status::{Totals, usage};
use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::render::{Align, Table, bytes, timestamp};
use crate::view::View;
use wire::Errno;

const CONTENTS: Argument =
    Argument::choice("dumpcontents", "all|summary|sum|delta|pools|osds|pgs|pgs_brief").optional().many();
const PGID: Argument = Argument::new("pgid", Kind::PgId);
const POOL: Argument = Argument::new("pool", Kind::Int).optional();
const POOL_NAME: Argument = Argument::new("poolstr", Kind::String);
const OSD: Argument = Argument::new("osd", Kind::OsdName);
const STATES: Argument = Argument::new("states", Kind::String).optional().many();
const STUCK: Argument =
    Argument::choice("stuckops", "inactive|unclean|stale|undersized|degraded").optional().many();

const fn read(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Pg, arguments, help, handler)
}

pub const COMMANDS: &[Command] = &[
    read("pg stat", &[], "summarise the placement groups", stat),
    read("pg dump", &[CONTENTS], "show all placement groups", dump),
    read("pg ls", &[POOL, STATES], "list placement groups", ls),
    read("pg ls-by-pool", &[POOL_NAME, STATES], "list the placement groups of a pool", ls),
    read("pg ls-by-primary", &[OSD, POOL, STATES], "list the placement groups that an OSD leads", ls),
    read("pg ls-by-osd", &[OSD, POOL, STATES], "list the placement groups of an OSD", ls),
    read("pg dump_stuck", &[STUCK], "show placement groups that do not serve", dump_stuck),
    read("pg map", &[PGID], "show where a placement group is", map_pg),
];

fn states_text(view: &View<'_>) -> String {
    let parts: Vec<String> =
        view.pg_states().iter().map(|(state, count)| format!("{count} {state}")).collect();
    parts.join(", ")
}

fn stat(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let totals = Totals::of(view);
    let text = || {
        let (pgs, states) = (view.live.pg_map.len(), states_text(view));
        format!("{pgs} pgs: {states}; {} data, {}\n", bytes(totals.bytes), usage(totals.space))
    };
    let value = || {
        let states: Vec<Value> =
            view.pg_states().iter().map(|(state, count)| json!({"name": state, "num": count})).collect();
        json!({
            "pg_ready": true,
            "pg_summary": {
                "num_pg_by_state": states,
                "num_pgs": view.live.pg_map.len(),
                "num_bytes": totals.bytes,
                "total_bytes": totals.space.total,
                "total_avail_bytes": totals.space.available,
                "total_used_bytes": totals.space.used(),
                "total_used_raw_bytes": totals.space.used(),
            },
        })
    };
    Ok(Reply::formatted(request, text, value).into())
}

/// One placement group as lists show it.
struct Row<'a> {
    pg: PgId,
    state: &'a str,
    objects: i64,
    bytes: i64,
    version: String,
    mapping: &'a Mapping,
}

fn rows<'a>(view: &View<'a>, fits: impl Fn(PgId, &Mapping) -> bool) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (pg, mapping) in view.live.pg_map.iter().filter(|(pg, mapping)| fits(*pg, mapping)) {
        let report = view.live.reports.of(mapping.acting_primary).and_then(|report| report.pgs.get(&pg));
        rows.push(Row {
            pg,
            state: view.pg_state(pg),
            objects: report.map_or(0, |report| report.objects),
            bytes: report.map_or(0, |report| report.bytes),
            version: report
                .map_or_else(|| "0'0".to_owned(), |r| format!("{}'{}", r.version_epoch, r.version)),
            mapping,
        });
    }
    rows
}

fn row_value(row: &Row<'_>) -> Value {
    json!({
        "pgid": row.pg.to_string(),
        "version": row.version,
        "state": row.state,
        "stat_sum": {"num_bytes": row.bytes, "num_objects": row.objects},
        "up": row.mapping.up,
        "acting": row.mapping.acting,
        "up_primary": row.mapping.up_primary,
        "acting_primary": row.mapping.acting_primary,
    })
}

fn table(rows: &[Row<'_>], brief: bool) -> String {
    use Align::{Left, Right};
    let place = [("UP", Left), ("UP_PRIMARY", Right), ("ACTING", Left), ("ACTING_PRIMARY", Right)];
    let mut columns = vec![("PG", Left)];
    if brief {
        columns[0].0 = "PG_STAT";
    } else {
        columns.extend([("OBJECTS", Right), ("BYTES", Right), ("VERSION", Right)]);
    }
    columns.push(("STATE", Left));
    columns.extend(place);
    let mut table = Table::new(&columns);
    for row in rows {
        let mut cells = vec![row.pg.to_string()];
        if !brief {
            cells.extend([row.objects.to_string(), row.bytes.to_string(), row.version.clone()]);
        }
        cells.push(row.state.to_owned());
        cells.extend([osd_set(&row.mapping.up), row.mapping.up_primary.to_string()]);
        cells.extend([osd_set(&row.mapping.acting), row.mapping.acting_primary.to_string()]);
        table.row_of(cells);
    }
    table.render()
}

fn ls(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let pool: Option<PoolId> = match request.text("poolstr")? {
        Some(_) => Some(named_pool(view.osd_map(), request, "poolstr")?.0),
        None => request.int("pool")?,
    };
    let osd = request.text("osd")?.map(|text| parse_osd(&text)).transpose()?;
    let states = request.list("states")?;
    let primary_only = request.prefix == "pg ls-by-primary";
    let on_osd = |mapping: &Mapping| match osd {
        None => true,
        Some(osd) if primary_only => mapping.acting_primary == osd,
        Some(osd) => mapping.acting.contains(&osd),
    };
    let mut rows = rows(view, |pg, mapping| pool.is_none_or(|pool| pool == pg.pool) && on_osd(mapping));
    let has = |row: &Row<'_>, state: &String| row.state.split('+').any(|part| part == state);
    rows.retain(|row| states.is_empty() || states.iter().any(|state| state == "all" || has(row, state)));
    let value = || json!({"pg_ready": true, "pg_stats": rows.iter().map(row_value).collect::<Vec<_>>()});
    Ok(Reply::formatted(request, || table(&rows, false), value).into())
}

fn dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let contents = request.list("dumpcontents")?;
    let rows = rows(view, |_, _| true);
    let brief = contents.iter().any(|part| part == "pgs_brief");
    let wants =
        |part: &str| contents.is_empty() || contents.iter().any(|other| other == part || other == "all");
    let text = || {
        let mut text = String::new();
        if !brief {
            text.push_str(&format!("version {}\nstamp {}\n", view.osd_map().epoch, timestamp(view.now)));
        }
        if brief || wants("pgs") {
            text.push_str(&table(&rows, brief));
        }
        if wants("pools") {
            text.push_str(&pool_sums(view));
        }
        if wants("osds") {
            text.push_str(&osd_sums(view));
        }
        text
    };
    let value = || {
        let pgs: Vec<Value> = rows.iter().map(row_value).collect();
        if brief {
            return json!({"pg_ready": true, "pg_stats": pgs});
        }
        json!({
            "pg_ready": true,
            "pg_map": {
                "version": view.osd_map().epoch.0,
                "stamp": timestamp(view.now),
                "pg_stats": pgs,
                "pool_stats": pool_values(view),
                "osd_stats": osd_values(view),
            },
        })
    };
    Ok(Reply::formatted(request, text, value).with_status("dumped ".to_owned() + &dumped(&contents)).into())
}

fn dumped(contents: &[String]) -> String {
    if contents.is_empty() { "all".to_owned() } else { contents.join(",") }
}

fn pool_sums(view: &View<'_>) -> String {
    use Align::Right;
    let mut table =
        Table::new(&[("POOLID", Right), ("OBJECTS", Right), ("BYTES", Right), ("OMAP_BYTES", Right)]);
    for id in view.osd_map().pools.keys() {
        let used = view.live.reports.pool(*id);
        table.row([
            id.to_string(),
            used.objects.to_string(),
            used.bytes.to_string(),
            used.omap_bytes.to_string(),
        ]);
    }
    table.render()
}

fn osd_sums(view: &View<'_>) -> String {
    use Align::Right;
    let mut table = Table::new(&[
        ("OSD_STAT", Right),
        ("USED", Right),
        ("AVAIL", Right),
        ("TOTAL", Right),
        ("PG_SUM", Right),
    ]);
    for (osd, report) in view.live.reports.iter() {
        let space = report.space;
        let pgs = view.live.pg_map.on_osd(osd).to_string();
        table.row([osd.to_string(), bytes(space.used()), bytes(space.available), bytes(space.total), pgs]);
    }
    table.render()
}

fn pool_values(view: &View<'_>) -> Vec<Value> {
    let one = |id: &PoolId| {
        let used = view.live.reports.pool(*id);
        json!({
            "poolid": id,
            "num_pg": view.osd_map().pools.get(id).map_or(0, |pool| pool.pg_num),
            "stat_sum": {"num_bytes": used.bytes, "num_objects": used.objects, "num_omap_bytes": used.omap_bytes},
        })
    };
    view.osd_map().pools.keys().map(one).collect()
}

fn osd_values(view: &View<'_>) -> Vec<Value> {
    let one = |(osd, report): (i32, &crate::live::OsdReport)| {
        let space = report.space;
        json!({
            "osd": osd,
            "num_pgs": view.live.pg_map.on_osd(osd),
            "kb": space.total / 1024,
            "kb_used": space.used() / 1024,
            "kb_used_data": space.data / 1024,
            "kb_used_omap": space.omap / 1024,
            "kb_used_meta": space.metadata / 1024,
            "kb_avail": space.available / 1024,
        })
    };
    view.live.reports.iter().map(one).collect()
}

fn dump_stuck(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let idle = |pg: PgId, _: &Mapping| !crate::health::is_active(view.pg_state(pg));
    let rows = rows(view, idle);
    let text = || if rows.is_empty() { String::new() } else { table(&rows, true) };
    let value = || json!({"stuck_pg_stats": rows.iter().map(row_value).collect::<Vec<_>>()});
    let status = if rows.is_empty() { "ok" } else { "" };
    Ok(Reply::formatted(request, text, value).with_status(status).into())
}

/// A placement group from `1.2f`.
fn parse_pg(text: &str) -> Option<PgId> {
    let (pool, seed) = text.split_once('.')?;
    Some(PgId::new(pool.parse().ok()?, u32::from_str_radix(seed, 16).ok()?))
}

fn map_pg(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let text = request.need_text("pgid")?;
    let bad = || Refusal::new(Errno::EINVAL, format!("'{text}' is not a placement group such as 1.2f"));
    let pg = parse_pg(&text).ok_or_else(bad)?;
    let map = view.osd_map();
    let pool = map.pools.get(&pg.pool);
    let pool = pool.ok_or_else(|| Refusal::new(Errno::ENOENT, format!("pg '{text}' does not exist")))?;
    let folded = pool.pg_of_hash(pg.pool, pg.seed);
    let at = wire::placement::map_pg(map, folded);
    let line = || {
        let (up, acting) = (osd_set(&at.up), osd_set(&at.acting));
        format!("osdmap e{} pg {pg} ({folded}) -> up {up} acting {acting}\n", map.epoch)
    };
    let value = || {
        json!({
            "epoch": map.epoch.0,
            "raw_pgid": pg.to_string(),
            "pgid": folded.to_string(),
            "up": at.up,
            "acting": at.acting,
        })
    };
    Ok(Reply::formatted(request, line, value).into())
}
