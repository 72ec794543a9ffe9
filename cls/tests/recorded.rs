//! Recorded calls of stock clients, made here, and compared with what stock OSDs answered.

#![expect(clippy::expect_used, reason = "tests")]

mod world;

use std::collections::BTreeMap;

use bytes::Bytes;
use cls::{Caller, MemoryObject, Object};
use serde_json::Value;
use wire::types::{Addr, EntityName, UTime};
use world::call;

#[test]
fn calls_give_what_stock_osds_gave() {
    let mut objects: BTreeMap<(String, String), MemoryObject> = BTreeMap::new();
    let mut compared = 0;
    for line in include_str!("traffic/calls.jsonl").lines() {
        let request: Value = serde_json::from_str(line).expect("JSON");
        let name = (text(&request["capture"]), text(&request["object"]));
        let object = objects.entry(name).or_insert_with(|| initial(&request));
        compared += play(object, &request, line);
    }
    assert!(compared > 150, "{compared} calls compared");
}

/// An object at the first request on it that was recorded: if that was a read and found it, it exists, with the lock
/// that was told of.
fn initial(request: &Value) -> MemoryObject {
    let mut object = MemoryObject::default();
    let only_reads = |op: &Value| {
        matches!(op["method"].as_str(), Some("get_info" | "list_locks" | "assert_locked" | "say_hello"))
    };
    if request["result"] != -2 && request["ops"].as_array().expect("ops").iter().all(only_reads) {
        object.create(false).expect("an object");
    }
    for told in request["ops"].as_array().expect("ops").iter().filter(|op| op["method"] == "get_info") {
        let name = unhex(&told["input"]).slice(10..);
        let output = unhex(&told["output"]);
        if !output.is_empty() {
            object.set_attr([b"lock.", &name[..]].concat().into(), output).expect("room");
        }
    }
    object
}

/// Plays one request; how many of its calls were compared.
fn play(object: &mut MemoryObject, request: &Value, line: &str) -> usize {
    let result = request["result"].as_i64().expect("a number");
    let ops = request["ops"].as_array().expect("ops");
    let caller = caller(request);
    let mut changed = object.clone();
    let mut calls = 0;
    for op in ops {
        if let Some(op) = op["op"].as_str() {
            match op {
                "DELETE" if changed.stat().is_none() => {
                    assert_eq!(result, -2, "{line}");
                    return calls;
                }
                "DELETE" => changed.remove().expect(line),
                _ => changed.create(false).expect(line),
            }
            continue;
        }
        let before = changed.clone();
        let input = unhex(&op["input"]);
        let (value, output) = call(&mut changed, &caller, &text(&op["class"]), &text(&op["method"]), input);
        if i64::from(value) < 0 && i64::from(value) == result && op["value"] == 0 {
            // Refused before execution: the reply has no values.
            return calls + 1;
        }
        if result < 0 && value >= 0 {
            // Another op of the request failed; that one says nothing about this.
            continue;
        }
        assert_eq!(i64::from(value), op["value"].as_i64().expect("a number"), "{line}");
        // Writes return what they have only if they are asked to.
        if changed == before || request["return_vector"] == true {
            assert_eq!(output, unhex(&op["output"]), "{line}");
        } else {
            assert!(unhex(&op["output"]).is_empty(), "{line}");
        }
        calls += 1;
    }
    if result >= 0 {
        *object = changed;
    }
    calls
}

fn caller(request: &Value) -> Caller {
    let number = |value: &Value| value.as_u64().and_then(|v| u32::try_from(v).ok()).expect("a number");
    let socket = text(&request["address"]).parse().expect("an address");
    Caller {
        name: EntityName::client(request["client"].as_i64().expect("a number")),
        addr: Addr::any(socket, number(&request["nonce"])),
        now: UTime { seconds: number(&request["mtime"][0]), nanoseconds: number(&request["mtime"][1]) },
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn unhex(value: &Value) -> Bytes {
    let text = text(value);
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}
