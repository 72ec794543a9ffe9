//! The CRUSH map as a value: buckets, rules, tunables, names, device classes, weight overrides.
//!
//! Invariant, kept by the decoder and the builder: the bucket in slot `i` has id `-1 - i` and a type above 0, and
//! its weights are as many as its items.

use std::collections::BTreeMap;

/// A weight of one device in the 16.16 fixed-point format of CRUSH.
pub const WEIGHT_ONE: u32 = 0x1_0000;

/// Id of a bucket: negative. Devices (OSDs) have ids from 0.
pub type BucketId = i32;

/// A CRUSH map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CrushMap {
    /// Device ids are below this.
    pub max_devices: i32,
    /// The bucket with id `-1 - index`, or a hole.
    pub buckets: Vec<Option<Bucket>>,
    /// Rules by number, or a hole.
    pub rules: Vec<Option<Rule>>,
    /// Names of bucket types; 0 is the device.
    pub type_names: BTreeMap<i32, String>,
    /// Names of buckets and devices.
    pub item_names: BTreeMap<i32, String>,
    /// Names of rules, by number.
    pub rule_names: BTreeMap<i32, String>,
    /// Constants of the algorithm.
    pub tunables: Tunables,
    /// Class of each device (and of each shadow bucket, as stock monitors record it).
    pub item_classes: BTreeMap<i32, i32>,
    /// Names of classes.
    pub class_names: BTreeMap<i32, String>,
    /// For a bucket and a class, the shadow bucket that holds only items of that class.
    pub class_buckets: BTreeMap<BucketId, BTreeMap<i32, BucketId>>,
    /// Weight and id overrides, by pool id; -1 is for pools without their own.
    pub choose_args: BTreeMap<i64, ChooseArgs>,
}

/// An inner node of the hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Own id, negative.
    pub id: BucketId,
    /// Index into [`CrushMap::type_names`], above 0.
    pub kind: u16,
    /// Hash function; only 0 (rjenkins1) exists.
    pub hash: u8,
    /// Sum of the items' weights, 16.16.
    pub weight: u32,
    /// Children: devices from 0, buckets below.
    pub items: Vec<i32>,
    /// How a child is chosen, and the weights for that.
    pub algorithm: Algorithm,
}

/// How a bucket chooses among its items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// All items weigh the same: a permutation.
    Uniform {
        /// Weight of each item.
        item_weight: u32,
    },
    /// A linked list from the newest item to the oldest.
    List(Vec<ListWeight>),
    /// A binary tree; the weights of its nodes, leaves at the odd indices.
    Tree {
        /// Weight per node.
        node_weights: Vec<u32>,
    },
    /// Longest straw, with lengths computed in advance.
    Straw(Vec<StrawWeight>),
    /// Longest straw, each drawn by its own weight: the one to use.
    Straw2(Vec<u32>),
}

/// Weight of an item in a list bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListWeight {
    /// The item's own weight.
    pub item: u32,
    /// Its own and that of all items before it.
    pub sum: u32,
}

/// Weight of an item in a straw bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrawWeight {
    /// The item's own weight.
    pub item: u32,
    /// Factor of its draw.
    pub straw: u32,
}

/// A placement rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Number by which pools refer to it. Keep it equal to the rule's index: clients search by it.
    pub ruleset: u8,
    /// Pool type it is for: 1 replicated, 3 erasure.
    pub kind: u8,
    /// Smallest pool size it is for.
    pub min_size: u8,
    /// Largest pool size it is for.
    pub max_size: u8,
    /// The program.
    pub steps: Vec<Step>,
}

/// One step of a rule. Unknown operations are kept, and do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// See the constants.
    pub op: u32,
    /// First argument.
    pub arg1: i32,
    /// Second argument.
    pub arg2: i32,
}

impl Step {
    //= ceph 16.2 crush: rule step operations
    /// Start from the item `arg1`.
    pub const TAKE: u32 = 1;
    /// Choose `arg1` items of type `arg2`, holes closed.
    pub const CHOOSE_FIRSTN: u32 = 2;
    /// Choose `arg1` items of type `arg2`, positions kept.
    pub const CHOOSE_INDEP: u32 = 3;
    /// Append the working set to the result.
    pub const EMIT: u32 = 4;
    /// As [`Self::CHOOSE_FIRSTN`], then one device below each.
    pub const CHOOSELEAF_FIRSTN: u32 = 6;
    /// As [`Self::CHOOSE_INDEP`], then one device below each.
    pub const CHOOSELEAF_INDEP: u32 = 7;
    /// Override [`Tunables::choose_total_tries`].
    pub const SET_CHOOSE_TRIES: u32 = 8;
    /// Set the number of tries to find a leaf.
    pub const SET_CHOOSELEAF_TRIES: u32 = 9;
    /// Override [`Tunables::choose_local_tries`].
    pub const SET_CHOOSE_LOCAL_TRIES: u32 = 10;
    /// Override [`Tunables::choose_local_fallback_tries`].
    pub const SET_CHOOSE_LOCAL_FALLBACK_TRIES: u32 = 11;
    /// Override [`Tunables::chooseleaf_vary_r`].
    pub const SET_CHOOSELEAF_VARY_R: u32 = 12;
    /// Override [`Tunables::chooseleaf_stable`].
    pub const SET_CHOOSELEAF_STABLE: u32 = 13;

