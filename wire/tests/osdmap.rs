//! The OSD map against real maps of Ceph 16.2: bytes, checksums, increments, and the placement of all PGs and of
//! 880 objects.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{hex, int, load, text, unhex, vectors_in};
use serde_json::Value;
use wire::codec::{Wire, decode_exact, encode_to_bytes};
use wire::crush::CrushMap;
use wire::osdmap::{Incremental, OsdInfo, OsdMap, OsdXInfo, Pool, PoolSnapshot, Step};
use wire::placement::{self, ObjectName, map_pg};
use wire::types::{Epoch, PgId};

fn pg(value: &Value) -> PgId {
    let (pool, seed) = text(value).split_once('.').unwrap();
    PgId::new(pool.parse().unwrap(), u32::from_str_radix(seed, 16).unwrap())
}

fn osds(value: &Value) -> Vec<i32> {
    value.as_array().unwrap().iter().map(int).collect()
}

#[test]
fn every_pg_is_where_ceph_has_it() {
    let mut pgs = 0;
    for (name, vector) in vectors_in("osdmap") {
        let Some(rows) = vector.get("pgs") else { continue };
        let map: OsdMap = decode_exact("osd map", hex(&vector["hex"])).unwrap();
        assert_eq!(map.epoch, Epoch(int(&vector["epoch"])));
        for row in rows.as_array().unwrap() {
            let at = map_pg(&map, pg(&row[0]));
            let found = (at.up, at.up_primary, at.acting, at.acting_primary);
            assert_eq!(found, (osds(&row[2]), int(&row[3]), osds(&row[4]), int(&row[5])), "{name} {row}");
            pgs += 1;
        }
    }
    assert_eq!(pgs, 602, "none left out");
}

#[test]
fn every_object_is_where_ceph_has_it() {
    let vector = load("osdmap/objects.json");
    let map: OsdMap = decode_exact("osd map", hex(&vector["map_hex"])).unwrap();
    let rows = vector["objects"].as_array().unwrap();
    for row in rows {
        let name = ObjectName { name: text(&row[2]).as_bytes(), key: b"", nspace: text(&row[1]).as_bytes() };
        let found = placement::map(&map, int(&row[0]), name).unwrap();
        assert_eq!(PgId::new(int(&row[0]), found.hash), pg(&row[3]), "{row}");
        assert_eq!(found.pg, pg(&row[4]), "{row}");
        assert_eq!((found.at.up, found.at.up_primary), (osds(&row[5]), int(&row[6])), "{row}");
        assert_eq!((found.at.acting, found.at.acting_primary), (osds(&row[7]), int(&row[8])), "{row}");
    }
    assert_eq!(rows.len(), 880);
}

#[test]
fn increments_lead_from_map_to_map() {
    let vector = load("osdmap/incrementals.json");
    let full_maps = vector["full_maps"].as_object().unwrap();
    let mut map = OsdMap::default();
    let (mut compared, mut skipped) = (0, 0);
    for row in vector["incrementals"].as_array().unwrap() {
        let bytes = hex(&row["hex"]);
        let inc: Incremental = decode_exact("increment", bytes.clone()).unwrap();
        assert_eq!(encode_to_bytes(&inc), bytes, "epoch {}", inc.epoch);
        assert_eq!(inc.full_crc, int::<u32>(&row["full_crc"]));
        if inc.epoch.0 != map.epoch.0 + 1 {
            // The recording has a gap: go on from a full map.
            map = decode_exact("osd map", hex(&full_maps[&(inc.epoch.0 - 1).to_string()])).unwrap();
            skipped += 1;
        }
        map = map.apply(&inc).unwrap();
        let (bytes, crc) = map.encode_with_crc();
        assert_eq!(map.epoch, inc.epoch);
        if let Some(expected) = full_maps.get(&inc.epoch.to_string()) {
            let expected = hex(expected);
            assert_eq!(decode_exact::<OsdMap>("osd map", expected.clone()).as_ref(), Ok(&map));
            assert_eq!(bytes, expected, "epoch {}", inc.epoch);
            compared += 1;
        }
        assert_eq!(crc, inc.full_crc, "epoch {}", inc.epoch);
    }
    assert!(compared >= 10, "{compared}");
    assert!(skipped <= 2, "{skipped}");
}

