//! `osd df`, `osd utilization` and the like: how full OSDs are and how PGs are spread.

use serde_json::{Value, json};
use wire::osdmap::Osd;

use super::osd_tree::{label, node_value};
use super::shared::{lossy, osd_ids};
use crate::commands::{Argument, Command, Module, Outcome, Refusal, Reply, Request};
use crate::crush_view::{self, Node};
use crate::live::SpaceUse;
use crate::render::{Align, Table, bytes, fixed_weight, number};
use crate::view::View;
use wire::Errno;

const METHOD: Argument = Argument::choice("output_method", "plain|tree").optional();
const FILTER_BY: Argument = Argument::choice("filter_by", "class|name").optional();
const FILTER: Argument = Argument::new("filter", crate::commands::Kind::String).optional();

pub const COMMANDS: &[Command] = &[
    Command::read("osd df", Module::Osd, &[METHOD, FILTER_BY, FILTER], "show how full OSDs are", df),
    Command::read("osd utilization", Module::Osd, &[], "show how evenly PGs are spread", utilization),
    Command::read("osd blocked-by", Module::Osd, &[], "show which OSDs others wait for", blocked_by),
];

/// The space below a node.
fn space_of(view: &View<'_>, nodes: &[Node], node: &Node) -> SpaceUse {
    if node.id >= 0 {
        return view.live.reports.of(node.id).map_or_else(SpaceUse::default, |report| report.space);
    }
    let mut sum = SpaceUse::default();
    for child in nodes.iter().filter(|other| node.children.contains(&other.id)) {
        sum += space_of(view, nodes, child);
    }
    sum
}

/// What one line shows.
struct Row<'a> {
    node: &'a Node,
    space: SpaceUse,
    /// Use relative to the average.
    variance: f64,
}

struct Report<'a> {
    rows: Vec<Row<'a>>,
    total: SpaceUse,
    variance_min: f64,
    variance_max: f64,
    /// Standard deviation of the use in per cent.
    deviation: f64,
}

impl<'a> Report<'a> {
    fn new(view: &View<'_>, nodes: &'a [Node], shown: Vec<&'a Node>) -> Self {
        let mut total = SpaceUse::default();
        shown.iter().filter(|node| node.id >= 0).for_each(|node| total += space_of(view, nodes, node));
        let average = total.ratio();
        let variance = |space: SpaceUse| if average == 0.0 { 1.0 } else { space.ratio() / average };
        let row = |node: &'a Node| {
            let space = space_of(view, nodes, node);
            Row { node, space, variance: variance(space) }
        };
        let rows: Vec<Row<'a>> = shown.into_iter().map(row).collect();
        let osds = || rows.iter().filter(|row| row.node.id >= 0 && row.space.total > 0);
        let count = lossy(osds().count() as u64).max(1.0);
        let squares: f64 = osds().map(|row| ((row.space.ratio() - average) * 100.0).powi(2)).sum();
        let least = osds().map(|row| row.variance).fold(f64::INFINITY, f64::min);
        Self {
            total,
            variance_min: if least.is_finite() { least } else { 0.0 },
            variance_max: osds().map(|row| row.variance).fold(0.0, f64::max),
            // Rounding may leave a negative zero, which would be printed as such.
            deviation: (squares / count).sqrt().abs(),
            rows,
        }
    }
}

fn df(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let tree = request.text("output_method")?.is_some_and(|method| method == "tree");
    let by = request.text("filter_by")?;
    let filter = request.text("filter")?;
    let nodes = crush_view::tree(&view.osd_map().crush);
    let within = match (by.as_deref(), &filter) {
        (Some("name"), Some(name)) => {
            let top = view.osd_map().crush.item_named(name);
            let missing = || Refusal::new(Errno::EINVAL, format!("'{name}' is not in the CRUSH map"));
            let below = crush_view::tree_from(&view.osd_map().crush, top.ok_or_else(missing)?);
            Some(below.into_iter().map(|node| node.id).collect::<Vec<_>>())
        }
        _ => None,
    };
    let class = if by.as_deref() == Some("class") { filter } else { None };
    let fits = |node: &&Node| {
        let by_name = within.as_ref().is_none_or(|ids| ids.contains(&node.id));
        let by_class = class.is_none() || node.id < 0 || node.class == class;
        by_name && by_class && (tree || node.id >= 0)
    };
    let mut shown: Vec<&Node> = nodes.iter().filter(fits).collect();
    if !tree {
        shown.sort_by_key(|node| node.id);
    }
    let report = Report::new(view, &nodes, shown);
    Ok(Reply::formatted(request, || df_text(view, &report, tree), || df_value(view, &report)).into())
}

