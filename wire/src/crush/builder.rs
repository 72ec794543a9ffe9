//! Building and changing a CRUSH map of our own: root → host → device → osd, all straw2, with device classes.
//!
//! Invariants kept by every change: a bucket's weight is the sum of its items'; a bucket weighs in its parent what
//! it weighs itself; ids once given stay; every class ever used has a shadow of every bucket. Cluster view.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::map::{Algorithm, Bucket, BucketId, CrushMap, Rule, Step, slot};
use crate::limits::CRUSH_BUCKETS_MAX;

/// Type of an OSD: the leaf.
pub const TYPE_OSD: u16 = 0;
/// Type of a device, which holds the OSDs of its slices. Stock Ceph has no such level.
pub const TYPE_DEVICE: u16 = 1;
/// Type of a host.
pub const TYPE_HOST: u16 = 2;
/// Type of a root.
pub const TYPE_ROOT: u16 = 12;

const TYPE_NAMES: [&str; 13] = [
    "osd",
    "device",
    "host",
    "chassis",
    "rack",
    "row",
    "pdu",
    "pod",
    "room",
    "datacenter",
    "zone",
    "region",
    "root",
];
/// Pool type of replicated rules.
const KIND_REPLICATED: u8 = 1;
/// Sizes that a rule of ours serves: all that a pool can have, since a pool outside gets no mapping at all.
const RULE_SIZES: (u8, u8) = (1, 255);

/// Where an OSD goes. Buckets that do not exist are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Name of the root, usually `default`.
    pub root: String,
    /// Name of the host.
    pub host: String,
    /// Name of the device; unique in the cluster.
    pub device: String,
}

/// A rule to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicatedRule {
    /// Name of the rule.
    pub name: String,
    /// Name of the root to choose from.
    pub root: String,
    /// Type of bucket of which no two copies share one.
    pub failure_domain: u16,
    /// Only devices of this class, if set.
    pub class: Option<String>,
}

/// Why a change to a map is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum BuildError {
    #[error("the name '{0}' is not made of letters, digits, '-', '_' and '.'")]
    BadName(String),
    #[error("'{name}' exists already, as a {found} rather than a {wanted}")]
    OtherType { name: String, found: String, wanted: String },
    #[error("'{name}' is below '{found}', not '{wanted}'")]
    OtherParent { name: String, found: String, wanted: String },
    #[error("there is no '{0}' in the CRUSH map")]
    NoSuchItem(String),
    #[error("there is a rule '{0}' already")]
    RuleExists(String),
    #[error("no device has the class '{0}'")]
    NoSuchClass(String),
    #[error("osd id {0} is negative or too large")]
    BadOsd(i32),
    #[error("the CRUSH map is full: {0} rules at most 256, or buckets at most {CRUSH_BUCKETS_MAX}")]
    Full(&'static str),
    #[error("bucket '{0}' is not of the straw2 kind, which alone can be changed")]
    NotStraw2(String),
}

impl CrushMap {
    /// A map with the type names, an empty root `default` and no rule.
    pub fn with_default_root() -> Self {
        let mut map = Self::default();
        for (number, name) in (0..).zip(TYPE_NAMES) {
            map.type_names.insert(number, name.to_owned());
        }
        map.put_bucket(-1, TYPE_ROOT);
        map.item_names.insert(-1, "default".to_owned());
        map
    }

    /// Id of a bucket or device by name.
    pub fn item_named(&self, name: &str) -> Option<i32> {
        self.item_names.iter().find(|(_, item_name)| *item_name == name).map(|(&item, _)| item)
    }

    /// The bucket that holds `item`, other than shadows.
    pub fn parent_of(&self, item: i32) -> Option<BucketId> {
        let shadows = self.shadows();
        let holds = |bucket: &&Bucket| !shadows.contains(&bucket.id) && bucket.items.contains(&item);
        self.buckets.iter().flatten().find(holds).map(|bucket| bucket.id)
    }

