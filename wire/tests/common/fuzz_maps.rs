//! OSD maps, and changes of them, in which one collection at a time is large.
//!
//! A fuzzer grows a collection by one element in millions of test cases. These start with trees of three levels, so
//! that reading, changing and removing them is reached at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use wire::codec::encode_to_bytes;
use wire::crush::{Algorithm, Bucket, ChooseArg, CrushMap, ListWeight, Rule, Step, StrawWeight};
use wire::osdmap::{Blocklist, Incremental, Osd, OsdMap, OsdState, OsdXInfo, Pool, PoolOption, PoolSnapshot};
use wire::types::{Addr, AddrVec, Epoch, IntervalSet, PgId, UTime};

/// Elements of a large collection: enough for three levels of a tree.
const MANY: i32 = 96;
/// Elements of a collection whose elements are large: enough for two levels.
const SOME: i32 = 16;
/// Items of a large bucket that is a tree; the number of its nodes is one byte.
const TREE: i32 = 60;

/// Makes one collection of a map large.
type Grow = fn(&mut OsdMap);
/// Makes one collection of a change large: it adds between what [`Grow`] put there, and removes some of that.
type Change = fn(&mut Incremental);

/// Maps with one large collection each.
pub fn maps(base: &OsdMap) -> Vec<OsdMap> {
    let grown = |grow: &Grow| {
        let mut map = base.clone();
        grow(&mut map);
        map
    };
    let changed = CHANGED.iter().map(|(grow, _)| grow);
    GROWN.iter().chain(changed).map(grown).collect()
}

/// Maps with one large collection each, and a change of that.
pub fn changes(base: &OsdMap) -> Vec<(OsdMap, Incremental)> {
    let pair = |(grow, change): &(Grow, Change)| {
        let mut map = base.clone();
        grow(&mut map);
        let mut next = Incremental { fsid: map.fsid, epoch: map.epoch.next(), ..Incremental::default() };
        change(&mut next);
        (map, next)
    };
    CHANGED.iter().map(pair).collect()
}

/// Maps over these trees, for each tree one of every [`program`], with OSDs that are in, half in, out and down.
pub fn placements(base: &OsdMap, trees: &[CrushMap]) -> Vec<OsdMap> {
    let over = |(number, tree): (usize, &CrushMap), n: i32| {
        let mut map = base.clone();
        osds(&mut map);
        map.osds.resize(index(tree.max_devices), map.osds[0].clone());
        for (at, osd) in map.osds.iter_mut().enumerate() {
            osd.weight = [0x1_0000, 0x1_0000, 0x8000, 0][(at + number) % 4];
            osd.state = [OsdState::EXISTS | OsdState::UP, OsdState::EXISTS][usize::from(at % 5 == 4)];
        }
        let crush = crush(&mut map);
        *crush = tree.clone();
        crush.tunables.choose_local_tries = [0, 2, 5][number % 3];
        crush.tunables.choose_local_fallback_tries = [0, 0, 3, 5][number % 4];
        crush.tunables.chooseleaf_descend_once = small(number % 2);
        crush.tunables.chooseleaf_vary_r = [0, 1, 4][number / 2 % 3];
        crush.tunables.chooseleaf_stable = [0, 1][number / 3 % 2];
        let root = tree.buckets.iter().flatten().map(|bucket| bucket.id).max().expect("a tree has buckets");
        let kind = if n % 2 == 0 { Pool::REPLICATED } else { Pool::ERASURE };
        let rule = Rule { ruleset: 0, kind, min_size: 1, max_size: 10, steps: program(n, root) };
        crush.rules = vec![Some(rule)];
        let mut pool = Pool::replicated(8, [3, 6, 1, 10][index(n) % 4], 1, 0, UTime::default());
        pool.kind = kind;
        map.pools = [(1, pool)].into();
        map
    };
    trees.iter().enumerate().flat_map(|tree| (0..PROGRAMS).map(move |n| over(tree, n))).collect()
}

