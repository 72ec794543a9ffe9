//! Encoding of a CRUSH map, as monitors store it and the OSD map carries it.
//!
//! The decoder checks what the mapping and the builder rely on: slots and ids agree, types are above 0, weights
//! are as many as items, and the hierarchy has no cycle and bounded depth. Fields that a newer release may append
//! are skipped.

use std::collections::BTreeMap;

use super::map::{
    Algorithm, Bucket, ChooseArg, ChooseArgs, CrushMap, ListWeight, Rule, Step, StrawWeight, Tunables, slot,
};
use crate::codec::{DecodeResult, Reader, Wire, Writer};
use crate::limits::{CRUSH_BUCKETS_MAX, CRUSH_DEPTH_MAX, CRUSH_RULES_MAX};

//= ceph 16.2 crush: magic of the encoding, and the numbers of the bucket algorithms
const MAGIC: u32 = 0x0001_0000;
const UNIFORM: u8 = 1;
const LIST: u8 = 2;
const TREE: u8 = 3;
const STRAW: u8 = 4;
const STRAW2: u8 = 5;
const HASH_RJENKINS1: u8 = 0;

impl Wire for CrushMap {
    const BYTES_MIN: usize = 28;

    fn encode(&self, w: &mut Writer) {
        w.u32(MAGIC);
        w.count(self.buckets.len());
        w.count(self.rules.len());
        w.s32(self.max_devices);
        for bucket in &self.buckets {
            match bucket {
                None => w.u32(0),
                Some(bucket) => encode_bucket(bucket, w),
            }
        }
        for rule in &self.rules {
            w.u32(u32::from(rule.is_some()));
            if let Some(rule) = rule {
                w.put(rule);
            }
        }
        w.map(&self.type_names);
        w.map(&self.item_names);
        w.map(&self.rule_names);
        w.put(&self.tunables);
        w.map(&self.item_classes);
        w.map(&self.class_names);
        w.map(&self.class_buckets);
        w.map_with(&self.choose_args, Writer::put, |w, args: &ChooseArgs| w.map(args));
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.within("crush map", |r| {
            let magic = r.u32()?;
            if magic != MAGIC {
                return Err(r.error(format!("magic {MAGIC:#x}"), format!("{magic:#x}")));
            }
            let bucket_count = bounded_count(r, CRUSH_BUCKETS_MAX, "buckets")?;
            let rule_count = bounded_count(r, CRUSH_RULES_MAX, "rules")?;
            let max_devices = r.s32()?;
            let mut map = Self { max_devices, ..Self::default() };
            for index in 0..bucket_count {
                map.buckets.push(decode_bucket(r, index)?);
            }
            for _ in 0..rule_count {
                map.rules.push(if r.u32()? == 0 { None } else { Some(r.get()?) });
            }
            map.type_names = r.map()?;
            map.item_names = r.map()?;
            map.rule_names = r.map()?;
            map.tunables = r.get()?;
            if !r.is_empty() {
                map.item_classes = r.map()?;
                map.class_names = r.map()?;
                map.class_buckets = r.map()?;
            }
            if !r.is_empty() {
                map.choose_args = r.map_with(12, Reader::get, Reader::map)?;
            }
            r.rest();
            check_hierarchy(&map, r)?;
            Ok(map)
        })
    }
}

/// A number of slots. Even a hole takes four bytes.
fn bounded_count(r: &mut Reader, max: usize, what: &str) -> DecodeResult<usize> {
    let count = r.count(4)?;
    if count > max {
        return Err(r.error(format!("at most {max} {what}"), count.to_string()));
    }
    Ok(count)
}

fn encode_bucket(bucket: &Bucket, w: &mut Writer) {
    let algorithm = match bucket.algorithm {
        Algorithm::Uniform { .. } => UNIFORM,
        Algorithm::List(_) => LIST,
        Algorithm::Tree { .. } => TREE,
        Algorithm::Straw(_) => STRAW,
        Algorithm::Straw2(_) => STRAW2,
    };
    w.u32(u32::from(algorithm));
    w.s32(bucket.id);
    w.u16(bucket.kind);
    w.u8(algorithm);
    w.u8(bucket.hash);
    w.u32(bucket.weight);
    w.list(&bucket.items);
    match &bucket.algorithm {
        Algorithm::Uniform { item_weight } => w.u32(*item_weight),
        Algorithm::List(weights) => weights.iter().for_each(|weight| {
            w.u32(weight.item);
            w.u32(weight.sum);
        }),
        Algorithm::Tree { node_weights } => {
            // The decoder's bound and the builder (which makes no trees) keep this below 256.
            w.u8(u8::try_from(node_weights.len()).unwrap_or(u8::MAX));
            node_weights.iter().for_each(|&weight| w.u32(weight));
        }
        Algorithm::Straw(weights) => weights.iter().for_each(|weight| {
            w.u32(weight.item);
            w.u32(weight.straw);
        }),
        Algorithm::Straw2(weights) => weights.iter().for_each(|&weight| w.u32(weight)),
    }
}