    /// Weight of `item` in its parent, 16.16; none if it is in no bucket.
    pub fn weight_of(&self, item: i32) -> Option<u32> {
        let parent = self.bucket(self.parent_of(item)?)?;
        let index = parent.items.iter().position(|&other| other == item)?;
        match &parent.algorithm {
            Algorithm::Straw2(weights) => weights.get(index).copied(),
            Algorithm::Uniform { item_weight } => Some(*item_weight),
            Algorithm::List(weights) => weights.get(index).map(|weight| weight.item),
            Algorithm::Straw(weights) => weights.get(index).map(|weight| weight.item),
            Algorithm::Tree { node_weights } => node_weights.get(2 * index + 1).copied(),
        }
    }

    /// All shadow buckets.
    pub fn shadows(&self) -> BTreeSet<BucketId> {
        self.class_buckets.values().flat_map(BTreeMap::values).copied().collect()
    }

    /// Puts an OSD where `location` says, with a weight and a class; moves it there if it is elsewhere.
    pub fn place_osd(
        &mut self,
        osd: i32,
        weight: u32,
        class: &str,
        location: &Location,
    ) -> Result<(), BuildError> {
        let max_devices = osd.checked_add(1).filter(|_| osd >= 0).ok_or(BuildError::BadOsd(osd))?;
        check_name(class)?;
        // Checked first, so that a refusal leaves the map as it was.
        let mut changed = self.clone();
        let root = changed.ensure_bucket(&location.root, TYPE_ROOT, None)?;
        let host = changed.ensure_bucket(&location.host, TYPE_HOST, Some(root))?;
        let device = changed.ensure_bucket(&location.device, TYPE_DEVICE, Some(host))?;
        changed.max_devices = changed.max_devices.max(max_devices);
        changed.item_names.insert(osd, format!("osd.{osd}"));
        let class = changed.ensure_class(class);
        changed.item_classes.insert(osd, class);
        changed.detach(osd)?;
        changed.attach(device, osd, weight)?;
        changed.settle()?;
        *self = changed;
        Ok(())
    }

    /// Changes an OSD's weight (capacity), 16.16.
    pub fn set_osd_weight(&mut self, osd: i32, weight: u32) -> Result<(), BuildError> {
        let device = self.parent_of(osd).ok_or_else(|| BuildError::NoSuchItem(format!("osd.{osd}")))?;
        self.detach(osd)?;
        self.attach(device, osd, weight)?;
        self.settle()
    }

    /// Takes an OSD out of the map. Buckets stay, even empty: their ids may be in rules.
    pub fn remove_osd(&mut self, osd: i32) -> Result<(), BuildError> {
        if !self.item_names.contains_key(&osd) || osd < 0 {
            return Err(BuildError::NoSuchItem(format!("osd.{osd}")));
        }
        self.detach(osd)?;
        self.item_names.remove(&osd);
        self.item_classes.remove(&osd);
        self.settle()
    }

    /// Adds a rule for replicated pools; gives its number, which is its ruleset too.
    pub fn add_replicated_rule(&mut self, rule: &ReplicatedRule) -> Result<u8, BuildError> {
        check_name(&rule.name)?;
        if self.rule_names.values().any(|name| *name == rule.name) {
            return Err(BuildError::RuleExists(rule.name.clone()));
        }
        let mut root =
            self.item_named(&rule.root).ok_or_else(|| BuildError::NoSuchItem(rule.root.clone()))?;
        if let Some(class) = &rule.class {
            let number = self.class_names.iter().find(|(_, name)| *name == class).map(|(&number, _)| number);
            let shadow = number.and_then(|number| self.class_buckets.get(&root)?.get(&number).copied());
            root = shadow.ok_or_else(|| BuildError::NoSuchClass(class.clone()))?;
        }
        let choose = match rule.failure_domain {
            TYPE_OSD => Step::new(Step::CHOOSE_FIRSTN, 0, 0),
            domain => Step::new(Step::CHOOSELEAF_FIRSTN, 0, i32::from(domain)),
        };
        let index = self.rules.iter().position(Option::is_none).unwrap_or(self.rules.len());
        let number = u8::try_from(index).map_err(|_| BuildError::Full("rules"))?;
        if index == self.rules.len() {
            self.rules.push(None);
        }
        self.rules[index] = Some(Rule {
            ruleset: number,
            kind: KIND_REPLICATED,
            min_size: RULE_SIZES.0,
            max_size: RULE_SIZES.1,
            steps: vec![Step::new(Step::TAKE, root, 0), choose, Step::new(Step::EMIT, 0, 0)],
        });
        self.rule_names.insert(i32::from(number), rule.name.clone());
        Ok(number)
    }

