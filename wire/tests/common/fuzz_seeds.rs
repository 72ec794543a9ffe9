//! Sound test cases for the fuzz entries: recorded encodings, messages and sessions. Also taken in by the fuzzer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

use bytes::Bytes;
use serde_json::Value;
use wire::codec::{decode_exact, encode_to_bytes};
use wire::crush::CrushMap;
use wire::fuzzing::{message_input, payload_input};
use wire::msg::KINDS;
use wire::msgr2::{Data, Message, MessageHeader};
use wire::osdmap::OsdMap;

use super::common::{self, hex, load, vectors_in};

#[path = "fuzz_maps.rs"]
pub mod fuzz_maps;

/// Longer maps would make all test cases longer, as they are taken for as long as the longest seed.
const PLACED_BYTES_MAX: usize = 8000;

/// Every recorded message.
pub fn messages() -> Vec<Message> {
    let mut all = Vec::new();
    for (_, vector) in vectors_in("messages") {
        for sample in vector["samples"].as_array().unwrap() {
            let header = &sample["header"];
            all.push(Message {
                header: MessageHeader {
                    tid: 7,
                    kind: common::int(&header["type"]),
                    priority: 1,
                    version: common::int(&header["version"]),
                    compat_version: common::int(&header["compat_version"]),
                    data_offset: 0,
                },
                front: hex(&sample["front"]),
                middle: Default::default(),
                data: Data::from(hex(&sample["data"])),
            });
        }
    }
    all
}

fn instances(name: &str) -> Vec<Vec<u8>> {
    let vector = load(&format!("types/{name}.json"));
    vector["instances"].as_array().unwrap().iter().map(|i| hex(&i["hex"]).to_vec()).collect()
}

/// Recorded clients: raw bytes for the stream entries, spelled-out frames for the others.
fn recorded(raw: bool) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (_, capture) in vectors_in("captures") {
        for session in capture["sessions"].as_array().unwrap() {
            let mut bytes = vec![if raw { 40 } else { 0 }];
            for frame in session["frames"].as_array().unwrap().iter().filter(|f| f["dir"] == "c>s") {
                if raw {
                    bytes.extend(frame["raw"].as_str().map(common::unhex).unwrap_or_default());
                } else if let Some(segments) = frame["segments"].as_array() {
                    bytes.extend(spell(common::text(&frame["tag"]), segments));
                }
            }
            bytes.truncate(3000);
            all.push(bytes);
        }
    }
    all.truncate(24);
    all
}

fn spell(tag: &str, segments: &[Value]) -> Vec<u8> {
    let tag =
        (1..=20u8).find(|byte| format!("{:?}", wire::msgr2::Tag::from_byte(*byte).unwrap()) == tag).unwrap();
    let content: Vec<u8> =
        segments.iter().filter_map(Value::as_str).flat_map(common::unhex).take(60_000).collect();
    let length = u16::try_from(content.len()).unwrap().to_le_bytes();
    [&[tag][..], &length, &content].concat()
}

fn small_map_bytes() -> Bytes {
    hex(&load("minimal.json")["osdmap"]["hex"])
}

/// The map that the large ones are made from.
pub fn small_map() -> OsdMap {
    decode_exact("recorded map", small_map_bytes()).unwrap()
}

/// Every recorded tree.
pub fn trees() -> Vec<CrushMap> {
    let decode = |vector: Value| decode_exact("recorded tree", hex(&vector["crush_hex"])).unwrap();
    vectors_in("crush").into_iter().map(|(_, vector)| decode(vector)).collect()
}

