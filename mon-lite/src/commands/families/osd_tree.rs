//! `osd tree` and `osd crush tree`: the hierarchy with the state of its OSDs.

use serde_json::{Map, Value, json};
use wire::crush::CrushMap;
use wire::osdmap::{Osd, OsdMap, OsdState};

use super::shared::map_at_epoch;
use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::crush_view::{self, Node};
use crate::render::{Align, Table, fixed_weight, number};
use crate::view::View;
use wire::Errno;

const EPOCH: Argument = Argument::new("epoch", Kind::Int).optional().range("0");
const STATES: Argument = Argument::choice("states", "up|down|in|out|destroyed").optional().many();
const BUCKET: Argument = Argument::new("bucket", Kind::String);
const SHADOW: Argument = Argument::choice("shadow", "--show-shadow").optional();
const NAME: Argument = Argument::new("name", Kind::String);

pub const COMMANDS: &[Command] = &[
    Command::read("osd tree", Module::Osd, &[EPOCH, STATES], "show the hierarchy of OSDs", tree),
    Command::read(
        "osd tree-from",
        Module::Osd,
        &[EPOCH, BUCKET, STATES],
        "show a part of the hierarchy",
        tree,
    ),
    Command::read("osd crush tree", Module::Osd, &[SHADOW], "show the CRUSH hierarchy", crush_tree),
    Command::read("osd ls-tree", Module::Osd, &[EPOCH, NAME], "list the OSDs below a bucket", ls_tree),
];

fn status_of(osd: Option<&Osd>) -> &'static str {
    match osd {
        Some(osd) if osd.state.contains(OsdState::DESTROYED) => "destroyed",
        Some(osd) if osd.is_up() => "up",
        Some(osd) if osd.exists() => "down",
        _ => "DNE",
    }
}

fn named_bucket(crush: &CrushMap, name: &str) -> Result<i32, Refusal> {
    let missing = || Refusal::new(Errno::ENOENT, format!("bucket '{name}' does not exist"));
    crush.item_named(name).ok_or_else(missing)
}

/// The nodes to show: all, or those that lead to an OSD in one of the states asked for.
fn nodes_of(map: &OsdMap, request: &Request) -> Result<Vec<Node>, Refusal> {
    let nodes = match request.text("bucket")? {
        Some(name) => crush_view::tree_from(&map.crush, named_bucket(&map.crush, &name)?),
        None => crush_view::tree(&map.crush),
    };
    let states = request.list("states")?;
    if states.is_empty() {
        return Ok(nodes);
    }
    let fits = |id: i32| {
        let osd = map.osd(id);
        let in_ = osd.is_some_and(Osd::is_in);
        states.iter().any(|state| match state.as_str() {
            "in" => in_,
            "out" => !in_,
            other => status_of(osd) == other,
        })
    };
    // From the last to the first a node's children come before it.
    let mut shown = std::collections::BTreeSet::new();
    for node in nodes.iter().rev() {
        let wanted = if node.id >= 0 {
            fits(node.id)
        } else {
            node.children.iter().any(|child| shown.contains(child))
        };
        if wanted {
            shown.insert(node.id);
        }
    }
    Ok(nodes.into_iter().filter(|node| shown.contains(&node.id)).collect())
}

/// Existing OSDs that are nowhere in the hierarchy.
fn stray(map: &OsdMap) -> Vec<i32> {
    super::shared::osd_ids(map).filter(|id| map.crush.parent_of(*id).is_none()).collect()
}

/// The name of a node, indented and with its type.
pub fn label(node: &Node) -> String {
    let indent = "    ".repeat(node.depth);
    if node.id >= 0 {
        format!("{indent}{}", node.name)
    } else {
        format!("{indent}{} {}", node.kind_name, node.name)
    }
}

/// A node for programs; OSDs get more from the caller.
pub fn node_value(node: &Node) -> Map<String, Value> {
    let mut value = Map::new();
    let mut put = |key: &str, entry: Value| value.insert(key.to_owned(), entry);
    put("id", node.id.into());
    if let Some(class) = &node.class {
        put("device_class", class.clone().into());
    }
    put("name", node.name.clone().into());
    put("type", node.kind_name.clone().into());
    put("type_id", node.kind.into());
    if node.id >= 0 {
        put("crush_weight", number(f64::from(node.weight) / 65536.0));
        put("depth", node.depth.into());
    }
    if node.depth > 0 {
        put("pool_weights", json!({}));
    }
    if node.id < 0 {
        put("children", node.children.iter().rev().copied().collect());
    }
    value
}