    /// The bucket of this name and type below `parent`, made if need be.
    fn ensure_bucket(
        &mut self,
        name: &str,
        kind: u16,
        parent: Option<BucketId>,
    ) -> Result<BucketId, BuildError> {
        check_name(name)?;
        if let Some(id) = self.item_named(name) {
            let found = self.type_of(id).unwrap_or(0);
            if found != kind {
                let (found, wanted) = (self.type_name(found), self.type_name(kind));
                return Err(BuildError::OtherType { name: name.to_owned(), found, wanted });
            }
            if self.parent_of(id) != parent {
                let (found, wanted) = (self.name_of(self.parent_of(id)), self.name_of(parent));
                return Err(BuildError::OtherParent { name: name.to_owned(), found, wanted });
            }
            return Ok(id);
        }
        let id = self.free_id(&BTreeSet::new())?;
        self.put_bucket(id, kind);
        self.item_names.insert(id, name.to_owned());
        if let Some(parent) = parent {
            self.attach(parent, id, 0)?;
        }
        Ok(id)
    }

    fn ensure_class(&mut self, name: &str) -> i32 {
        if let Some((&number, _)) = self.class_names.iter().find(|(_, class)| *class == name) {
            return number;
        }
        let number = self.class_names.last_key_value().map_or(0, |(&last, _)| last.saturating_add(1));
        self.class_names.insert(number, name.to_owned());
        number
    }

    fn type_name(&self, kind: u16) -> String {
        self.type_names.get(&i32::from(kind)).cloned().unwrap_or_else(|| format!("type {kind}"))
    }

    fn name_of(&self, item: Option<i32>) -> String {
        let Some(item) = item else { return "nothing".to_owned() };
        self.item_names.get(&item).cloned().unwrap_or_else(|| format!("item {item}"))
    }

    /// The highest bucket id not in use nor in `reserved`.
    fn free_id(&self, reserved: &BTreeSet<BucketId>) -> Result<BucketId, BuildError> {
        (0..CRUSH_BUCKETS_MAX)
            .filter_map(|index| i32::try_from(index).ok().map(|index| !index))
            .find(|&id| self.bucket(id).is_none() && !reserved.contains(&id))
            .ok_or(BuildError::Full("buckets"))
    }