#[test]
fn types_encode_to_the_same_bytes() {
    let vector = load("osdmap_types.json");
    fn check<T: Wire>(vector: &Value, name: &str) {
        for instance in vector[name].as_array().unwrap() {
            let bytes = unhex(text(instance));
            let value: T = decode_exact("type", bytes.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(encode_to_bytes(&value), bytes, "{name}");
        }
    }
    check::<OsdMap>(&vector, "OSDMap");
    check::<Incremental>(&vector, "OSDMap_Incremental");
    check::<Pool>(&vector, "pg_pool_t");
    check::<PoolSnapshot>(&vector, "pool_snap_info_t");
    check::<OsdInfo>(&vector, "osd_info_t");
    check::<OsdXInfo>(&vector, "osd_xinfo_t");
    check::<CrushMap>(&vector, "CrushWrapper");
}

#[test]
fn a_flipped_bit_is_noticed() {
    let bytes = hex(&load("osdmap/map1.json")["hex"]).to_vec();
    for at in (6..bytes.len()).step_by(97) {
        let mut broken = bytes.clone();
        broken[at] ^= 4;
        assert!(decode_exact::<OsdMap>("osd map", broken.into()).is_err(), "byte {at}");
    }
}

/// Between the maps of two consecutive epochs of a real cluster, the computed increment says everything, without
/// carrying a whole map.
#[test]
fn differences_of_real_maps_are_small_and_exact() {
    let vector = load("osdmap/incrementals.json");
    let mut map = OsdMap::default();
    let mut steps = 0;
    for row in vector["incrementals"].as_array().unwrap() {
        let inc: Incremental = decode_exact("increment", hex(&row["hex"])).unwrap();
        let Ok(next) = map.apply(&inc) else {
            let before = &vector["full_maps"][&(inc.epoch.0 - 1).to_string()];
            map = decode_exact::<OsdMap>("osd map", hex(before)).unwrap().apply(&inc).unwrap();
            continue;
        };
        let step = Step::between(&map, next.clone());
        assert_eq!(step.map, next, "epoch {}", next.epoch);
        assert_eq!(step.incremental.full_crc, inc.full_crc);
        assert_eq!(map.apply(&step.incremental).as_ref(), Ok(&next));
        assert!(next.epoch.0 == 1 || step.incremental.full_map.is_empty(), "epoch {}", next.epoch);
        map = next;
        steps += 1;
    }
    assert!(steps > 140, "{steps}");
}

#[test]
fn an_increment_that_does_not_fit_is_refused() {
    let map: OsdMap = decode_exact("osd map", hex(&load("osdmap/map1.json")["hex"])).unwrap();
    let fits = Incremental { fsid: map.fsid, epoch: map.epoch.next(), ..Incremental::default() };
    assert!(map.apply(&fits).is_ok());
    let late = Incremental { epoch: map.epoch.next().next(), ..fits.clone() };
    assert!(map.apply(&late).unwrap_err().to_string().contains("does not follow"));
    let foreign = Incremental { fsid: uuid::Uuid::nil(), ..fits.clone() };
    assert!(map.apply(&foreign).is_err());
    let mut nobody = fits.clone();
    nobody.new_weight.insert(8, 0);
    assert!(map.apply(&nobody).unwrap_err().to_string().contains("osd.8"));
    let endless = Incremental { new_max_osd: i32::MAX, ..fits };
    assert!(map.apply(&endless).is_err());
}

/// What a monitor does in the life of a small cluster, each as a draft.
#[test]
fn drafts_become_increments() {
    use wire::crush::{CrushMap, Location, ReplicatedRule, TYPE_DEVICE, WEIGHT_ONE};
    use wire::osdmap::{MapFlags, OsdState};
    use wire::types::{Addr, UTime};

    let at = |seconds| UTime { seconds, nanoseconds: 0 };
    let address = |port| Addr::msgr2(([127, 0, 0, 1], port).into(), 7).into();
    let nothing = OsdMap::default();
    let mut draft = nothing.draft_next(at(1));
    draft.created = at(1);
    draft.flags = MapFlags::NEW_CLUSTER;
    let map = Step::between(&nothing, draft).map;
    assert_eq!((map.created, map.epoch), (at(1), Epoch(1)));

    // A device with two OSDs boots, and a pool is made on it.
    let mut draft = map.draft_next(at(2));
    let mut crush = CrushMap::with_default_root();
    let place = Location { root: "default".into(), host: "h".into(), device: "d".into() };
    for osd in 0..2 {
        crush.place_osd(osd, WEIGHT_ONE, "nvme", &place).unwrap();
        draft.osds.push(Default::default());
        let osd = draft.osds.last_mut().unwrap();
        osd.state = OsdState::EXISTS | OsdState::UP;
        osd.weight = WEIGHT_ONE;
        osd.client_addrs = address(6800);
        osd.uuid = uuid::Uuid::from_u128(5);
    }
    let rule = ReplicatedRule {
        name: "replicated_rule".into(),
        root: "default".into(),
        failure_domain: TYPE_DEVICE,
        class: None,
    };
    let rule = crush.add_replicated_rule(&rule).unwrap();
    draft.crush = crush.into();
    draft.pools.insert(1, Pool::replicated(8, 1, 1, rule, at(2)));
    draft.pool_names.insert(1, "data".into());
    draft.pool_max = 1;
    let step = Step::between(&map, draft);
    assert!(step.incremental.full_map.is_empty());
    let map = step.map;
    assert_eq!((map.osds[0].info.up_from, map.pools[&1].last_change), (Epoch(2), Epoch(2)));
    let used: std::collections::BTreeSet<i32> =
        (0..8).map(|seed| map_pg(&map, PgId::new(1, seed)).acting_primary).collect();
    assert_eq!(used, [0, 1].into());

    // One goes down, the other moves; a snapshot id is removed; then the first is given up.
    let mut draft = map.draft_next(at(3));
    draft.osds[0].state = OsdState::EXISTS;
    draft.osds[1].client_addrs = address(6900);
    draft.new_removed_snaps.entry(1).or_default().insert(4, 1);
    let step = Step::between(&map, draft);
    assert!(step.incremental.full_map.is_empty());
    let map = step.map;
    assert_eq!((map.osds[0].info.down_at, map.osds[0].xinfo.down_stamp), (Epoch(3), at(3)));
    assert_eq!(map.osds[1].info.up_from, Epoch(3));
    assert!(map.removed_snaps_queue[&1].contains(4));
    let mut draft = map.draft_next(at(4));
    draft.osds[0] = Default::default();
    draft.pools.clear();
    draft.pool_names.clear();
    let step = Step::between(&map, draft);
    assert!(step.incremental.full_map.is_empty());
    assert!(!step.map.exists(0) && step.map.pools.is_empty());
    assert_eq!(decode_exact::<OsdMap>("osd map", step.full), Ok(step.map));
}

/// Maps and increments with random damage but the right checksum: what still decodes maps everything, encodes to
/// what decodes to the same, and applies or is refused.
#[test]
fn damaged_maps_do_no_harm() {
    use wire::crc::{SEED, crc32c};

    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below).unwrap()).unwrap()
    };
    let mut damage = move |bytes: &mut Vec<u8>| {
        for _ in 0..=random(3) {
            let at = 6 + random(bytes.len() - 6);
            match random(4) {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][random(6)],
                2 => bytes.truncate(at.max(20)),
                _ => {
                    let from = random(bytes.len() - 4);
                    let copied: Vec<u8> = bytes[from..from + 4].to_vec();
                    let to = random(bytes.len() - 4);
                    bytes[to..to + 4].copy_from_slice(&copied);
                }
            }
        }
        let length = u32::try_from(bytes.len() - 6).unwrap().to_le_bytes();
        bytes[2..6].copy_from_slice(&length);
    };
    let full = hex(&load("osdmap/map5.json")["hex"]);
    let original: OsdMap = decode_exact("osd map", full.clone()).unwrap();
    let (mut decoded, mut applied) = (0, 0);
    for _ in 0..6000 {
        let mut bytes = full.to_vec();
        damage(&mut bytes);
        let crc_at = bytes.len() - 4;
        let crc = crc32c(SEED, &bytes[..crc_at]);
        bytes[crc_at..].copy_from_slice(&crc.to_le_bytes());
        let Ok(map) = decode_exact::<OsdMap>("osd map", bytes.into()) else { continue };
        decoded += 1;
        for (&id, pool) in &map.pools {
            for seed in [0, 1, pool.pg_num / 2, pool.pg_num.wrapping_sub(1), u32::MAX] {
                map_pg(&map, PgId::new(id, seed));
            }
            assert!(placement::map(&map, id, ObjectName { name: b"x", ..ObjectName::default() }).is_some());
        }
        assert_eq!(decode_exact::<OsdMap>("osd map", encode_to_bytes(&map)).as_ref(), Ok(&map));
    }
    let vector = load("osdmap/incrementals.json");
    for row in vector["incrementals"].as_array().unwrap() {
        for _ in 0..40 {
            let mut bytes = hex(&row["hex"]).to_vec();
            damage(&mut bytes);
            let crc_at = bytes.len() - 8;
            let crc = crc32c(crc32c(SEED, &bytes[..crc_at]), &bytes[crc_at + 4..]);
            bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
            let Ok(inc) = decode_exact::<Incremental>("increment", bytes.into()) else { continue };
            assert_eq!(decode_exact::<Incremental>("increment", encode_to_bytes(&inc)).as_ref(), Ok(&inc));
            let inc = Incremental { epoch: original.epoch.next(), fsid: original.fsid, ..inc };
            if let Ok(map) = original.apply(&inc) {
                applied += 1;
                let encoded = encode_to_bytes(&map);
                let again: OsdMap = decode_exact("osd map", encoded.clone()).unwrap();
                assert_eq!(encode_to_bytes(&again), encoded);
            }
        }
    }
    assert!(decoded > 500 && applied > 500, "{decoded} {applied}: most are refused, which tests little");
}