fn decode_bucket(r: &mut Reader, index: usize) -> DecodeResult<Option<Bucket>> {
    let slot_algorithm = r.u32()?;
    if slot_algorithm == 0 {
        return Ok(None);
    }
    let id = r.s32()?;
    if slot(id) != Some(index) {
        return Err(r.error(format!("the bucket of slot {index}"), format!("id {id}")));
    }
    let kind = r.u16()?;
    if kind == 0 {
        return Err(r.error("a bucket type above 0", format!("0 in bucket {id}")));
    }
    let algorithm = r.u8()?;
    if u32::from(algorithm) != slot_algorithm {
        return Err(r.error(format!("bucket algorithm {slot_algorithm}"), algorithm.to_string()));
    }
    let hash = r.u8()?;
    if hash != HASH_RJENKINS1 {
        return Err(r.error("hash function 0", hash.to_string()));
    }
    let weight = r.u32()?;
    let items: Vec<i32> = r.list()?;
    let algorithm = match algorithm {
        UNIFORM => Algorithm::Uniform { item_weight: r.u32()? },
        LIST => Algorithm::List(per_item(r, &items, |r| Ok(ListWeight { item: r.u32()?, sum: r.u32()? }))?),
        TREE => {
            let nodes = usize::from(r.u8()?);
            if nodes > 0 && !nodes.is_power_of_two() {
                return Err(r.error("a power of two of tree nodes", nodes.to_string()));
            }
            Algorithm::Tree { node_weights: (0..nodes).map(|_| r.u32()).collect::<DecodeResult<_>>()? }
        }
        STRAW => {
            Algorithm::Straw(per_item(r, &items, |r| Ok(StrawWeight { item: r.u32()?, straw: r.u32()? }))?)
        }
        STRAW2 => Algorithm::Straw2(per_item(r, &items, Reader::u32)?),
        other => return Err(r.error("a bucket algorithm from 1 to 5", other.to_string())),
    };
    Ok(Some(Bucket { id, kind, hash, weight, items, algorithm }))
}

fn per_item<T>(
    r: &mut Reader,
    items: &[i32],
    mut read: impl FnMut(&mut Reader) -> DecodeResult<T>,
) -> DecodeResult<Vec<T>> {
    items.iter().map(|_| read(r)).collect()
}

/// Refuses cycles and chains of buckets deeper than [`CRUSH_DEPTH_MAX`]: what walks the tree may recurse.
fn check_hierarchy(map: &CrushMap, r: &Reader) -> DecodeResult<()> {
    // From the leaves up: each round settles the buckets whose children are all settled.
    let mut unsettled: BTreeMap<i32, &Bucket> =
        map.buckets.iter().flatten().map(|bucket| (bucket.id, bucket)).collect();
    for _ in 0..CRUSH_DEPTH_MAX {
        let settled: Vec<i32> = unsettled
            .values()
            .filter(|bucket| !bucket.items.iter().any(|item| unsettled.contains_key(item)))
            .map(|bucket| bucket.id)
            .collect();
        for id in settled {
            unsettled.remove(&id);
        }
    }
    match unsettled.keys().next_back() {
        None => Ok(()),
        Some(id) => Err(r.error(
            format!("a tree of at most {CRUSH_DEPTH_MAX} levels"),
            format!("a cycle or a deeper chain at bucket {id}"),
        )),
    }
}

impl Wire for Rule {
    const BYTES_MIN: usize = 8;

    fn encode(&self, w: &mut Writer) {
        w.count(self.steps.len());
        w.u8(self.ruleset);
        w.u8(self.kind);
        w.u8(self.min_size);
        w.u8(self.max_size);
        for step in &self.steps {
            w.u32(step.op);
            w.s32(step.arg1);
            w.s32(step.arg2);
        }
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let step_count = r.count(12)?;
        let (ruleset, kind, min_size, max_size) = (r.u8()?, r.u8()?, r.u8()?, r.u8()?);
        let steps = (0..step_count)
            .map(|_| Ok(Step { op: r.u32()?, arg1: r.s32()?, arg2: r.s32()? }))
            .collect::<DecodeResult<_>>()?;
        Ok(Self { ruleset, kind, min_size, max_size, steps })
    }
}

impl Wire for Tunables {
    const BYTES_MIN: usize = 0;

    fn encode(&self, w: &mut Writer) {
        w.u32(self.choose_local_tries);
        w.u32(self.choose_local_fallback_tries);
        w.u32(self.choose_total_tries);
        w.u32(self.chooseleaf_descend_once);
        w.u8(self.chooseleaf_vary_r);
        w.u8(self.straw_calc_version);
        w.u32(self.allowed_bucket_algs);
        w.u8(self.chooseleaf_stable);
    }