    /// Puts an empty bucket into its slot.
    fn put_bucket(&mut self, id: BucketId, kind: u16) {
        let Some(index) = slot(id) else { return };
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, None);
        }
        let algorithm = Algorithm::Straw2(Vec::new());
        self.buckets[index] = Some(Bucket { id, kind, hash: 0, weight: 0, items: Vec::new(), algorithm });
    }

    fn bucket_mut(&mut self, id: BucketId) -> Option<&mut Bucket> {
        self.buckets.get_mut(slot(id)?)?.as_mut()
    }

    /// Items and weights of a straw2 bucket.
    fn straw2_mut(&mut self, id: BucketId) -> Result<(&mut Vec<i32>, &mut Vec<u32>), BuildError> {
        let name = self.name_of(Some(id));
        match self.bucket_mut(id) {
            Some(Bucket { items, algorithm: Algorithm::Straw2(weights), .. }) => Ok((items, weights)),
            Some(_) => Err(BuildError::NotStraw2(name)),
            None => Err(BuildError::NoSuchItem(name)),
        }
    }

    fn attach(&mut self, bucket: BucketId, item: i32, weight: u32) -> Result<(), BuildError> {
        let (items, weights) = self.straw2_mut(bucket)?;
        items.push(item);
        weights.push(weight);
        Ok(())
    }

    /// Takes an item out of its parent, if it has one.
    fn detach(&mut self, item: i32) -> Result<(), BuildError> {
        let Some(parent) = self.parent_of(item) else { return Ok(()) };
        let (items, weights) = self.straw2_mut(parent)?;
        if let Some(index) = items.iter().position(|&other| other == item) {
            items.remove(index);
            weights.remove(index);
        }
        Ok(())
    }

    /// Restores the invariants: weights up the tree, then the shadows.
    fn settle(&mut self) -> Result<(), BuildError> {
        let old = std::mem::take(&mut self.class_buckets);
        let reserved: BTreeSet<BucketId> = old.values().flat_map(BTreeMap::values).copied().collect();
        for &id in &reserved {
            if let Some(place) = slot(id).and_then(|index| self.buckets.get_mut(index)) {
                *place = None;
            }
            self.item_names.remove(&id);
            self.item_classes.remove(&id);
        }
        let children: BTreeSet<i32> =
            self.buckets.iter().flatten().flat_map(|bucket| &bucket.items).copied().collect();
        let ids = self.buckets.iter().flatten().map(|bucket| bucket.id);
        let roots: Vec<BucketId> = ids.filter(|id| !children.contains(id)).collect();
        for &root in &roots {
            self.sum_weights(root)?;
        }
        // A class that lost its last device keeps its shadows, since rules may take them.
        let mut classes: BTreeSet<i32> = self.item_classes.values().copied().collect();
        classes.extend(old.values().flat_map(BTreeMap::keys));
        for class in classes {
            for &root in &roots {
                self.shadow(root, class, &old, &reserved)?;
            }
        }
        Ok(())
    }

    /// Sets the weight of `id` and of all buckets below; gives it. The decoder bounds the depth.
    fn sum_weights(&mut self, id: BucketId) -> Result<u32, BuildError> {
        let items = self.straw2_mut(id)?.0.clone();
        for (index, item) in items.into_iter().enumerate() {
            if item < 0 {
                let weight = self.sum_weights(item)?;
                if let Some(place) = self.straw2_mut(id)?.1.get_mut(index) {
                    *place = weight;
                }
            }
        }
        let sum = self.straw2_mut(id)?.1.iter().fold(0u32, |sum, &weight| sum.saturating_add(weight));
        if let Some(bucket) = self.bucket_mut(id) {
            bucket.weight = sum;
        }
        Ok(sum)
    }

    /// Makes the shadow of `id` for a class, and those below it. Gives its id and weight.
    fn shadow(
        &mut self,
        id: BucketId,
        class: i32,
        old: &BTreeMap<BucketId, BTreeMap<i32, BucketId>>,
        reserved: &BTreeSet<BucketId>,
    ) -> Result<(BucketId, u32), BuildError> {
        let kind = self.type_of(id).unwrap_or(TYPE_ROOT);
        let (items, weights) = self.straw2_mut(id)?;
        let members: Vec<(i32, u32)> = items.iter().copied().zip(weights.iter().copied()).collect();
        let own = match old.get(&id).and_then(|shadows| shadows.get(&class)) {
            Some(&own) => own,
            None => self.free_id(reserved)?,
        };
        self.put_bucket(own, kind);
        let class_name = self.class_names.get(&class).cloned().unwrap_or_default();
        self.item_names.insert(own, format!("{}~{class_name}", self.name_of(Some(id))));
        self.class_buckets.entry(id).or_default().insert(class, own);
        let mut sum = 0u32;
        for (item, mut weight) in members {
            let mut member = item;
            if item < 0 {
                (member, weight) = self.shadow(item, class, old, reserved)?;
            } else if self.item_classes.get(&item) != Some(&class) {
                continue;
            }
            self.attach(own, member, weight)?;
            sum = sum.saturating_add(weight);
        }
        //= ceph 16.2 crush: the class table lists the shadows too
        self.item_classes.insert(own, class);
        if let Some(bucket) = self.bucket_mut(own) {
            bucket.weight = sum;
        }
        Ok((own, sum))
    }
}

