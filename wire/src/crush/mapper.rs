//! The CRUSH mapping: from a map, a rule and an input number to a list of devices.
//!
//! Pure and total. Work is bounded: a map can ask for absurdly many tries or contain a cycle, so each mapping has
//! a budget of item draws, far above what a sane map needs, and gives up a position when it is spent.

use super::ln::{LN_ONE, crush_ln};
use super::map::{Algorithm, Bucket, ChooseArg, ChooseArgs, CrushMap, Step, WEIGHT_ONE, slot};
use crate::hash::{crush_hash2, crush_hash3, crush_hash4};

/// The place of no device, in a result that keeps positions.
pub const ITEM_NONE: i32 = 0x7fff_ffff;
/// A position not yet decided.
const ITEM_UNDECIDED: i32 = 0x7fff_fffe;
/// Item draws per mapping. Three copies from 5,000 devices in one flat bucket with 50 tries each take 750,000.
const DRAWS_MAX: u64 = 1 << 20;

/// What one mapping starts from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The number to map.
    pub x: u32,
    /// How many devices are wanted.
    pub result_max: usize,
    /// Weight per device, 16.16, [`WEIGHT_ONE`] is in, 0 is out; devices beyond the end are out.
    pub weights: &'a [u32],
    /// Weight overrides.
    pub choose_args: Option<&'a ChooseArgs>,
}

/// Runs rule number `rule`. A rule that does not exist maps to nothing.
pub fn do_rule(map: &CrushMap, rule: usize, input: Input<'_>) -> Vec<i32> {
    let Some(rule) = map.rule(rule) else { return Vec::new() };
    let mut run = Run::new(map, input);
    let mut result = Vec::new();
    let mut working: Vec<i32> = Vec::new();
    for step in &rule.steps {
        match step.op {
            Step::TAKE => {
                let exists = match step.arg1 {
                    device @ 0.. => device < map.max_devices,
                    bucket => map.bucket(bucket).is_some(),
                };
                if exists {
                    working = vec![step.arg1];
                }
            }
            Step::CHOOSE_FIRSTN | Step::CHOOSELEAF_FIRSTN | Step::CHOOSE_INDEP | Step::CHOOSELEAF_INDEP => {
                working = run.choose_step(step, &working);
            }
            Step::EMIT => {
                let room = input.result_max.saturating_sub(result.len());
                result.extend(working.drain(..).take(room));
                working.clear();
            }
            _ => run.set(step),
        }
    }
    result
}

/// State of one mapping: the settings that steps may change, and what is left of the budget.
struct Run<'a> {
    map: &'a CrushMap,
    input: Input<'a>,
    draws_left: u64,
    total_tries: u32,
    /// 0: not set.
    leaf_tries: u32,
    local_tries: u32,
    fallback_tries: u32,
    vary_r: u32,
    stable: bool,
}

/// An item chosen, and the device below it if the step asks for one.
type Placed = (i32, Option<i32>);

/// Result of one try to fill a position of an indep step.
enum Attempt {
    Placed(Placed),
    Retry,
    Never,
}

/// What the tries for one position of a step have in common.
#[derive(Clone, Copy)]
struct Goal {
    wanted: u16,
    tries: u32,
    parent_r: u32,
    /// How often to try for a device below the item; none if the item itself is the goal.
    leaf_tries: Option<u32>,
}

impl<'a> Run<'a> {
    fn new(map: &'a CrushMap, input: Input<'a>) -> Self {
        let tunables = &map.tunables;
        Self {
            map,
            input,
            draws_left: DRAWS_MAX,
            //= ceph 16.2 crush: the tunable counts retries, the algorithm tries
            total_tries: tunables.choose_total_tries.saturating_add(1),
            leaf_tries: 0,
            local_tries: tunables.choose_local_tries,
            fallback_tries: tunables.choose_local_fallback_tries,
            vary_r: u32::from(tunables.chooseleaf_vary_r),
            stable: tunables.chooseleaf_stable != 0,
        }
    }