/// How many programs there are.
pub const PROGRAMS: i32 = 24;

/// Steps that take another way through the mapping than those of other numbers; every second fills positions.
fn program(n: i32, root: i32) -> Vec<Step> {
    let (choose, leaf) = match n % 2 {
        0 => (Step::CHOOSE_FIRSTN, Step::CHOOSELEAF_FIRSTN),
        _ => (Step::CHOOSE_INDEP, Step::CHOOSELEAF_INDEP),
    };
    let value = [0, 1, 3, 60, -1, i32::MAX][index(n) / 2 % 6];
    let mut steps = vec![
        Step::new(Step::SET_CHOOSE_TRIES, value, 0),
        Step::new(Step::SET_CHOOSELEAF_TRIES, [5, value][index(n) / 4 % 2], 0),
        Step::new(Step::SET_CHOOSE_LOCAL_TRIES, value.min(9), 0),
        Step::new(Step::SET_CHOOSE_LOCAL_FALLBACK_TRIES, [0, value.min(7)][index(n) / 6 % 2], 0),
        Step::new(Step::SET_CHOOSELEAF_VARY_R, value.min(4), 0),
        Step::new(Step::SET_CHOOSELEAF_STABLE, value.min(1), 0),
        Step::new(99, value, value),
        Step::new(Step::TAKE, root, 0),
    ];
    steps.extend(match n / 2 % 6 {
        0 => vec![Step::new(leaf, 0, 1)],
        1 => vec![Step::new(choose, 2, 1), Step::new(choose, 2, 0)],
        2 => vec![Step::new(choose, 0, 0)],
        3 => vec![Step::new(choose, -1, 1), Step::new(leaf, 1, 0)],
        4 => vec![Step::new(leaf, 1, 1), Step::new(Step::EMIT, 0, 0), Step::new(Step::TAKE, 0, 0)],
        _ => vec![Step::new(leaf, 300, -1), Step::new(leaf, -300, 1), Step::new(leaf, 2, 3)],
    });
    steps.push(Step::new(Step::EMIT, 0, 0));
    steps.push(Step::new(Step::TAKE, 77_777, 0));
    steps
}

/// Collections that a change replaces as a whole or not at all.
const GROWN: &[Grow] = &[
    |map| pool(map).snaps = odd(|n| (wide(n), snapshot(n))),
    |map| pool(map).removed_snaps = intervals(),
    |map| pool(map).tiers = odd(|n| (wide(n), ())).into_keys().collect(),
    |map| pool(map).properties = odd(|n| (name(n), name(n))),
    |map| pool(map).options = odd(option),
    |map| pool(map).applications = odd(|n| (name(n), BTreeMap::new())),
    |map| pool(map).applications = [("rbd".to_owned(), odd(|n| (name(n), name(n))))].into(),
    |map| crush(map).type_names.extend(odd(|n| (n, name(n)))),
    |map| crush(map).item_names.extend(odd(|n| (n, name(n)))),
    |map| crush(map).rule_names.extend(odd(|n| (n, name(n)))),
    |map| crush(map).item_classes.extend(odd(|n| (n, n % 3))),
    |map| crush(map).class_names.extend(odd(|n| (n, name(n)))),
    |map| crush(map).class_buckets = odd(|n| (-n, [(1, -n)].into())),
    |map| crush(map).class_buckets = [(-1, odd(|n| (n, -n)))].into(),
    |map| crush(map).choose_args = odd(|n| (n.into(), BTreeMap::new())),
    |map| crush(map).choose_args = [(-1, (0..40).map(|n| (n, choose_arg())).collect())].into(),
    |map| crush(map).rules = (0..SOME).map(rule).collect(),
    |map| crush(map).buckets.extend((0..MANY).map(|_| None)),
    |map| hosts(map, MANY, |items| Algorithm::Straw2(weights(items))),
    |map| hosts(map, MANY, |_| Algorithm::Uniform { item_weight: 0x1_0000 }),
    |map| hosts(map, TREE, |items| Algorithm::Tree { node_weights: weights(items.next_power_of_two() * 2) }),
    |map| {
        hosts(map, MANY, |items| {
            Algorithm::List((1..=items).map(|n| ListWeight { item: 1, sum: small(n) }).collect())
        })
    },
    |map| {
        hosts(map, MANY, |items| {
            Algorithm::Straw((1..=items).map(|n| StrawWeight { item: 1, straw: small(n) }).collect())
        })
    },
    |map| map.primary_affinity = vec![0x8000; map.osds.len()],
];

