//! `df`: the use of space by device class and by pool.

use serde_json::{Map, Value, json};
use wire::types::PoolId;

use super::shared::{pool_room, ratio};
use crate::commands::{Argument, Command, Module, Outcome, Refusal, Reply, Request};
use crate::crush_view;
use crate::live::SpaceUse;
use crate::render::{Align, Table, bytes, count, number};
use crate::view::View;

const DETAIL: Argument = Argument::choice("detail", "detail").optional();

pub const COMMANDS: &[Command] =
    &[Command::read("df", Module::Mon, &[DETAIL], "show the use of space by class and by pool", df)];

/// The use of one pool, as `df` shows it.
struct PoolRow {
    id: PoolId,
    name: String,
    pg_num: u32,
    stored: u64,
    omap: u64,
    objects: u64,
    used: u64,
    max_available: u64,
    share: f64,
    quota_objects: u64,
    quota_bytes: u64,
    compressed: u64,
    compressed_original: u64,
    io: crate::live::IoCounters,
}

impl PoolRow {
    /// Bytes as clients count them. Saturates: the sums of what OSDs report are no promise.
    fn logical(&self) -> u64 {
        self.stored.saturating_add(self.omap)
    }
}

fn pool_rows(view: &View<'_>) -> Vec<PoolRow> {
    let map = view.osd_map();
    let row = |(id, pool): (&PoolId, &wire::osdmap::Pool)| {
        let held = view.live.reports.pool(*id);
        let used = held.allocated.saturating_add(held.omap_bytes);
        let max_available = pool_room(view, pool);
        PoolRow {
            id: *id,
            name: map.pool_names.get(id).cloned().unwrap_or_default(),
            pg_num: pool.pg_num,
            stored: held.bytes,
            omap: held.omap_bytes,
            objects: held.objects,
            used,
            max_available,
            share: ratio(used, used.saturating_add(max_available)),
            quota_objects: pool.quota_max_objects,
            quota_bytes: pool.quota_max_bytes,
            compressed: held.compressed,
            compressed_original: held.compressed_original,
            io: held.io,
        }
    };
    map.pools.iter().map(row).collect()
}

/// Space by device class, of OSDs that reported.
fn by_class(view: &View<'_>) -> Vec<(String, SpaceUse)> {
    let crush = &view.osd_map().crush;
    let mut classes = std::collections::BTreeMap::<String, SpaceUse>::new();
    for (osd, report) in view.live.reports.iter() {
        *classes.entry(crush_view::class_of(crush, osd).unwrap_or_default()).or_default() += report.space;
    }
    classes.into_iter().collect()
}

fn df(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let detail = request.text("detail")?.is_some();
    Ok(Reply::formatted(request, || df_text(view, detail), || df_value(view, detail)).into())
}

fn df_text(view: &View<'_>, detail: bool) -> String {
    use Align::{Left, Right};
    let mut raw = Table::new(&[
        ("CLASS", Left),
        ("SIZE", Right),
        ("AVAIL", Right),
        ("USED", Right),
        ("RAW USED", Right),
        ("%RAW USED", Right),
    ]);
    let mut line = |name: String, space: SpaceUse| {
        let used = bytes(space.used());
        let share = format!("{:.2}", space.ratio() * 100.0);
        raw.row([name, bytes(space.total), bytes(space.available), used.clone(), used, share]);
    };
    by_class(view).into_iter().for_each(|(class, space)| line(class, space));
    line("TOTAL".to_owned(), view.live.reports.space());
    let pools = if detail { pools_detail(view) } else { pools_brief(view) };
    format!("--- RAW STORAGE ---\n{} \n--- POOLS ---\n{}", raw.render(), pools.render())
}

fn percent(share: f64) -> String {
    if share * 100.0 < 0.005 { "0".to_owned() } else { format!("{:.2}", share * 100.0) }
}