    fn set(&mut self, step: &Step) {
        let Ok(value) = u32::try_from(step.arg1) else { return };
        match step.op {
            Step::SET_CHOOSE_TRIES if value > 0 => self.total_tries = value,
            Step::SET_CHOOSELEAF_TRIES if value > 0 => self.leaf_tries = value,
            Step::SET_CHOOSE_LOCAL_TRIES => self.local_tries = value,
            Step::SET_CHOOSE_LOCAL_FALLBACK_TRIES => self.fallback_tries = value,
            Step::SET_CHOOSELEAF_VARY_R => self.vary_r = value,
            Step::SET_CHOOSELEAF_STABLE => self.stable = value != 0,
            _ => {}
        }
    }

    /// One choose step over the working set; gives the next working set.
    fn choose_step(&mut self, step: &Step, working: &[i32]) -> Vec<i32> {
        let firstn = matches!(step.op, Step::CHOOSE_FIRSTN | Step::CHOOSELEAF_FIRSTN);
        let to_leaf = matches!(step.op, Step::CHOOSELEAF_FIRSTN | Step::CHOOSELEAF_INDEP);
        let leaf_tries = match self.leaf_tries {
            0 if firstn && self.map.tunables.chooseleaf_descend_once == 0 => self.total_tries,
            0 => 1,
            tries => tries,
        };
        let Ok(wanted) = u16::try_from(step.arg2) else { return Vec::new() };
        let goal =
            Goal { wanted, tries: self.total_tries, parent_r: 0, leaf_tries: to_leaf.then_some(leaf_tries) };
        let mut chosen: Vec<i32> = Vec::new();
        for &item in working {
            let result_max = i64::try_from(self.input.result_max).unwrap_or(i64::MAX);
            let count = match i64::from(step.arg1) {
                count @ 1.. => count,
                from_size => from_size.saturating_add(result_max),
            };
            let (Ok(count), Some(bucket)) = (u32::try_from(count), self.map.bucket(item)) else { continue };
            let room = self.input.result_max.saturating_sub(chosen.len());
            if count > 0 && firstn {
                chosen.extend(self.firstn(bucket, count, room, goal));
            } else if count > 0 {
                chosen.extend(self.indep(bucket, count, room, goal));
            }
        }
        chosen
    }

    /// Chooses up to `count` items, and no more than `room`, without holes.
    fn firstn(&mut self, bucket: &'a Bucket, count: u32, room: usize, goal: Goal) -> Vec<i32> {
        let mut items: Vec<i32> = Vec::new();
        let mut leaves: Vec<i32> = Vec::new();
        for rep in 0..count {
            if items.len() >= room || self.draws_left == 0 {
                break;
            }
            if let Some((item, leaf)) = self.firstn_one(bucket, rep, &items, &leaves, goal) {
                items.push(item);
                leaves.extend(leaf);
            }
        }
        if goal.leaf_tries.is_some() { leaves } else { items }
    }