    /// A step.
    pub fn new(op: u32, arg1: i32, arg2: i32) -> Self {
        Self { op, arg1, arg2 }
    }
}

/// Constants of the algorithm. A map carries them, so that old maps keep mapping the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// Retries in the same bucket after a collision.
    pub choose_local_tries: u32,
    /// Retries in the same bucket by permutation.
    pub choose_local_fallback_tries: u32,
    /// Descents from the top, less one.
    pub choose_total_tries: u32,
    /// Whether a failed leaf makes the whole descent start again.
    pub chooseleaf_descend_once: u32,
    /// Whether, and how, the leaf's draw depends on its parent's.
    pub chooseleaf_vary_r: u8,
    /// How straw lengths were computed; mapping does not use it.
    pub straw_calc_version: u8,
    /// Bit per bucket algorithm that may be created.
    pub allowed_bucket_algs: u32,
    /// Whether a leaf's draw is independent of the leaf's position.
    pub chooseleaf_stable: u8,
}

impl Tunables {
    /// The best, in use since the release Jewel.
    pub const JEWEL: Self = Self {
        choose_local_tries: 0,
        choose_local_fallback_tries: 0,
        choose_total_tries: 50,
        chooseleaf_descend_once: 1,
        chooseleaf_vary_r: 1,
        straw_calc_version: 1,
        allowed_bucket_algs: 54,
        chooseleaf_stable: 1,
    };
    /// Those of maps that do not say.
    pub const LEGACY: Self = Self {
        choose_local_tries: 2,
        choose_local_fallback_tries: 5,
        choose_total_tries: 19,
        chooseleaf_descend_once: 0,
        chooseleaf_vary_r: 0,
        straw_calc_version: 0,
        allowed_bucket_algs: 22,
        chooseleaf_stable: 0,
    };
}

impl Default for Tunables {
    fn default() -> Self {
        Self::JEWEL
    }
}

/// Overrides of straw2 weights, by bucket index (`-1 - id`).
pub type ChooseArgs = BTreeMap<u32, ChooseArg>;

/// Overrides of one bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChooseArg {
    /// Weights of all items per position in the result; the last serves all later positions. May be empty.
    pub weight_sets: Vec<Vec<u32>>,
    /// Ids that enter the hash in place of the items'. May be empty.
    pub ids: Vec<i32>,
}

impl CrushMap {
    /// The bucket with this id.
    pub fn bucket(&self, id: BucketId) -> Option<&Bucket> {
        self.buckets.get(slot(id)?)?.as_ref()
    }

    /// The rule of this number.
    pub fn rule(&self, number: usize) -> Option<&Rule> {
        self.rules.get(number)?.as_ref()
    }

    /// The rule that a pool asks for: of all that fit, the first.
    pub fn find_rule(&self, ruleset: u8, kind: u8, size: u8) -> Option<usize> {
        self.rules.iter().position(|rule| {
            rule.as_ref().is_some_and(|rule| {
                rule.ruleset == ruleset
                    && rule.kind == kind
                    && (rule.min_size..=rule.max_size).contains(&size)
            })
        })
    }

    /// The overrides for a pool.
    pub fn choose_args_of(&self, pool: i64) -> Option<&ChooseArgs> {
        self.choose_args.get(&pool).or_else(|| self.choose_args.get(&-1))
    }

    /// Type of an item: 0 for a device, none for a bucket that does not exist.
    pub fn type_of(&self, item: i32) -> Option<u16> {
        if item >= 0 { Some(0) } else { self.bucket(item).map(|bucket| bucket.kind) }
    }
}

/// Index of a bucket id in [`CrushMap::buckets`]; none for a device.
pub(super) fn slot(id: BucketId) -> Option<usize> {
    // -1 - id is the bitwise complement.
    usize::try_from(!id).ok()
}