fn osd_value(map: &OsdMap, node: &Node) -> Value {
    let mut value = node_value(node);
    if node.id >= 0 {
        let osd = map.osd(node.id);
        value.insert("exists".into(), u8::from(osd.is_some_and(Osd::exists)).into());
        value.insert("status".into(), status_of(osd).into());
        value.insert("reweight".into(), number(f64::from(osd.map_or(0, |osd| osd.weight)) / 65536.0));
        value.insert("primary_affinity".into(), number(f64::from(map.affinity(node.id)) / 65536.0));
    }
    value.into()
}

fn stray_node(id: i32) -> Node {
    Node {
        id,
        name: format!("osd.{id}"),
        kind: 0,
        kind_name: "osd".to_owned(),
        depth: 0,
        weight: 0,
        class: None,
        children: Vec::new(),
    }
}

fn tree(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_at_epoch(view, request)?;
    let nodes = nodes_of(&map, request)?;
    let strays: Vec<Node> = stray(&map).into_iter().map(stray_node).collect();
    let text = || tree_text(&map, nodes.iter().chain(&strays));
    let values = |nodes: &[Node]| nodes.iter().map(|node| osd_value(&map, node)).collect::<Vec<_>>();
    Ok(Reply::formatted(request, text, || json!({"nodes": values(&nodes), "stray": values(&strays)})).into())
}

fn tree_text<'a>(map: &OsdMap, nodes: impl Iterator<Item = &'a Node>) -> String {
    use Align::{Left, Right};
    let mut table = Table::new(&[
        ("ID", Right),
        ("CLASS", Right),
        ("WEIGHT", Left),
        ("TYPE NAME", Left),
        ("STATUS", Right),
        ("REWEIGHT", Right),
        ("PRI-AFF", Right),
    ]);
    for node in nodes {
        let mut row = vec![
            node.id.to_string(),
            node.class.clone().unwrap_or_default(),
            fixed_weight(node.weight),
            label(node),
        ];
        if node.id >= 0 {
            let osd = map.osd(node.id);
            row.push(status_of(osd).to_owned());
            row.push(fixed_weight(osd.map_or(0, |osd| osd.weight)));
            row.push(fixed_weight(map.affinity(node.id)));
        }
        table.row_of(row);
    }
    table.render()
}

fn crush_tree(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    use Align::{Left, Right};
    let crush = &view.osd_map().crush;
    let mut nodes = crush_view::tree(crush);
    if request.text("shadow")?.is_some() {
        let shadows = crush.shadows();
        let children: std::collections::BTreeSet<i32> =
            crush.buckets.iter().flatten().flat_map(|bucket| &bucket.items).copied().collect();
        let tops = shadows.iter().rev().filter(|shadow| !children.contains(shadow));
        nodes.extend(tops.flat_map(|top| crush_view::tree_from(crush, *top)));
    }
    let text = || {
        let mut table = Table::new(&[("ID", Right), ("CLASS", Right), ("WEIGHT", Left), ("TYPE NAME", Left)]);
        for node in &nodes {
            let class = node.class.clone().unwrap_or_default();
            table.row([node.id.to_string(), class, fixed_weight(node.weight), label(node)]);
        }
        table.render()
    };
    let values = || nodes.iter().map(node_value).collect::<Vec<_>>();
    Ok(Reply::formatted(request, text, || json!({"nodes": values(), "stray": []})).into())
}

fn ls_tree(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = map_at_epoch(view, request)?;
    let top = named_bucket(&map.crush, &request.need_text("name")?)?;
    let nodes = crush_view::tree_from(&map.crush, top);
    let ids = || nodes.iter().map(|node| node.id).filter(|id| *id >= 0);
    let text = || ids().map(|id| format!("{id}\n")).collect();
    Ok(Reply::formatted(request, text, || ids().collect()).into())
}