    /// Each group was appended by a later release; what the encoder did not know has the legacy value.
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let mut tunables = Self::LEGACY;
        if !r.is_empty() {
            tunables.choose_local_tries = r.u32()?;
            tunables.choose_local_fallback_tries = r.u32()?;
            tunables.choose_total_tries = r.u32()?;
        }
        if !r.is_empty() {
            tunables.chooseleaf_descend_once = r.u32()?;
        }
        if !r.is_empty() {
            tunables.chooseleaf_vary_r = r.u8()?;
        }
        if !r.is_empty() {
            tunables.straw_calc_version = r.u8()?;
        }
        if !r.is_empty() {
            tunables.allowed_bucket_algs = r.u32()?;
        }
        if !r.is_empty() {
            tunables.chooseleaf_stable = r.u8()?;
        }
        Ok(tunables)
    }
}

impl Wire for ChooseArg {
    const BYTES_MIN: usize = 8;

    fn encode(&self, w: &mut Writer) {
        w.list(&self.weight_sets);
        w.list(&self.ids);
    }

    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { weight_sets: r.list()?, ids: r.list()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::{decode_exact, encode_to_bytes};
    use crate::crush::{Input, do_rule};

    fn bucket(id: i32, items: Vec<i32>) -> Option<Bucket> {
        let algorithm = Algorithm::Straw2(vec![0x1_0000; items.len()]);
        Some(Bucket { id, kind: 1, hash: 0, weight: 0, items, algorithm })
    }

    fn decode(map: &CrushMap) -> DecodeResult<CrushMap> {
        decode_exact("crush map", encode_to_bytes(map))
    }

    #[test]
    fn cycles_and_towers_are_refused() {
        let map =
            CrushMap { buckets: vec![bucket(-1, vec![-2]), bucket(-2, vec![-1])], ..CrushMap::default() };
        assert!(decode(&map).unwrap_err().got.contains("cycle"));
        let tower = |levels: i32| CrushMap {
            buckets: (1..=levels).map(|level| bucket(-level, vec![-level - 1])).collect(),
            ..CrushMap::default()
        };
        let levels = i32::try_from(CRUSH_DEPTH_MAX).unwrap();
        assert_eq!(decode(&tower(levels)), Ok(tower(levels)));
        assert!(decode(&tower(levels + 1)).is_err());
    }

    #[test]
    fn a_map_without_tunables_has_the_legacy_ones() {
        let mut bytes = encode_to_bytes(&CrushMap::default());
        bytes.truncate(28);
        let map: CrushMap = decode_exact("crush map", bytes).unwrap();
        assert_eq!(map.tunables, Tunables::LEGACY);
    }

    fn any_bucket(id: i32) -> impl Strategy<Value = Option<Bucket>> {
        let items = prop::collection::vec(-6..8i32, 0..6);
        (items, 0..6u8, prop::collection::vec(any::<u32>(), 12), 1..3u16).prop_map(
            move |(items, alg, w, kind)| {
                let pairs = || items.iter().zip(w.chunks_exact(2));
                let algorithm = match alg {
                    0 => return None,
                    1 => Algorithm::Uniform { item_weight: w[0] },
                    2 => {
                        Algorithm::List(pairs().map(|(_, w)| ListWeight { item: w[0], sum: w[1] }).collect())
                    }
                    3 => Algorithm::Tree { node_weights: w[..8].to_vec() },
                    4 => Algorithm::Straw(
                        pairs().map(|(_, w)| StrawWeight { item: w[0], straw: w[1] }).collect(),
                    ),
                    _ => Algorithm::Straw2(w[..items.len()].to_vec()),
                };
                Some(Bucket { id, kind, hash: 0, weight: w[11], items, algorithm })
            },
        )
    }

    proptest! {
        /// Any map that has the right shape, even one with cycles and absurd tunables, maps in bounded time.
        #[test]
        fn mapping_is_total(
            buckets in (-6..0i32).rev().map(any_bucket).collect::<Vec<_>>(),
            steps in prop::collection::vec((0..14u32, -6..200i32, -1..4i32), 0..8),
            tries in (0..3u32, 0..8u32, 0..60u32, 0..2u32, 0..3u8),
            x in any::<u32>(),
        ) {
            let (local, fallback, total, once, vary_r) = tries;
            let steps = steps.into_iter().map(|(op, arg1, arg2)| Step { op, arg1, arg2 });
            let steps = [Step::new(Step::TAKE, -1, 0)].into_iter().chain(steps).chain([Step::new(Step::EMIT, 0, 0)]);
            let rule = Rule { ruleset: 0, kind: 1, min_size: 1, max_size: 9, steps: steps.collect() };
            let tunables = Tunables {
                choose_local_tries: local,
                choose_local_fallback_tries: fallback,
                choose_total_tries: total,
                chooseleaf_descend_once: once,
                chooseleaf_vary_r: vary_r,
                ..Tunables::JEWEL
            };
            let map = CrushMap { max_devices: 7, buckets, rules: vec![Some(rule)], tunables, ..CrushMap::default() };
            let weights = [0x1_0000, 0, 0x8000, 0x1_0000, 1, 0x1_0000];
            let result = do_rule(&map, 0, Input { x, result_max: 5, weights: &weights, choose_args: None });
            prop_assert!(result.len() <= 5);
            if let Ok(back) = decode(&map) {
                prop_assert_eq!(back, map);
            }
        }
    }
}