/// Collections that a change adds to and takes from.
const CHANGED: &[(Grow, Change)] = &[
    (pools, |next| {
        next.new_pools = (0..SOME).map(|n| (i64::from(2 * n + 1), new_pool())).collect();
        next.old_pools = (0..SOME).step_by(4).map(i64::from).collect();
    }),
    (
        |map| map.pool_names.extend(odd(|n| (n.into(), name(n)))),
        |next| {
            next.new_pool_names = even(|n| (n.into(), name(n)));
            next.old_pools = most().map(i64::from).collect();
        },
    ),
    (
        |map| map.pg_temp = odd(|n| (pg(n), vec![n])),
        |next| {
            next.new_pg_temp = even(|n| (pg(n), vec![n, 1]));
            next.new_pg_temp.extend(most().map(|n| (pg(n), vec![])));
        },
    ),
    (
        |map| map.primary_temp = odd(|n| (pg(n), n)),
        |next| {
            next.new_primary_temp = even(|n| (pg(n), n));
            next.new_primary_temp.extend(most().map(|n| (pg(n), -1)));
        },
    ),
    (
        |map| map.erasure_code_profiles = odd(|n| (name(n), BTreeMap::new())),
        |next| {
            next.new_erasure_code_profiles = even(|n| (name(n), [(name(n), name(n))].into()));
            next.old_erasure_code_profiles = most().map(name).collect();
        },
    ),
    (
        |map| map.erasure_code_profiles = [("p".to_owned(), odd(|n| (name(n), name(n))))].into(),
        |next| next.new_erasure_code_profiles = [("p".to_owned(), even(|n| (name(n), name(n))))].into(),
    ),
    (
        |map| map.pg_upmap = odd(|n| (pg(n), vec![n])),
        |next| {
            next.new_pg_upmap = even(|n| (pg(n), vec![n]));
            next.old_pg_upmap = most().map(pg).collect();
        },
    ),
    (
        |map| map.pg_upmap_items = odd(|n| (pg(n), vec![(n, 0)])),
        |next| {
            next.new_pg_upmap_items = even(|n| (pg(n), vec![(n, 0)]));
            next.old_pg_upmap_items = most().map(pg).collect();
        },
    ),
    (
        |map| {
            map.new_removed_snaps = odd(|n| (n.into(), one_interval()));
            map.removed_snaps_queue = map.new_removed_snaps.clone();
        },
        |next| {
            next.new_removed_snaps = even(|n| (n.into(), one_interval()));
            next.new_purged_snaps = most().map(|n| (n.into(), one_interval())).collect();
        },
    ),
    (
        |map| {
            map.new_purged_snaps = [(1, intervals())].into();
            map.removed_snaps_queue = [(1, intervals())].into();
        },
        |next| {
            // Joins some, and takes a piece out of others.
            let joins = |n: i32| (wide(n), 4);
            let pieces = |n: i32| (wide(n) + 1, 1);
            next.new_removed_snaps = [(1, ranges(even(joins)))].into();
            next.new_purged_snaps = [(1, ranges(odd(pieces)))].into();
        },
    ),
    (
        |map| map.blocklist = Blocklist(odd(|n| (addr(n), UTime::default()))),
        |next| {
            next.new_blocklist = Blocklist(even(|n| (addr(n), UTime::default())));
            next.old_blocklist = most().map(addr).collect();
        },
    ),
    (
        |map| map.crush_node_flags = odd(|n| (n, 1)),
        |next| {
            next.new_crush_node_flags = even(|n| (n, 1));
            next.new_crush_node_flags.extend(most().map(|n| (n, 0)));
        },
    ),
    (
        |map| map.device_class_flags = odd(|n| (n, 1)),
        |next| {
            next.new_device_class_flags = even(|n| (n, 1));
            next.new_device_class_flags.extend(most().map(|n| (n, 0)));
        },
    ),
    (osds, |next| {
        next.new_weight = each_osd(|n| (n, 0x8000));
        next.new_primary_affinity = each_osd(|n| (n, 0x8000));
        next.new_state = each_osd(|n| (n, [OsdState::NONE, OsdState::EXISTS, OsdState::UP][index(n) % 3]));
    }),
    (osds, |next| {
        next.new_up_client = each_osd(|n| (n, addrs(n)));
        next.new_up_cluster = each_osd(|n| (n, addrs(n)));
        next.new_heartbeat_back_up = each_osd(|n| (n, addrs(n)));
        next.new_heartbeat_front_up = each_osd(|n| (n, addrs(n)));
    }),
    (osds, |next| {
        next.new_up_thru = each_osd(|n| (n, Epoch(2)));
        next.new_last_clean_interval = each_osd(|n| (n, (Epoch(1), Epoch(2))));
        next.new_lost = each_osd(|n| (n, Epoch(2)));
        let fsid = next.fsid;
        next.new_uuid = each_osd(|n| (n, fsid));
        next.new_xinfo = each_osd(|n| (n, OsdXInfo::default()));
    }),
    (osds, |next| next.new_max_osd = 2 * SOME),
    (osds, |next| next.new_max_osd = 1),
    (osds, |next| {
        // More OSDs than the map has: for those that grow it first.
        next.new_max_osd = MANY;
        next.new_weight = odd(|n| (n / 2, 0x1_0000));
    }),
    (
        |map| crush(map).item_names.extend(odd(|n| (n, name(n)))),
        |next| {
            let mut map = OsdMap::default();
            hosts(&mut map, MANY, |items| Algorithm::Straw2(weights(items)));
            next.crush = encode_to_bytes(&*map.crush);
        },
    ),
    (osds, |next| {
        let mut map = OsdMap { fsid: next.fsid, epoch: next.epoch, ..OsdMap::default() };
        osds(&mut map);
        next.full_map = encode_to_bytes(&map);
    }),
];