/// For the entry of this name.
pub fn seeds(target: &str, messages: &[Message]) -> Vec<Vec<u8>> {
    let of_kind = |kind: u16| messages.iter().filter(move |message| message.header.kind == kind);
    let mut seeds = match target {
        "type_addr" => instances("entity_addr_t"),
        "type_addrvec" => instances("entity_addrvec_t"),
        "type_hobject" => instances("hobject_t"),
        "type_object_locator" => instances("object_locator_t"),
        "type_pg" => instances("pg_t"),
        "type_request_id" => instances("osd_reqid_t"),
        "type_monmap" => instances("MonMap"),
        "type_mgrmap" => instances("MgrMap"),
        "type_pool_stat" => instances("pool_stat_t"),
        "type_log_entry" => instances("LogEntry"),
        "type_pg_list_reply" => instances("pg_nls_response_t"),
        "type_list_watchers_reply" => instances("obj_list_watch_response_t"),
        "type_list_snaps_reply" => instances("obj_list_snap_response_t"),
        "osdmap_apply" | "osdmap_apply_sealed" => {
            let vector = load("osdmap/incrementals.json");
            let incrementals = vector["incrementals"].as_array().unwrap();
            let full_maps = vector["full_maps"].as_object().unwrap();
            let seed = |(epoch, full): (&String, &Value)| {
                let (full, epoch) = (hex(full), epoch.parse::<u64>().unwrap());
                let next = incrementals.iter().find(|i| i["epoch"].as_u64() > Some(epoch));
                let next = next.map(|next| hex(&next["hex"])).unwrap_or_default();
                let length = u32::try_from(full.len()).unwrap().to_le_bytes();
                [&length[..], &full, &next].concat()
            };
            let large = fuzz_maps::changes(&small_map()).into_iter().map(|(map, next)| {
                let map = encode_to_bytes(&map);
                let length = u32::try_from(map.len()).unwrap().to_le_bytes();
                [&length[..], &map, &encode_to_bytes(&next)].concat()
            });
            full_maps.iter().map(seed).chain(large).collect()
        }
        "osdmap" | "placement" | "osdmap_sealed" => {
            let recorded = [small_map_bytes(), hex(&load("osdmap/map1.json")["hex"])];
            let large = fuzz_maps::maps(&small_map()).into_iter().map(|map| encode_to_bytes(&map));
            // Mapping is most of what this one does.
            let trees = if target == "osdmap_sealed" { trees() } else { Vec::new() };
            let placed =
                fuzz_maps::placements(&small_map(), &trees).into_iter().map(|map| encode_to_bytes(&map));
            let placed = placed.filter(|bytes| bytes.len() <= PLACED_BYTES_MAX);
            recorded.into_iter().chain(large).chain(placed).map(Vec::from).collect()
        }
        "osdmap_incremental" | "osdmap_incremental_sealed" => {
            let vector = load("osdmap/incrementals.json");
            let incrementals = vector["incrementals"].as_array().unwrap().iter().step_by(7);
            let recorded = incrementals.map(|incremental| hex(&incremental["hex"]));
            let large = fuzz_maps::changes(&small_map()).into_iter().map(|(_, next)| encode_to_bytes(&next));
            recorded.chain(large).map(Vec::from).collect()
        }
        "crush_map" => ["flat4", "list", "tree", "mixed", "classes12", "choose_args12"]
            .map(|name| hex(&load(&format!("crush/{name}.json"))["crush_hex"]).to_vec())
            .into(),
        "message" => messages.iter().step_by(5).map(message_input).collect(),
        "op_arguments" => of_kind(42).map(payload_input).collect(),
        "msgr2_stream_accepting" | "msgr2_stream_connecting" => recorded(true),
        "msgr2_frames_accepting" | "msgr2_frames_connecting" | "msgr2_frames_reproduced" => recorded(false),
        "msgr2_lossless_session" => {
            // Steps that look random: a linear congruence.
            let next = |number: &u32| Some(number.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f));
            let steps: Vec<u8> = std::iter::successors(Some(99), next)
                .take(10_000)
                .map(|number| number.to_le_bytes()[3])
                .collect();
            steps.chunks(200).map(<[u8]>::to_vec).collect()
        }
        _ => {
            let kind = KINDS.iter().find(|(_, name)| format!("msg_{}", name.to_lowercase()) == target);
            kind.into_iter().flat_map(|(kind, _)| of_kind(*kind)).map(payload_input).collect()
        }
    };
    // Something to start from where nothing was recorded.
    seeds.push(vec![0; 64]);
    seeds.push([&[1, 1, 40, 0, 0, 0][..], &[2, 0, 0, 0, b'a', b'b', 0, 0]].concat());
    seeds
}