//= ceph 16.2 crush: names that clients accept
fn check_name(name: &str) -> Result<(), BuildError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || !name.bytes().all(good) {
        return Err(BuildError::BadName(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode_exact, encode_to_bytes};
    use crate::crush::{Input, WEIGHT_ONE, do_rule};

    fn location(host: &str, device: &str) -> Location {
        Location { root: "default".into(), host: host.into(), device: device.into() }
    }

    fn rule(name: &str, failure_domain: u16, class: Option<&str>) -> ReplicatedRule {
        ReplicatedRule {
            name: name.into(),
            root: "default".into(),
            failure_domain,
            class: class.map(str::to_owned),
        }
    }

    /// Two hosts with two devices each, of two slices each; the second device of a host is an hdd.
    fn tree() -> CrushMap {
        let mut map = CrushMap::with_default_root();
        for osd in 0..8 {
            let (host, device) = (osd / 4, osd / 2);
            let class = if device % 2 == 0 { "nvme" } else { "hdd" };
            let place = location(&format!("host{host}"), &format!("device{device}"));
            map.place_osd(osd, WEIGHT_ONE, class, &place).unwrap();
        }
        map
    }

    fn map_all(map: &CrushMap, rule: u8, result_max: usize) -> Vec<Vec<i32>> {
        let weights = [WEIGHT_ONE; 8];
        let input = |x| Input { x, result_max, weights: &weights, choose_args: None };
        (0..512).map(|x| do_rule(map, usize::from(rule), input(x))).collect()
    }

    #[test]
    fn copies_never_share_a_failure_domain() {
        let mut map = tree();
        let by_device = map.add_replicated_rule(&rule("device", TYPE_DEVICE, None)).unwrap();
        let by_host = map.add_replicated_rule(&rule("host", TYPE_HOST, None)).unwrap();
        assert_eq!(map.find_rule(by_host, 1, 200), Some(1));
        for osds in map_all(&map, by_device, 3) {
            let devices: BTreeSet<i32> = osds.iter().map(|osd| osd / 2).collect();
            assert_eq!((osds.len(), devices.len()), (3, 3), "{osds:?}");
        }
        for osds in map_all(&map, by_host, 3) {
            let hosts: BTreeSet<i32> = osds.iter().map(|osd| osd / 4).collect();
            assert_eq!((osds.len(), hosts.len()), (2, 2), "{osds:?}");
        }
    }

    #[test]
    fn a_class_rule_chooses_that_class_only_also_after_changes() {
        let mut map = tree();
        let rule_number = map.add_replicated_rule(&rule("fast", TYPE_DEVICE, Some("nvme"))).unwrap();
        let fast = |osd: &i32| (osd / 2) % 2 == 0;
        assert!(map_all(&map, rule_number, 2).iter().all(|osds| osds.len() == 2 && osds.iter().all(fast)));
        let shadows = map.shadows();
        map.place_osd(8, WEIGHT_ONE, "nvme", &location("host2", "device8")).unwrap();
        map.remove_osd(4).unwrap();
        assert!(map.shadows().is_superset(&shadows), "ids stay");
        assert!(map_all(&map, rule_number, 2).iter().flatten().all(|osd| fast(osd) && *osd != 4));
    }

    #[test]
    fn weights_add_up_and_the_map_round_trips() {
        let mut map = tree();
        map.set_osd_weight(3, 3 * WEIGHT_ONE).unwrap();
        map.add_replicated_rule(&rule("r", TYPE_DEVICE, None)).unwrap();
        let root = map.item_named("default").unwrap();
        assert_eq!(map.bucket(root).unwrap().weight, 10 * WEIGHT_ONE);
        assert_eq!(map.weight_of(map.item_named("host0").unwrap()), Some(6 * WEIGHT_ONE));
        let shadow = map.bucket(map.item_named("default~hdd").unwrap()).unwrap();
        assert_eq!((shadow.weight, shadow.kind), (6 * WEIGHT_ONE, TYPE_ROOT));
        let host = map.item_named("host1").unwrap();
        assert_eq!(map.parent_of(host), Some(root));
        assert_eq!(decode_exact::<CrushMap>("crush", encode_to_bytes(&map)), Ok(map));
    }

    #[test]
    fn refusals_say_why_and_change_nothing() {
        let mut map = tree();
        let before = map.clone();
        let refusals = [
            map.place_osd(9, 1, "nvme", &location("host0", "device2")),
            map.place_osd(9, 1, "nvme", &location("default", "device9")),
            map.place_osd(9, 1, "nvme", &location("a b", "device9")),
            map.place_osd(-1, 1, "nvme", &location("host0", "device0")),
            map.remove_osd(99),
            map.add_replicated_rule(&rule("x", TYPE_DEVICE, Some("tape"))).map(drop),
        ];
        let messages: Vec<String> =
            refusals.into_iter().map(|refusal| refusal.unwrap_err().to_string()).collect();
        assert_eq!(messages[0], "'device2' is below 'host1', not 'host0'");
        assert_eq!(messages[1], "'default' exists already, as a root rather than a host");
        assert_eq!(messages[4], "there is no 'osd.99' in the CRUSH map");
        assert_eq!(map, before);
    }
}