    /// One position of [`Self::firstn`]: an item not in `taken` (and, where asked, a device below it not in
    /// `leaves`).
    fn firstn_one(
        &mut self,
        top: &'a Bucket,
        rep: u32,
        taken: &[i32],
        leaves: &[i32],
        goal: Goal,
    ) -> Option<Placed> {
        let mut failed_total = 0u32;
        'descend: loop {
            let mut bucket = top;
            let mut failed_here = 0u32;
            loop {
                let r = rep.wrapping_add(goal.parent_r).wrapping_add(failed_total);
                let mut collides = false;
                if !bucket.items.is_empty() {
                    let size = u32::try_from(bucket.items.len()).unwrap_or(u32::MAX);
                    let by_permutation = self.fallback_tries > 0
                        && failed_here >= size / 2
                        && failed_here > self.fallback_tries;
                    let item = self.choose(bucket, r, taken.len(), by_permutation)?;
                    if item >= self.map.max_devices {
                        return None;
                    }
                    let kind = self.map.type_of(item)?;
                    if kind != goal.wanted {
                        // A device above the wanted level gives the position up.
                        bucket = self.map.bucket(item)?;
                        continue;
                    }
                    collides = taken.contains(&item);
                    if !collides {
                        let leaf = match (goal.leaf_tries, self.map.bucket(item)) {
                            (None, _) => Some(None),
                            (Some(_), None) => Some(Some(item)),
                            (Some(tries), Some(below)) => self.leaf_firstn(below, r, leaves, tries).map(Some),
                        };
                        if let Some(leaf) = leaf
                            && !(kind == 0 && self.is_out(item))
                        {
                            return Some((item, leaf));
                        }
                    }
                }
                failed_total = failed_total.saturating_add(1);
                failed_here = failed_here.saturating_add(1);
                let size = u32::try_from(bucket.items.len()).unwrap_or(u32::MAX);
                let again_here = (collides && failed_here <= self.local_tries)
                    || (self.fallback_tries > 0 && failed_here <= size.saturating_add(self.fallback_tries));
                if again_here && self.spend(1) {
                    continue;
                }
                if failed_total < goal.tries && self.spend(1) {
                    continue 'descend;
                }
                return None;
            }
        }
    }

    /// A device below `bucket` that is in and not in `leaves`.
    fn leaf_firstn(&mut self, bucket: &'a Bucket, r: u32, leaves: &[i32], tries: u32) -> Option<i32> {
        let parent_r = self.vary_r.checked_sub(1).map_or(0, |shift| r.checked_shr(shift).unwrap_or(0));
        let rep = if self.stable { 0 } else { u32::try_from(leaves.len()).unwrap_or(u32::MAX) };
        let goal = Goal { wanted: 0, tries, parent_r, leaf_tries: None };
        self.firstn_one(bucket, rep, leaves, &[], goal).map(|(device, _)| device)
    }

    /// Chooses items for `min(count, room)` positions; what cannot be found leaves a hole.
    fn indep(&mut self, bucket: &'a Bucket, count: u32, room: usize, goal: Goal) -> Vec<i32> {
        let positions = usize::try_from(count).map_or(room, |count| count.min(room));
        let mut items = vec![ITEM_UNDECIDED; positions];
        let mut leaves = vec![ITEM_NONE; positions];
        for failed_total in 0..goal.tries {
            if self.draws_left == 0 || !items.contains(&ITEM_UNDECIDED) {
                break;
            }
            for rep in 0..positions {
                if items[rep] != ITEM_UNDECIDED {
                    continue;
                }
                let position = u32::try_from(rep).unwrap_or(u32::MAX);
                match self.indep_one(bucket, position, 0, failed_total, count, &items, goal) {
                    Attempt::Placed((item, leaf)) => {
                        items[rep] = item;
                        leaves[rep] = leaf.unwrap_or(ITEM_NONE);
                    }
                    Attempt::Never => items[rep] = ITEM_NONE,
                    Attempt::Retry => {}
                }
            }
        }
        let mut chosen = if goal.leaf_tries.is_some() { leaves } else { items };
        for item in &mut chosen {
            if *item == ITEM_UNDECIDED {
                *item = ITEM_NONE;
            }
        }
        chosen
    }

    /// One try to fill position `rep`. `start` is the first position of this call; `taken` are its items.
    #[expect(clippy::too_many_arguments, reason = "all of them differ between the two callers")]
    fn indep_one(
        &mut self,
        top: &'a Bucket,
        rep: u32,
        start: usize,
        failed_total: u32,
        count: u32,
        taken: &[i32],
        goal: Goal,
    ) -> Attempt {
        let mut bucket = top;
        loop {
            let size = u32::try_from(bucket.items.len()).unwrap_or(u32::MAX);
            if size == 0 {
                return Attempt::Retry;
            }
            let uniform = matches!(bucket.algorithm, Algorithm::Uniform { .. });
            // A permutation of `count × n` items would come back to the same one on each retry.
            let stride = if uniform && size.is_multiple_of(count) { count.wrapping_add(1) } else { count };
            let r = rep.wrapping_add(goal.parent_r).wrapping_add(stride.wrapping_mul(failed_total));
            let Some(item) = self.choose(bucket, r, start, false) else { return Attempt::Never };
            if item >= self.map.max_devices {
                return Attempt::Never;
            }
            let Some(kind) = self.map.type_of(item) else { return Attempt::Never };
            if kind != goal.wanted {
                match self.map.bucket(item) {
                    Some(below) => bucket = below,
                    None => return Attempt::Never,
                }
                continue;
            }
            if taken.contains(&item) {
                return Attempt::Retry;
            }
            let leaf = match (goal.leaf_tries, self.map.bucket(item)) {
                (None, _) => None,
                (Some(_), None) => Some(item),
                (Some(tries), Some(below)) => match self.leaf_indep(below, rep, r, count, tries) {
                    Some(leaf) => Some(leaf),
                    None => return Attempt::Retry,
                },
            };
            if kind == 0 && self.is_out(item) {
                return Attempt::Retry;
            }
            return Attempt::Placed((item, leaf));
        }
    }

    /// A device below `bucket` for position `rep`. Collisions with other positions are not looked at: the buckets
    /// above are different.
    fn leaf_indep(&mut self, bucket: &'a Bucket, rep: u32, r: u32, count: u32, tries: u32) -> Option<i32> {
        let goal = Goal { wanted: 0, tries, parent_r: r, leaf_tries: None };
        let start = usize::try_from(rep).unwrap_or(usize::MAX);
        for failed_total in 0..tries {
            match self.indep_one(bucket, rep, start, failed_total, count, &[], goal) {
                Attempt::Placed((device, _)) => return Some(device),
                Attempt::Never => return None,
                Attempt::Retry if self.spend(1) => {}
                Attempt::Retry => return None,
            }
        }
        None
    }

    /// Whether the device is to be passed over for this input, by its weight.
    fn is_out(&self, device: i32) -> bool {
        let weight = usize::try_from(device).ok().and_then(|index| self.input.weights.get(index));
        match weight {
            None | Some(0) => true,
            Some(&weight) if weight >= WEIGHT_ONE => false,
            Some(&weight) => crush_hash2(self.input.x, device.cast_unsigned()) & 0xffff >= weight,
        }
    }

    /// Takes from the budget; false when it is spent.
    fn spend(&mut self, draws: usize) -> bool {
        let draws = u64::try_from(draws).unwrap_or(u64::MAX);
        self.draws_left = self.draws_left.saturating_sub(draws);
        self.draws_left > 0
    }

    /// The item that `bucket`, which is not empty, draws. None when the budget is spent or a tree is malformed.
    fn choose(&mut self, bucket: &Bucket, r: u32, position: usize, by_permutation: bool) -> Option<i32> {
        if !self.spend(bucket.items.len()) {
            return None;
        }
        let x = self.input.x;
        match &bucket.algorithm {
            _ if by_permutation => choose_permuted(bucket, x, r),
            Algorithm::Uniform { .. } => choose_permuted(bucket, x, r),
            Algorithm::List(weights) => {
                let id = bucket.id.cast_unsigned();
                let hit = bucket.items.iter().zip(weights).rev().find(|(item, weight)| {
                    let draw = crush_hash4(x, item.cast_unsigned(), r, id) & 0xffff;
                    (u64::from(draw) * u64::from(weight.sum)) >> 16 < u64::from(weight.item)
                });
                hit.map(|(item, _)| *item).or_else(|| bucket.items.first().copied())
            }
            Algorithm::Tree { node_weights } => choose_tree(bucket, node_weights, x, r),
            Algorithm::Straw(weights) => longest(bucket.items.iter().zip(weights).map(|(&item, weight)| {
                let draw = crush_hash3(x, item.cast_unsigned(), r) & 0xffff;
                (item, u64::from(draw) * u64::from(weight.straw))
            })),
            Algorithm::Straw2(weights) => {
                let arg = slot(bucket.id)
                    .and_then(|index| u32::try_from(index).ok())
                    .and_then(|index| self.input.choose_args?.get(&index));
                choose_straw2(bucket, weights, arg, x, r, position)
            }
        }
    }
}