fn odd<K: Ord, V>(element: impl Fn(i32) -> (K, V)) -> BTreeMap<K, V> {
    (0..MANY).map(|n| element(2 * n + 1)).collect()
}

fn even<K: Ord, V>(element: impl Fn(i32) -> (K, V)) -> BTreeMap<K, V> {
    (0..MANY).map(|n| element(2 * n)).collect()
}

fn each_osd<V>(element: impl Fn(i32) -> (i32, V)) -> BTreeMap<i32, V> {
    (0..SOME).map(element).collect()
}

/// Most of the odd numbers.
fn most() -> impl Iterator<Item = i32> {
    (0..MANY).filter(|n| n % 8 != 0).map(|n| 2 * n + 1)
}

fn index(n: i32) -> usize {
    usize::try_from(n).unwrap()
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap()
}

fn wide(n: i32) -> u64 {
    4 * u64::try_from(n).unwrap()
}

fn name(n: i32) -> String {
    format!("n{n:03}")
}

fn pg(n: i32) -> PgId {
    PgId::new(1, n.unsigned_abs())
}

fn addr(n: i32) -> Addr {
    let socket =
        if n % 3 == 0 { SocketAddr::from(([0; 16], 1)) } else { SocketAddr::from(([127, 0, 0, 1], 1)) };
    Addr::msgr2(socket, n.unsigned_abs())
}

