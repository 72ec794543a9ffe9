//! Every fuzz entry on real encodings and on deterministic mutations of them, and on the saved corpora.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

mod common;

use common::{hex, load, vectors_in};
use serde_json::Value;
use wire::fuzzing::{message_input, payload_input, targets};
use wire::msg::KINDS;
use wire::msgr2::{Data, Message, MessageHeader};

const MUTATIONS: usize = 4000;

/// xorshift64*: the same mutations everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    const WORDS: [u32; 8] = [0, 1, 2, 0x7f, 0xff, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff];
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(random.below(256)).unwrap(),
            2 if at + 4 <= bytes.len() => {
                bytes[at..at + 4].copy_from_slice(&WORDS[random.below(8)].to_le_bytes());
            }
            3 => bytes.truncate(at),
            4 => {
                let end = (at + random.below(32)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + random.below(32)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => bytes.insert(at, u8::try_from(random.below(256)).unwrap()),
        }
    }
    bytes
}

fn messages() -> Vec<Message> {
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

fn seeds(target: &str, messages: &[Message]) -> Vec<Vec<u8>> {
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
            full_maps.iter().map(seed).collect()
        }
        "osdmap" | "placement" | "osdmap_sealed" => vec![
            hex(&load("minimal.json")["osdmap"]["hex"]).to_vec(),
            hex(&load("osdmap/map1.json")["hex"]).to_vec(),
        ],
        "osdmap_incremental" | "osdmap_incremental_sealed" => {
            let vector = load("osdmap/incrementals.json");
            let incrementals = vector["incrementals"].as_array().unwrap().iter().step_by(7);
            incrementals.map(|incremental| hex(&incremental["hex"]).to_vec()).collect()
        }
        "crush_map" => ["flat4", "list", "tree", "mixed", "classes12", "choose_args12"]
            .map(|name| hex(&load(&format!("crush/{name}.json"))["crush_hex"]).to_vec())
            .into(),
        "message" => messages.iter().step_by(5).map(message_input).collect(),
        "op_arguments" => of_kind(42).map(payload_input).collect(),
        "msgr2_stream_accepting" | "msgr2_stream_connecting" => recorded(true),
        "msgr2_frames_accepting" | "msgr2_frames_connecting" | "msgr2_frames_reproduced" => recorded(false),
        "msgr2_lossless_session" => {
            let mut random = Random(99);
            (0..50).map(|_| (0..200).map(|_| random.next().to_le_bytes()[3]).collect()).collect()
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

#[test]
fn entries_hold_on_mutated_real_encodings() {
    let messages = messages();
    for (index, (name, run)) in targets().iter().enumerate() {
        let seeds = seeds(name, &messages);
        seeds.iter().for_each(|seed| run(seed));
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ index as u64);
        for round in 0..MUTATIONS {
            let input = mutate(&mut random, &seeds);
            let result = std::panic::catch_unwind(|| run(&input));
            assert!(result.is_ok(), "{name} breaks on mutation {round}: {input:02x?}");
        }
    }
}

#[test]
fn entries_hold_on_their_corpora() {
    for (name, run) in targets() {
        let folder = format!("{}/tests/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
        let Ok(folder) = std::fs::read_dir(folder) else {
            continue;
        };
        for file in folder {
            run(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn names_are_unique_and_every_message_has_an_entry() {
    let names: std::collections::BTreeSet<_> = targets().iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), targets().len());
    for (_, name) in KINDS {
        // MON_GET_MAP has no content.
        assert!(names.contains(&*format!("msg_{}", name.to_lowercase())) || *name == "MON_GET_MAP", "{name}");
    }
}