fn pools_brief(view: &View<'_>) -> Table {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("POOL", Left),
        ("ID", Right),
        ("PGS", Right),
        ("STORED", Right),
        ("OBJECTS", Right),
        ("USED", Right),
        ("%USED", Right),
        ("MAX AVAIL", Right),
    ]);
    for row in pool_rows(view) {
        table.row([
            row.name.clone(),
            row.id.to_string(),
            row.pg_num.to_string(),
            bytes(row.logical()),
            count(row.objects),
            bytes(row.used),
            percent(row.share),
            bytes(row.max_available),
        ]);
    }
    table
}

fn pools_detail(view: &View<'_>) -> Table {
    use Align::{Left, Right};
    let titles = [
        "ID",
        "PGS",
        "STORED",
        "(DATA)",
        "(OMAP)",
        "OBJECTS",
        "USED",
        "(DATA)",
        "(OMAP)",
        "%USED",
        "MAX AVAIL",
        "QUOTA OBJECTS",
        "QUOTA BYTES",
        "DIRTY",
        "USED COMPR",
        "UNDER COMPR",
    ];
    let columns: Vec<_> = [("POOL", Left)].into_iter().chain(titles.map(|title| (title, Right))).collect();
    let mut table = Table::new(&columns);
    let quota = |limit: u64, text: String| if limit == 0 { "N/A".to_owned() } else { text };
    for row in pool_rows(view) {
        table.row([
            row.name.clone(),
            row.id.to_string(),
            row.pg_num.to_string(),
            bytes(row.logical()),
            bytes(row.stored),
            bytes(row.omap),
            count(row.objects),
            bytes(row.used),
            bytes(row.used - row.omap),
            bytes(row.omap),
            percent(row.share),
            bytes(row.max_available),
            quota(row.quota_objects, count(row.quota_objects)),
            quota(row.quota_bytes, bytes(row.quota_bytes)),
            "N/A".to_owned(),
            bytes(row.compressed),
            bytes(row.compressed_original),
        ]);
    }
    table
}

fn df_value(view: &View<'_>, detail: bool) -> Value {
    let space_value = |space: SpaceUse| {
        let mut value = Map::new();
        value.insert("total_bytes".into(), space.total.into());
        value.insert("total_avail_bytes".into(), space.available.into());
        value.insert("total_used_bytes".into(), space.used().into());
        value.insert("total_used_raw_bytes".into(), space.used().into());
        value.insert("total_used_raw_ratio".into(), number(space.ratio()));
        value
    };
    let mut stats = space_value(view.live.reports.space());
    let reporting = view.live.reports.iter().count();
    for key in ["num_osds", "num_per_pool_osds", "num_per_pool_omap_osds"] {
        stats.insert(key.into(), reporting.into());
    }
    let classes: Map<String, Value> =
        by_class(view).into_iter().map(|(class, space)| (class, space_value(space).into())).collect();
    let pools: Vec<Value> = pool_rows(view).iter().map(|row| pool_value(row, detail)).collect();
    json!({"stats": stats, "stats_by_class": classes, "pools": pools})
}

fn pool_value(row: &PoolRow, detail: bool) -> Value {
    let mut stats = Map::new();
    let mut put = |key: &str, value: Value| stats.insert(key.to_owned(), value);
    put("stored", (row.logical()).into());
    if detail {
        put("stored_data", row.stored.into());
        put("stored_omap", row.omap.into());
    }
    put("objects", row.objects.into());
    put("kb_used", row.used.div_ceil(1024).into());
    put("bytes_used", row.used.into());
    if detail {
        put("data_bytes_used", (row.used - row.omap).into());
        put("omap_bytes_used", row.omap.into());
    }
    put("percent_used", number(row.share));
    put("max_avail", row.max_available.into());
    if detail {
        put("quota_objects", row.quota_objects.into());
        put("quota_bytes", row.quota_bytes.into());
        put("dirty", 0.into());
        put("rd", row.io.reads.into());
        put("rd_bytes", row.io.read_bytes.into());
        put("wr", row.io.writes.into());
        put("wr_bytes", row.io.write_bytes.into());
        put("compress_bytes_used", row.compressed.into());
        put("compress_under_bytes", row.compressed_original.into());
        put("stored_raw", (row.logical()).into());
        put("avail_raw", row.max_available.into());
    }
    json!({"name": row.name, "id": row.id, "stats": stats})
}
