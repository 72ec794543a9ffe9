//! CRUSH against what Ceph's `crushtool` computes on the same maps, and the hashes and logarithm below it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{hex, int, load, text, vectors_in};
use serde_json::Value;
use wire::codec::{decode_exact, encode_to_bytes};
use wire::crush::{CrushMap, Input, WEIGHT_ONE, crush_ln, do_rule};
use wire::hash::{crush_hash2, crush_hash3, crush_hash4, rjenkins_name_hash};

#[test]
fn hashes_agree() {
    let vectors = load("hashes.json");
    for row in vectors["crush"].as_array().unwrap() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|key| int::<u32>(&row[key]));
        assert_eq!(crush_hash2(a, b), int::<u32>(&row["h2"]));
        assert_eq!(crush_hash3(a, b, c), int::<u32>(&row["h3"]));
        assert_eq!(crush_hash4(a, b, c, d), int::<u32>(&row["h4"]));
    }
    for row in vectors["str"].as_array().unwrap() {
        let hash = format!("{:08x}", rjenkins_name_hash(text(&row["s"]).as_bytes()));
        assert_eq!(hash, text(&row["hash"]), "{}", row["s"]);
    }
}

#[test]
fn logarithms_agree() {
    for sample in load("crush_ln.json")["samples"].as_array().unwrap() {
        let expected = u64::from_str_radix(text(&sample[1]).trim_start_matches("0x"), 16).unwrap();
        assert_eq!(crush_ln(int(&sample[0])), expected, "{sample}");
    }
}

#[test]
fn every_mapping_agrees() {
    let mut mappings = 0;
    for (name, vector) in vectors_in("crush") {
        let map: CrushMap = decode_exact("crush map", hex(&vector["crush_hex"])).unwrap();
        let choose_args = map.choose_args_of(0);
        for test in vector["tests"].as_array().unwrap() {
            let weights = weights(&map, &test["reweights"]);
            let first: u32 = int(&test["x"][0]);
            for (x, expected) in (first..).zip(test["mappings"].as_array().unwrap()) {
                let input = Input { x, result_max: int(&test["num_rep"]), weights: &weights, choose_args };
                let found = do_rule(&map, int(&test["rule"]), input);
                let expected: Vec<i32> = expected.as_array().unwrap().iter().map(int).collect();
                assert_eq!(found, expected, "{name}: rule {} x {x}", test["rule"]);
                mappings += 1;
            }
        }
    }
    assert_eq!(mappings, 74_496 + 1_536, "none left out");
}

#[test]
fn maps_encode_to_the_same_bytes() {
    for (name, vector) in vectors_in("crush") {
        let bytes = hex(&vector["crush_hex"]);
        let map: CrushMap = decode_exact("crush map", bytes.clone()).unwrap();
        assert_eq!(encode_to_bytes(&map), bytes, "{name}");
        assert_eq!(map.buckets.iter().flatten().count(), vector["dump"]["buckets"].as_array().unwrap().len());
        for bucket in vector["dump"]["buckets"].as_array().unwrap() {
            let id = map.item_named(text(&bucket["name"])).unwrap();
            assert_eq!(id, int::<i32>(&bucket["id"]));
            assert_eq!(map.bucket(id).unwrap().weight, int::<u32>(&bucket["weight"]));
        }
    }
}

/// Weights as the test was run: in, but for those named.
fn weights(map: &CrushMap, reweights: &Value) -> Vec<u32> {
    let mut weights = vec![WEIGHT_ONE; usize::try_from(map.max_devices).unwrap()];
    for (device, weight) in reweights.as_object().unwrap() {
        weights[device.parse::<usize>().unwrap()] = int(weight);
    }
    weights
}