fn df_text(view: &View<'_>, report: &Report<'_>, tree: bool) -> String {
    use Align::{Left, Right};
    let titles = ["SIZE", "RAW USE", "DATA", "OMAP", "META", "AVAIL", "%USE", "VAR", "PGS", "STATUS"];
    let mut columns = vec![("ID", Right), ("CLASS", Right), ("WEIGHT", Left), ("REWEIGHT", Right)];
    columns.extend(titles.map(|title| (title, Right)));
    if tree {
        columns.push(("TYPE NAME", Left));
    }
    let mut table = Table::new(&columns);
    let sizes = |space: SpaceUse| {
        [space.total, space.used(), space.data, space.omap, space.metadata, space.available].map(bytes)
    };
    let share = |space: SpaceUse| format!("{:.2}", space.ratio() * 100.0);
    for Row { node, space, variance } in &report.rows {
        let osd = view.osd_map().osd(node.id);
        let mut row = vec![
            node.id.to_string(),
            node.class.clone().unwrap_or_default(),
            fixed_weight(node.weight),
            osd.map_or_else(|| "-".to_owned(), |osd| fixed_weight(osd.weight)),
        ];
        row.extend(sizes(*space));
        row.extend([share(*space), format!("{variance:.2}")]);
        row.push(if node.id >= 0 { view.live.pg_map.on_osd(node.id).to_string() } else { "-".to_owned() });
        let status = osd.map_or("", |osd| if osd.is_up() { "up" } else { "down" });
        row.push(status.to_owned());
        if tree {
            row.push(label(node));
        }
        table.row_of(row);
    }
    let mut total = vec![String::new(), String::new(), String::new(), "TOTAL".to_owned()];
    total.extend(sizes(report.total));
    total.push(share(report.total));
    table.row_of(total);
    let (least, most, deviation) = (report.variance_min, report.variance_max, report.deviation);
    format!("{}MIN/MAX VAR: {least:.2}/{most:.2}  STDDEV: {deviation:.2}\n", table.render())
}

fn df_value(view: &View<'_>, report: &Report<'_>) -> Value {
    let row = |Row { node, space, variance }: &Row<'_>| {
        let mut value = node_value(node);
        let mut put = |key: &str, entry: Value| value.insert(key.to_owned(), entry);
        let osd = view.osd_map().osd(node.id);
        put("reweight", osd.map_or(Value::from(-1), |osd| number(f64::from(osd.weight) / 65536.0)));
        put("kb", (space.total / 1024).into());
        put("kb_used", (space.used() / 1024).into());
        put("kb_used_data", (space.data / 1024).into());
        put("kb_used_omap", (space.omap / 1024).into());
        put("kb_used_meta", (space.metadata / 1024).into());
        put("kb_avail", (space.available / 1024).into());
        put("utilization", number(space.ratio() * 100.0));
        put("var", number(*variance));
        put("pgs", if node.id >= 0 { view.live.pg_map.on_osd(node.id) } else { 0 }.into());
        if node.id >= 0 {
            put("status", if osd.is_some_and(Osd::is_up) { "up" } else { "down" }.into());
        }
        Value::Object(value)
    };
    let total = report.total;
    json!({
        "nodes": report.rows.iter().map(row).collect::<Vec<_>>(),
        "stray": [],
        "summary": {
            "total_kb": total.total / 1024,
            "total_kb_used": total.used() / 1024,
            "total_kb_used_data": total.data / 1024,
            "total_kb_used_omap": total.omap / 1024,
            "total_kb_used_meta": total.metadata / 1024,
            "total_kb_avail": total.available / 1024,
            "average_utilization": number(total.ratio() * 100.0),
            "min_var": number(report.variance_min),
            "max_var": number(report.variance_max),
            "dev": number(report.deviation),
        },
    })
}

fn utilization(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let ids: Vec<i32> = osd_ids(map).filter(|id| map.osd(*id).is_some_and(Osd::is_in)).collect();
    let counts: Vec<(i32, u64)> = ids.iter().map(|id| (*id, view.live.pg_map.on_osd(*id) as u64)).collect();
    let (Some(least), Some(most)) =
        (counts.iter().min_by_key(|(_, pgs)| *pgs), counts.iter().max_by_key(|(_, pgs)| *pgs))
    else {
        return Ok(Reply::formatted(request, || "no OSD is in\n".to_owned(), || json!({})).into());
    };
    let osds = lossy(counts.len() as u64);
    let total: u64 = counts.iter().map(|(_, pgs)| pgs).sum();
    let average = lossy(total) / osds;
    let deviation =
        (counts.iter().map(|(_, pgs)| (lossy(*pgs) - average).powi(2)).sum::<f64>() / osds).sqrt();
    // Throwing PGs at OSDs by chance would give this.
    let baseline = (average * (1.0 - 1.0 / osds)).sqrt();
    let relative = |pgs: u64| if average == 0.0 { 0.0 } else { lossy(pgs) / average };
    let text = || {
        format!(
            "avg {average}\nstddev {deviation:.5} (expected baseline {baseline:.5})\n\
             min osd.{} with {} pgs ({:.5} * mean)\nmax osd.{} with {} pgs ({:.5} * mean)\n",
            least.0,
            least.1,
            relative(least.1),
            most.0,
            most.1,
            relative(most.1)
        )
    };
    let value = || {
        json!({
            "avg_pgs": number(average),
            "std_dev": number(deviation),
            "expected_baseline_std_dev": number(baseline),
            "min_osd": least.0,
            "min_osd_pgs": least.1,
            "max_osd": most.0,
            "max_osd_pgs": most.1,
        })
    };
    Ok(Reply::formatted(request, text, value).into())
}

/// With one copy of everything no OSD waits for another.
fn blocked_by(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let table = Table::new(&[("osd", Align::Right), ("num_blocked", Align::Right)]);
    Ok(Reply::formatted(request, || table.render(), || json!([])).into())
}
