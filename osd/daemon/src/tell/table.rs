//! The commands there are, as the command line matches what is typed.

use serde_json::{Map, Value, json};

/// Words, arguments as (name, type, required), help.
type Entry = (&'static str, &'static [(&'static str, &'static str, bool)], &'static str);

const COMMANDS: &[Entry] = &[
    (
        "bench",
        &[("count", "CephInt", false), ("size", "CephInt", false), ("object_size", "CephInt", false)],
        "write <count> bytes in writes of <size> to objects of <object_size>, and remove them",
    ),
    ("bluestore expand", &[], "take up what the devices have grown by"),
    ("config diff", &[], "options that differ from their defaults"),
    ("config get", &[("var", "CephString", true)], "the value of an option"),
    (
        "config set",
        &[("var", "CephString", true), ("val", "CephString", true)],
        "set an option until the next start",
    ),
    ("config show", &[], "all options"),
    ("config unset", &[("var", "CephString", true)], "undo a `config set`"),
    (
        "deep_scrub",
        &[("pgid", "CephString", false)],
        "read all objects of <pgid>, or of all placement groups here, and verify their checksums",
    ),
    ("deep_scrub_stop", &[], "end what goes on of scrubs, and forget which are wanted"),
    (
        "defrag",
        &[("threshold", "CephInt", false)],
        "move objects whose pieces have fewer than <threshold> bytes on average, 65536 by default, to where they are in fewer",
    ),
    (
        "defrag space",
        &[],
        "clear parts of the device that are mostly free, so that free space is in long runs; ends by itself",
    ),
    ("defrag_stop", &[], "end the defragmenting that goes on"),
    ("dump_blocklist", &[], "blocked clients"),
    ("dump_defrag", &[], "the defragmenting that goes on, and what the last one did"),
    ("dump_fsck", &[], "the check of the store that goes on, and what the last one found"),
    ("dump_historic_ops", &[], "the newest finished requests"),
    ("dump_historic_ops_by_duration", &[], "the slowest finished requests"),
    ("dump_historic_slow_ops", &[], "the slowest finished requests"),
    ("dump_mempools", &[], "memory by what it is used for"),
    ("dump_ops_in_flight", &[], "requests in progress"),
    ("dump_pgs", &[], "placement groups here, with their versions"),
    ("dump_scrubs", &[], "scrubs that go on and went before, and the objects that they could not read"),
    (
        "fsck",
        &[("level", "CephString", false)],
        "check the store beside its clients; with <level> deep also every byte against its checksum",
    ),
    ("fsck_stop", &[], "end the check of the store that goes on"),
    ("get_command_descriptions", &[], "this list, for programs"),
    ("get_mapped_pools", &[], "pools with placement groups here"),
    ("git_version", &[], "the commit this was built from"),
    ("help", &[], "this list"),
    ("ops", &[], "requests in progress"),
    ("perf dump", &[("logger", "CephString", false), ("counter", "CephString", false)], "counters"),
    ("sessions", &[], "connections of clients"),
    ("status", &[], "state of this OSD"),
    ("version", &[], "version"),
];

/// For the command line.
pub fn descriptions() -> Value {
    let mut all = Map::new();
    for (number, (words, arguments, help)) in COMMANDS.iter().enumerate() {
        let mut sig: Vec<Value> = words.split(' ').map(Value::from).collect();
        for (name, kind, required) in *arguments {
            let mut one = json!({ "name": name, "type": kind });
            if !required {
                one["req"] = "false".into();
            }
            sig.push(one);
        }
        all.insert(format!("cmd{number:03}"), json!({ "sig": sig, "help": help }));
    }
    Value::Object(all)
}

/// For people.
pub fn help() -> Value {
    COMMANDS.iter().map(|(words, _, help)| ((*words).to_owned(), Value::from(*help))).collect()
}
