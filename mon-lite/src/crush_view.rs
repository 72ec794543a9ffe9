//! The CRUSH hierarchy as people look at it: an indented tree, without shadows. Pure.

use std::collections::{BTreeMap, BTreeSet};

use wire::crush::{Algorithm, Bucket, CrushMap};
use wire::osdmap::OsdMap;

/// Deepest hierarchy that is shown; a map of ours has four levels.
const DEPTH_MAX: usize = 32;

/// One line of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Bucket, below 0, or OSD.
    pub id: i32,
    /// Name.
    pub name: String,
    /// Number of its type.
    pub kind: u16,
    /// Name of its type.
    pub kind_name: String,
    /// 0 for a root.
    pub depth: usize,
    /// In its parent, 16.16; of a root, the sum.
    pub weight: u32,
    /// Class of an OSD.
    pub class: Option<String>,
    /// Ids below.
    pub children: Vec<i32>,
}

/// The whole tree in the order in which it is printed: a bucket, then what is below it.
pub fn tree(crush: &CrushMap) -> Vec<Node> {
    let shadows = crush.shadows();
    let buckets = || crush.buckets.iter().flatten().filter(|bucket| !shadows.contains(&bucket.id));
    let children: BTreeSet<i32> = buckets().flat_map(|bucket| &bucket.items).copied().collect();
    let mut nodes = Vec::new();
    for root in buckets().filter(|bucket| !children.contains(&bucket.id)) {
        subtree(crush, root.id, root.weight, 0, &mut nodes);
    }
    nodes
}

/// The bucket `top` and what is below it.
pub fn tree_from(crush: &CrushMap, top: i32) -> Vec<Node> {
    let mut nodes = Vec::new();
    let weight = crush.bucket(top).map_or_else(|| crush.weight_of(top).unwrap_or(0), |bucket| bucket.weight);
    subtree(crush, top, weight, 0, &mut nodes);
    nodes
}

fn subtree(crush: &CrushMap, id: i32, weight: u32, depth: usize, nodes: &mut Vec<Node>) {
    if depth > DEPTH_MAX {
        return;
    }
    let kind = crush.type_of(id).unwrap_or(0);
    let mut below: Vec<(i32, u32)> = crush.bucket(id).map(items).unwrap_or_default();
    //= ceph 16.2 osd tree: below a bucket, OSDs sort by class and id, buckets by name
    below.sort_by_key(|(item, _)| (class_of(crush, *item), (*item).max(-1), name_of(crush, *item)));
    nodes.push(Node {
        id,
        name: name_of(crush, id),
        kind,
        kind_name: type_name(crush, kind),
        depth,
        weight,
        class: class_of(crush, id),
        children: below.iter().map(|(item, _)| *item).collect(),
    });
    for (item, weight) in below {
        subtree(crush, item, weight, depth + 1, nodes);
    }
}

/// Items of a bucket with their weights.
pub fn items(bucket: &Bucket) -> Vec<(i32, u32)> {
    let weight = |index: usize| match &bucket.algorithm {
        Algorithm::Uniform { item_weight } => Some(*item_weight),
        Algorithm::List(weights) => weights.get(index).map(|weight| weight.item),
        Algorithm::Tree { node_weights } => node_weights.get(2 * index + 1).copied(),
        Algorithm::Straw(weights) => weights.get(index).map(|weight| weight.item),
        Algorithm::Straw2(weights) => weights.get(index).copied(),
    };
    bucket.items.iter().enumerate().map(|(index, item)| (*item, weight(index).unwrap_or(0))).collect()
}

/// Name of an item.
pub fn name_of(crush: &CrushMap, item: i32) -> String {
    let fallback = || if item >= 0 { format!("osd.{item}") } else { format!("bucket{item}") };
    crush.item_names.get(&item).cloned().unwrap_or_else(fallback)
}

/// Name of a type.
pub fn type_name(crush: &CrushMap, kind: u16) -> String {
    crush.type_names.get(&i32::from(kind)).cloned().unwrap_or_else(|| format!("type{kind}"))
}

/// Class of an OSD.
pub fn class_of(crush: &CrushMap, item: i32) -> Option<String> {
    let class = crush.item_classes.get(&item).filter(|_| item >= 0)?;
    crush.class_names.get(class).cloned()
}

/// The buckets above an OSD, by type name.
pub fn location_of(crush: &CrushMap, item: i32) -> BTreeMap<String, String> {
    let mut location = BTreeMap::new();
    let mut at = item;
    while let Some(parent) = crush.parent_of(at) {
        if location.len() > DEPTH_MAX {
            break;
        }
        location.insert(type_name(crush, crush.type_of(parent).unwrap_or(0)), name_of(crush, parent));
        at = parent;
    }
    location
}

/// The buckets above an OSD in one text: `root=default,host=a,device=b`.
pub fn location(map: &OsdMap, osd: i32) -> String {
    let mut parts = Vec::new();
    let mut at = osd;
    while let Some(parent) = map.crush.parent_of(at) {
        if parts.len() > DEPTH_MAX {
            break;
        }
        let kind = type_name(&map.crush, map.crush.type_of(parent).unwrap_or(0));
        parts.push(format!("{kind}={}", name_of(&map.crush, parent)));
        at = parent;
    }
    parts.reverse();
    parts.join(",")
}