fn addrs(n: i32) -> AddrVec {
    AddrVec::from(addr(n))
}

fn snapshot(n: i32) -> PoolSnapshot {
    PoolSnapshot { id: wide(n), stamp: UTime::default(), name: name(n) }
}

fn option(n: i32) -> (i32, PoolOption) {
    let value = match n % 3 {
        0 => PoolOption::Text(name(n)),
        1 => PoolOption::Integer(n.into()),
        _ => PoolOption::Float(Default::default()),
    };
    (n, value)
}

fn one_interval() -> IntervalSet {
    ranges([(4, 2)].into())
}

fn intervals() -> IntervalSet {
    ranges(odd(|n| (wide(n), 3)))
}

fn ranges(ranges: BTreeMap<u64, u64>) -> IntervalSet {
    let mut set = IntervalSet::new();
    ranges.into_iter().for_each(|(start, length)| set.insert(start, length));
    set
}

fn pool(map: &mut OsdMap) -> &mut Pool {
    map.pools.values_mut().next().expect("the map has a pool")
}

fn pools(map: &mut OsdMap) {
    map.pools.extend((0..SOME).map(|n| (i64::from(2 * n), new_pool())));
}

fn new_pool() -> Pool {
    Pool::replicated(8, 1, 1, 0, UTime::default())
}

fn osds(map: &mut OsdMap) {
    let one = |n| Osd {
        state: OsdState::EXISTS | OsdState::UP,
        weight: 0x1_0000,
        client_addrs: addrs(n),
        ..Osd::default()
    };
    map.osds = (0..SOME).map(one).collect();
}

fn crush(map: &mut OsdMap) -> &mut CrushMap {
    Arc::make_mut(&mut map.crush)
}

fn weights(items: usize) -> Vec<u32> {
    vec![0x1_0000; items]
}

fn choose_arg() -> ChooseArg {
    ChooseArg { weight_sets: vec![weights(1), weights(1)], ids: vec![7] }
}

fn rule(n: i32) -> Option<Rule> {
    let ruleset = u8::try_from(n).unwrap();
    let steps = vec![
        Step::new(Step::SET_CHOOSELEAF_TRIES, 5, 0),
        Step::new(Step::SET_CHOOSE_TRIES, 100, 0),
        Step::new(Step::TAKE, -1, 0),
        Step::new([Step::CHOOSE_FIRSTN, Step::CHOOSE_INDEP][index(n) % 2], 0, 1),
        Step::new([Step::CHOOSELEAF_INDEP, Step::CHOOSELEAF_FIRSTN][index(n) % 2], 1, 0),
        Step::new(Step::EMIT, 0, 0),
    ];
    (n != 3).then_some(Rule {
        ruleset,
        kind: if n % 2 == 0 { 1 } else { 3 },
        min_size: 1,
        max_size: 10,
        steps,
    })
}

/// A root with many hosts, each with an OSD, all of one algorithm.
fn hosts(map: &mut OsdMap, count: i32, algorithm: fn(usize) -> Algorithm) {
    osds(map);
    let bucket = |id, kind, items: Vec<i32>| {
        let algorithm = algorithm(items.len());
        Some(Bucket { id, kind, hash: 0, weight: 0x1_0000 * small(items.len()), items, algorithm })
    };
    let hosts: Vec<i32> = (0..count).map(|n| -2 - n).collect();
    let leaves = hosts.iter().map(|&id| bucket(id, 1, vec![(-2 - id) % SOME]));
    let buckets = [bucket(-1, 11, hosts.clone())].into_iter().chain(leaves).collect();
    let crush = crush(map);
    crush.max_devices = SOME;
    crush.buckets = buckets;
    crush.rules = (0..4).map(rule).collect();
    crush.choose_args.clear();
    crush.class_buckets.clear();
}