/// The `r`-th item of a permutation that depends on `x` and the bucket.
fn choose_permuted(bucket: &Bucket, x: u32, r: u32) -> Option<i32> {
    let size = u32::try_from(bucket.items.len()).ok()?;
    let wanted = r.checked_rem(size)?;
    let mut permutation = bucket.items.clone();
    for index in 0..=wanted.min(size.saturating_sub(2)) {
        let offset = crush_hash3(x, bucket.id.cast_unsigned(), index).checked_rem(size - index)?;
        let (from, to) = (usize::try_from(index).ok()?, usize::try_from(index + offset).ok()?);
        if to < permutation.len() {
            permutation.swap(from, to);
        }
    }
    permutation.get(usize::try_from(wanted).ok()?).copied()
}

/// Descends the binary tree; a node's children are half of its lowest bit away.
fn choose_tree(bucket: &Bucket, node_weights: &[u32], x: u32, r: u32) -> Option<i32> {
    let weight = |node: u32| node_weights.get(usize::try_from(node).ok()?).copied();
    let mut node = u32::try_from(node_weights.len()).ok()? / 2;
    while node & 1 == 0 {
        // The node 0 is none: it has no lowest bit.
        let half = 1u32.checked_shl(node.trailing_zeros().checked_sub(1)?)?;
        let draw = crush_hash4(x, node, r, bucket.id.cast_unsigned());
        let point = (u64::from(draw) * u64::from(weight(node)?)) >> 32;
        let left = node.checked_sub(half)?;
        node = if point < u64::from(weight(left)?) { left } else { node.checked_add(half)? };
    }
    bucket.items.get(usize::try_from(node >> 1).ok()?).copied()
}

