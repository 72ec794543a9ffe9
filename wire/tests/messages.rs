//! Message values against payloads of real traffic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic here is a failed test")]

mod common;

use bytes::Bytes;
use common::{hex, int, vectors_in};
use serde_json::Value;
use wire::msg::{Body, MessageError, MgrMap, OpCode, OsdMapMessage, OsdOp, Payload, decode_message};
use wire::msgr2::{Data, Message, MessageHeader};
use wire::types::Epoch;

fn message(sample: &Value) -> Message {
    let header = &sample["header"];
    Message {
        header: MessageHeader {
            tid: int(&header["tid"]),
            kind: int(&header["type"]),
            priority: int(&header["priority"]),
            version: int(&header["version"]),
            compat_version: int(&header["compat_version"]),
            data_offset: int(&header["data_off"]),
        },
        front: hex(&sample["front"]),
        middle: hex(&sample["middle"]),
        data: Data::from(hex(&sample["data"])),
    }
}

fn samples() -> Vec<(String, Message)> {
    let mut all = Vec::new();
    for (file, vector) in vectors_in("messages") {
        for (index, sample) in vector["samples"].as_array().unwrap().iter().enumerate() {
            all.push((format!("{file}[{index}]"), message(sample)));
        }
    }
    all
}

#[test]
fn every_message_of_real_traffic_is_reproduced() {
    let samples = samples();
    assert!(samples.len() > 250, "{}", samples.len());
    for (name, message) in samples {
        let body = decode_message(&message).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!matches!(body, Body::Unknown(_)), "{name}: {:#x} is not known", message.header.kind);
        let mut again = body.to_message(message.header.tid);
        // Monitors and clients differ in the priority they give to LOG and OSD_MAP; it carries no meaning.
        again.header.priority = message.header.priority;
        assert_eq!(again.header, message.header, "{name}");
        assert_eq!(again.front, message.front, "{name}: {body:?}");
        assert_eq!(again.data, message.data, "{name}");
    }
}

#[test]
fn truncated_and_prolonged_fronts_are_refused() {
    for (name, message) in samples() {
        if message.front.is_empty() {
            continue;
        }
        let longer: Bytes = [&message.front[..], &[0]].concat().into();
        let error = decode_message(&Message { front: longer, ..message.clone() });
        assert!(matches!(error, Err(MessageError::Decode { .. })), "{name}");
        // A cut inside an opaque rest (a manager's map) cannot be noticed; the envelope's length can.
        for cut in [0, 1, message.front.len() / 2, message.front.len() - 1] {
            let front = message.front.slice(..cut);
            // A PING without text is whole.
            if cut > 0 || message.header.kind != 2 {
                let error = decode_message(&Message { front, ..message.clone() });
                assert!(matches!(error, Err(MessageError::Decode { .. })), "{name} cut at {cut}");
            }
        }
    }
}

#[test]
fn versions_out_of_range_are_refused() {
    let (_, mut message) = samples().into_iter().find(|(_, m)| m.header.kind == OsdOp::KIND).unwrap();
    message.header.compat_version = 9;
    let error = decode_message(&message).unwrap_err();
    assert!(matches!(error, MessageError::Version { compat: 9, newest: 8, .. }), "{error}");
    message.header.compat_version = 3;
    message.header.version = 7;
    assert!(matches!(decode_message(&message), Err(MessageError::Version { .. })));
    // Fields appended by a newer encoding that we can still read are skipped.
    message.header.version = 9;
    message.front = [&message.front[..], &[1, 2, 3]].concat().into();
    assert!(decode_message(&message).is_ok());
}

#[test]
fn unknown_types_are_representable() {
    let (_, mut message) = samples().swap_remove(0);
    message.header.kind = 0x6fff;
    assert_eq!(decode_message(&message), Ok(Body::Unknown(message)));
}

#[test]
fn operations_get_their_payloads() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, message) in samples().into_iter().filter(|(_, m)| m.header.kind == OsdOp::KIND) {
        let request = OsdOp::from_message(&message).unwrap();
        for op in &request.ops {
            seen.insert(op.code);
            match op.code {
                OpCode::SETXATTR | OpCode::GETXATTR | OpCode::CMPXATTR | OpCode::RMXATTR => {
                    let (key, value) = op.xattr().unwrap();
                    assert_eq!(key.len() + value.len(), op.data.len(), "{name}");
                    assert!(!key.is_empty(), "{name}");
                }
                OpCode::CALL => {
                    let (class, method, input) = op.call().unwrap();
                    assert!(class.is_ascii() && !class.is_empty() && method.is_ascii(), "{name}");
                    assert_eq!(class.len() + method.len() + input.len(), op.data.len(), "{name}");
                }
                OpCode::PGNLS => {
                    wire::msg::pg_list_cursor(op.data.to_bytes()).unwrap();
                }
                _ => {}
            }
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}

#[test]
fn a_request_without_its_data_has_everything_else() {
    for (name, message) in samples().into_iter().filter(|(_, m)| m.header.kind == OsdOp::KIND) {
        let mut expected = OsdOp::from_message(&message).unwrap();
        expected.ops.iter_mut().for_each(|op| op.data = Data::new());
        let bare = Message { data: Data::new(), ..message.clone() };
        assert_eq!(OsdOp::without_data(&bare, message.data.len()), Ok(expected), "{name}");
        assert!(OsdOp::without_data(&bare, message.data.len() + 1).is_err(), "{name}");
    }
}

#[test]
fn payloads_must_fill_the_data() {
    let (_, message) =
        samples().into_iter().find(|(_, m)| m.header.kind == OsdOp::KIND && m.data.len() > 1).unwrap();
    for data in [vec![0; message.data.len() - 1], vec![0; message.data.len() + 1]] {
        let wrong = Message { data: Data::from(Bytes::from(data)), ..message.clone() };
        assert!(matches!(decode_message(&wrong), Err(MessageError::Decode { .. })));
    }
}

#[test]
fn the_map_without_a_manager_is_the_one_that_clients_accept() {
    let minimal = common::load("minimal.json");
    let ours = wire::codec::encode_to_bytes(&MgrMap::none(Epoch(1)));
    assert_eq!(ours, hex(&minimal["mgrmap"]["hex"]));
    // An older, shorter monmap that clients accept is also read.
    let map: wire::msg::MonMap = wire::codec::decode_exact("monmap", hex(&minimal["monmap"]["hex"])).unwrap();
    assert_eq!(map.mons["a"].addrs.to_string(), "v2:127.0.0.1:6789/0");
    assert_eq!(map.ranks, ["a"]);
}

#[test]
fn maps_in_a_message_share_its_bytes() {
    let (_, message) = samples().into_iter().find(|(_, m)| m.header.kind == OsdMapMessage::KIND).unwrap();
    let maps = OsdMapMessage::from_message(&message).unwrap();
    let map = maps.full.values().chain(maps.incrementals.values()).next().unwrap();
    assert!(message.front.as_ptr_range().contains(&map.as_ptr()));
}