/// The item with the longest straw, each scaled by the logarithm of a random number over its weight.
fn choose_straw2(
    bucket: &Bucket,
    own_weights: &[u32],
    arg: Option<&ChooseArg>,
    x: u32,
    r: u32,
    position: usize,
) -> Option<i32> {
    let sets = arg.map_or(&[][..], |arg| &arg.weight_sets);
    let weights = sets.get(position).or(sets.last()).map_or(own_weights, Vec::as_slice);
    let ids = arg.map(|arg| &arg.ids).filter(|ids| !ids.is_empty()).unwrap_or(&bucket.items);
    longest(bucket.items.iter().enumerate().map(|(index, &item)| {
        let id = ids.get(index).copied().unwrap_or(item);
        let weight = weights.get(index).copied().unwrap_or(0);
        (item, straw2_draw(x, id, r, weight))
    }))
}

fn straw2_draw(x: u32, id: i32, r: u32, weight: u32) -> i64 {
    if weight == 0 {
        return i64::MIN;
    }
    let [low, high, _, _] = crush_hash3(x, id.cast_unsigned(), r).to_le_bytes();
    let ln = crush_ln(u16::from_le_bytes([low, high]));
    (ln.cast_signed() - LN_ONE) / i64::from(weight)
}

/// The item with the largest draw; the first of several.
fn longest<D: Ord>(draws: impl Iterator<Item = (i32, D)>) -> Option<i32> {
    let mut best: Option<(i32, D)> = None;
    for (item, draw) in draws {
        if best.as_ref().is_none_or(|(_, longest)| draw > *longest) {
            best = Some((item, draw));
        }
    }
    best.map(|(item, _)| item)
}
