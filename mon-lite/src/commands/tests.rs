//! Commands against what a real cluster answered: result, the keys of JSON, the headings of tables. Then what differs
//! on purpose.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;
use wire::codec::encode_to_bytes;
use wire::msg::{OsdBoot, OsdStatfs, OsdStats, PgReport, PoolReport, StoreStatfs};
use wire::types::{Addr, AddrVec, EntityKind, Epoch, Features, UTime};

use super::{Outcome, Reply, Request, Table, run};
use crate::live::{Live, OsdReport, PgMap};
use crate::osd_life::{self, NewOsd, metadata};
use crate::state::{Change, Entry, State};
use crate::view::View;
use wire::Errno;

const FSID: Uuid = Uuid::from_u128(7);

/// A cluster without I/O: commands run, their changes are applied.
struct Cluster {
    state: State,
    live: Live,
    now: UTime,
}

impl Cluster {
    /// Three OSDs on one host, up; no pool.
    fn new() -> Self {
        let now = UTime { seconds: 1_795_236_623, nanoseconds: 312_801_999 };
        let mut cluster = Self { state: State::new(FSID), live: Live::default(), now };
        cluster.live.monitor.name = "a".into();
        cluster.live.monitor.hostname = "vm".into();
        cluster.live.monitor.leading_since = now;
        let osds: Vec<NewOsd> = (0..3).map(new_osd).collect();
        cluster.apply(vec![osd_life::first_map(FSID, now, &osds).unwrap()]);
        cluster.apply(vec![Change::MonMap(encode_to_bytes(&mon_map(now)))]);
        (0..3).for_each(|id| cluster.boot(id));
        cluster
    }

    /// As [`Cluster::new`], with the pools of the recorded cluster and reports of the OSDs.
    fn recorded() -> Self {
        let mut cluster = Self::new();
        for (name, pgs) in [("p1", 8), ("p2", 8), ("device_health_metrics", 1), ("rbd", 8)] {
            cluster.done(json!({"prefix": "osd pool create", "pool": name, "pg_num": pgs}));
        }
        cluster.done(json!({"prefix": "osd pool application enable", "pool": "rbd", "app": "rbd"}));
        cluster.take_snapshot("p1", "old");
        cluster.done(
            json!({"prefix": "config set", "who": "mon", "name": "mon_allow_pool_delete", "value": true}),
        );
        (0..3).for_each(|id| cluster.report(id));
        for kind in [EntityKind::OSD, EntityKind::CLIENT] {
            cluster.live.sessions.insert((kind, Features::PACIFIC), 3);
        }
        cluster
    }

    /// As versions did that let pools have snapshots.
    fn take_snapshot(&mut self, pool: &str, name: &str) {
        let (live, now) = (&self.live, self.now);
        let view = View { state: &self.state, live, now };
        let changes = super::families::edit(&view, |map| {
            let (id, epoch) = (map.pool_id(pool).unwrap(), map.epoch.next());
            map.pools.get_mut(&id).unwrap().create_pool_snapshot(name, now, epoch)?;
            Ok(())
        });
        self.apply(changes.unwrap());
    }

    fn boot(&mut self, id: i32) {
        let boot = boot_message(id);
        let changes = osd_life::boot(&self.state, self.now, &boot).unwrap();
        self.apply(changes);
    }

    fn report(&mut self, id: i32) {
        let pool = |objects| PoolReport {
            objects,
            bytes: objects * 1000,
            allocated: objects * 4096,
            stored: objects * 1000,
            compressed: objects * 4096,
            compressed_original: objects * 900,
            omap_keys: 0,
            omap_bytes: 0,
            reads: 10,
            reads_kb: 40,
            writes: 10,
            writes_kb: 40,
        };
        let store = StoreStatfs {
            total: 6 << 30,
            available: 5 << 30,
            allocated: 1 << 20,
            internal_metadata: 1 << 20,
            ..StoreStatfs::default()
        };
        let report = PgReport {
            state: "active+clean".into(),
            objects: 1,
            bytes: 1000,
            version: 3,
            version_epoch: Epoch(2),
        };
        let stats = OsdStats {
            osd: id,
            epoch: self.state.osd_maps.epoch(),
            seq: 1,
            statfs: OsdStatfs { store, shared_available: 0 },
            pools: [(1, pool(29)), (2, pool(2)), (4, pool(10))].into(),
            pgs: self.live.pg_map.iter().map(|(pg, _)| (pg, report.clone())).collect(),
        };
        self.live.reports.accept(id, OsdReport::new(stats, self.now));
    }

    fn apply(&mut self, changes: Vec<Change>) {
        // Through the encoding, as the log does it.
        let entry = Entry { time: self.now, changes };
        self.state.apply_bytes(encode_to_bytes(&entry)).unwrap();
        self.live.pg_map = PgMap::of(self.state.osd_maps.newest());
    }

    fn outcome(&self, command: &Value) -> Outcome {
        let request = match Request::parse(&[command.to_string()], Bytes::new()) {
            Ok(request) => request,
            Err(refusal) => return Reply::from(refusal).into(),
        };
        run(&View { state: &self.state, live: &self.live, now: self.now }, Table::Cluster, &request)
    }

    fn ask(&mut self, command: Value) -> Reply {
        let Outcome { changes, reply } = self.outcome(&command);
        if !changes.is_empty() {
            self.apply(changes);
        }
        reply
    }

    fn done(&mut self, command: Value) -> String {
        let reply = self.ask(command.clone());
        assert_eq!(reply.code, 0, "{command}: {}", reply.status);
        reply.status
    }

    fn text(&mut self, command: Value) -> String {
        String::from_utf8(self.ask(command).output.to_vec()).unwrap()
    }

    fn value(&mut self, mut command: Value) -> Value {
        command["format"] = "json".into();
        serde_json::from_str(&self.text(command)).unwrap()
    }

    fn refused(&mut self, command: Value) -> (Errno, String) {
        let before = self.state.clone();
        let reply = self.ask(command);
        assert_eq!(self.state, before, "a refusal changes nothing");
        (Errno::from_code(reply.code).expect("a refusal"), reply.status)
    }
}

fn new_osd(id: i32) -> NewOsd {
    NewOsd {
        id,
        uuid: Uuid::from_u128(100 + u128::from(id.unsigned_abs())),
        host: "vm".into(),
        device: format!("disk{id}"),
        class: "hdd".into(),
        size_bytes: 6 << 30,
    }
}

fn boot_message(id: i32) -> OsdBoot {
    let said =
        [(metadata::HOSTNAME, "vm"), (metadata::VERSION, "spirula x"), (metadata::SIZE_BYTES, "6442450944")];
    OsdBoot {
        fsid: FSID,
        osd: id,
        uuid: new_osd(id).uuid,
        epoch: Epoch(0),
        public_addrs: AddrVec::from(Addr::msgr2(([127, 0, 0, 1], 6800 + id.unsigned_abs() as u16).into(), 5)),
        metadata: said.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
    }
}

fn mon_map(now: UTime) -> wire::msg::MonMap {
    let addrs = AddrVec::from(Addr::msgr2(([127, 0, 0, 1], 46100).into(), 0));
    crate::state::first_mon_map(FSID, "a", addrs, now)
}

fn vectors() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/mon_commands.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all["commands"].as_array().unwrap().clone()
}

/// Commands that answer otherwise than Ceph, and why.
fn differs(command: &Value) -> Option<&'static str> {
    match command["prefix"].as_str().unwrap() {
        "osd out" | "osd in" | "osd crush reweight" => Some("would move data"),
        "osd pool set" if command["var"] == "size" => Some("one copy only"),
        "osd pool create" if command["pool_type"] == "erasure" => Some("no erasure-coded pools"),
        "osd pool mksnap" | "osd pool rmsnap" => Some("no snapshots"),
        "osd perf" => Some("latencies are not reported"),
        _ => None,
    }
}

/// Keys of objects that are data rather than a shape.
const DATA_KEYS: [&str; 8] =
    ["checks", "osd", "mon", "mgr", "overall", "options", "application_metadata", "erasure_code_profiles"];

/// Every key of `theirs` is in `ours`; of lists, the first elements are compared.
fn check_shape(path: &str, theirs: &Value, ours: &Value) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let path = format!("{path}.{key}");
                let Some(own) = ours.get(key) else {
                    // There is no manager, and nobody of its kind.
                    assert_eq!(key, "mgr", "{path} is missing");
                    continue;
                };
                if !DATA_KEYS.contains(&key.as_str()) {
                    check_shape(&path, value, own);
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if let (Some(theirs), Some(ours)) = (theirs.first(), ours.first()) {
                check_shape(&format!("{path}[0]"), theirs, ours);
            }
        }
        (theirs, ours) => {
            let kind = |value: &Value| std::mem::discriminant(value);
            assert_eq!(kind(theirs), kind(ours), "{path}: {theirs} there, {ours} here");
        }
    }
}

#[test]
fn answers_have_the_results_and_keys_of_a_real_cluster() {
    let mut cluster = Cluster::recorded();
    let mut compared = 0;
    for vector in vectors() {
        let command = &vector["cmd"];
        if differs(command).is_some() {
            continue;
        }
        let reply = cluster.ask(command.clone());
        assert_eq!(i64::from(reply.code), vector["r"], "{command}: {}", reply.status);
        // Several texts are written after a value, so only the first is looked at.
        let first = |text: &str| serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok();
        let theirs = vector["out"].as_str().unwrap();
        let ours = String::from_utf8(reply.output.to_vec()).unwrap();
        let theirs = first(theirs).filter(|value| !value.is_number() && command["format"] == "json");
        if let Some(theirs) = theirs {
            let ours = first(&ours).unwrap_or_else(|| panic!("{command}: not JSON: {ours}"));
            check_shape(&command.to_string(), &theirs, &ours);
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn status_texts_are_those_of_a_real_cluster_where_programs_look_for_them() {
    // Sentences for people are our own.
    let ours = ["osd pool delete", "auth get", "osd blocklist", "osd reweight"];
    let mut cluster = Cluster::recorded();
    let mut compared = 0;
    for vector in vectors() {
        let command = &vector["cmd"];
        if differs(command).is_some() {
            continue;
        }
        let status = cluster.ask(command.clone()).status;
        let theirs = vector["rs"].as_str().unwrap();
        // Epochs are those of another cluster.
        let has_epoch = theirs.starts_with("got osdmap") || theirs.starts_with("set pool");
        if !ours.contains(&command["prefix"].as_str().unwrap()) && !has_epoch {
            assert_eq!(status, theirs, "{command}");
            compared += usize::from(!theirs.is_empty());
        }
    }
    assert!(compared > 15, "{compared}");
}

#[test]
fn tables_have_the_headings_of_a_real_cluster() {
    let mut cluster = Cluster::recorded();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let tables = ["osd tree", "osd crush tree", "osd df", "config dump", "df"];
    for vector in vectors() {
        let command = &vector["cmd"];
        if !tables.contains(&command["prefix"].as_str().unwrap()) || command.get("format").is_some() {
            continue;
        }
        let ours = cluster.text(command.clone());
        let headings = |text: &str| -> Vec<Vec<String>> {
            let is_heading =
                |line: &&str| line.contains("CLASS") || line.contains("WHO") || line.contains("POOL");
            text.lines().filter(is_heading).map(words).collect()
        };
        assert_eq!(headings(&ours), headings(vector["out"].as_str().unwrap()), "{command}");
        let widths: Vec<usize> = ours.lines().take(2).map(str::len).collect();
        assert!(widths.len() < 2 || widths[0] == widths[1] || ours.starts_with("---"), "{ours}");
    }
}

#[test]
fn every_announced_command_answers_in_every_format() {
    let mut cluster = Cluster::recorded();
    let announced = Table::Cluster.descriptions();
    let samples = json!({
        "pool": "p1", "pool_name": "p1", "poolstr": "p1", "srcpool": "p1", "destpool": "p9", "object": "o",
        "id": "0", "ids": ["0"], "osd": "0", "who": "osd.0", "name": "x", "key": "noout", "pgid": "1.0", "ratio": 0.9,
        "weight": 1, "epoch": 1, "blocklistop": "add", "blacklistop": "rm", "addr": "127.0.0.1:0/3", "var": "size",
        "val": "1", "field": "max_bytes", "app": "a", "value": "v", "node": "default", "bucket": "default",
        "entity": "client.x", "property": "hostname", "snap": "s", "logtext": ["hi"], "fs_name": "f", "type": "host",
    });
    for row in announced.as_object().unwrap().values() {
        let signature = row["sig"].as_array().unwrap();
        let words: Vec<&str> = signature.iter().filter_map(Value::as_str).collect();
        for format in ["plain", "json", "json-pretty"] {
            let mut command = json!({"prefix": words.join(" "), "format": format});
            for argument in signature.iter().filter(|argument| argument.is_object()) {
                let name = argument["name"].as_str().unwrap();
                if argument.get("req").is_none() {
                    command[name] = samples.get(name).cloned().unwrap_or_else(|| "x".into());
                }
            }
            let reply = cluster.ask(command.clone());
            assert!(
                reply.code == 0 || !reply.status.is_empty(),
                "{command}: {} without a reason",
                reply.code
            );
            let binary =
                ["getmap", "getcrushmap", "generate-minimal-conf"].iter().any(|word| words.contains(word));
            let plain_only = words == ["osd", "get-require-min-compat-client"];
            if format != "plain" && !reply.output.is_empty() && !binary && !plain_only {
                let parsed: Result<Value, _> = serde_json::from_slice(&reply.output);
                assert!(parsed.is_ok(), "{command}: {reply:?}");
            }
        }
        // Without its arguments it says what is missing rather than do something.
        let bare = cluster.ask(json!({"prefix": words.join(" ")}));
        assert!(bare.code == 0 || !bare.status.is_empty(), "{words:?}");
    }
}

#[test]
fn snapshots_are_refused_and_old_ones_can_be_removed() {
    let mut cluster = Cluster::recorded();
    let snap = |verb: &str, pool: &str, snap: &str| json!({"prefix": format!("osd pool {verb}"), "pool": pool, "snap": snap});
    for (pool, name) in [("p1", "new"), ("p1", "old"), ("p2", "new")] {
        let (code, text) = cluster.refused(snap("mksnap", pool, name));
        assert_eq!(code, Errno::EOPNOTSUPP);
        assert!(
            text.contains("snapshots are not offered yet") && text.contains("nothing was changed"),
            "{text}"
        );
    }
    assert_eq!(cluster.refused(snap("mksnap", "nosuch", "new")).0, Errno::ENOENT);
    assert_eq!(cluster.done(snap("rmsnap", "p1", "old")), "removed pool p1 snap old");
    assert_eq!(cluster.done(snap("rmsnap", "p1", "old")), "pool p1 snap old does not exist");
}

#[test]
fn what_moves_data_is_refused_with_the_reason() {
    let mut cluster = Cluster::recorded();
    for command in [
        json!({"prefix": "osd out", "ids": ["0"]}),
        json!({"prefix": "osd reweight", "id": 0, "weight": 0.5}),
        json!({"prefix": "osd crush reweight", "name": "osd.0", "weight": 2}),
        json!({"prefix": "osd pool set", "pool": "p1", "var": "pg_num", "val": "16"}),
        json!({"prefix": "osd pool set", "pool": "p1", "var": "pgp_num", "val": 4}),
        json!({"prefix": "osd purge", "id": 0, "yes_i_really_mean_it": true}),
        json!({"prefix": "osd pg-upmap-items", "pgid": "1.0", "id": [0, 1]}),
    ] {
        let (code, text) = cluster.refused(command);
        assert_eq!(code, Errno::EPERM);
        assert!(text.contains("move data") && text.contains("nothing was changed"), "{text}");
    }
    let (code, text) =
        cluster.refused(json!({"prefix": "osd pool set", "pool": "p1", "var": "size", "val": "3"}));
    assert_eq!(code, Errno::EOPNOTSUPP);
    assert!(text.contains("only size 1"), "{text}");
    let create = json!({"prefix": "osd pool create", "pool": "x", "pg_num": 8, "size": 2});
    assert_eq!(cluster.refused(create).0, Errno::EOPNOTSUPP);
}

#[test]
fn a_pool_lives_and_dies() {
    let mut cluster = Cluster::new();
    let create = |extra: Value| {
        let mut command = json!({"prefix": "osd pool create", "pool": "data"});
        command.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        command
    };
    assert_eq!(cluster.refused(create(json!({"pg_num": 100_000}))).0, Errno::ERANGE);
    assert_eq!(cluster.refused(create(json!({"pg_num": 60_000}))).0, Errno::ERANGE);
    assert_eq!(cluster.refused(create(json!({"pg_num": 8, "pgp_num": 4}))).0, Errno::EINVAL);
    assert_eq!(cluster.refused(create(json!({"rule": "nosuch"}))).0, Errno::ENOENT);
    assert_eq!(cluster.refused(json!({"prefix": "osd pool create", "pool": ""})).0, Errno::EINVAL);
    cluster.done(create(json!({})));
    assert_eq!(
        cluster.value(json!({"prefix": "osd pool get", "pool": "data", "var": "pg_num"}))["pg_num"],
        32
    );
    cluster.done(
        json!({"prefix": "osd pool create", "pool": "other", "pg_num": "4", "pool_type": "replicated"}),
    );
    let rename = |to: &str| json!({"prefix": "osd pool rename", "srcpool": "data", "destpool": to});
    assert_eq!(cluster.refused(rename("other")).0, Errno::EEXIST);
    cluster.done(rename("data2"));
    let set =
        |var: &str, val: &str| json!({"prefix": "osd pool set", "pool": "data2", "var": var, "val": val});
    let (_, problem) = cluster.refused(set("csum_type", "crc64"));
    assert!(problem.contains("crc32c_16, crc32c_8"), "{problem}");
    cluster.done(set("csum_type", "xxhash64"));
    let get = json!({"prefix": "osd pool get", "pool": "data2", "var": "csum_type"});
    assert_eq!(cluster.value(get.clone())["csum_type"], "xxhash64");
    assert!(cluster.text(get.clone()).contains("csum_type: xxhash64"));
    let dump = cluster.value(json!({"prefix": "osd dump"}));
    assert_eq!(dump["pools"][0]["options"]["csum_type"], 3);
    cluster.done(set("csum_type", "unset"));
    assert_eq!(cluster.refused(get).0, Errno::ENOENT);
    for (var, val) in [("compression_required_ratio", "1.5"), ("compression_algorithm", "brotli")] {
        let (errno, problem) = cluster.refused(set(var, val));
        assert!(errno == Errno::EINVAL && problem.contains(val) && problem.contains("expected"), "{problem}");
    }
    for (var, val) in [("compression_required_ratio", "0.5"), ("compression_max_blob_size", "32768")] {
        let get = json!({"prefix": "osd pool get", "pool": "data2", "var": var});
        cluster.done(set(var, val));
        assert!(cluster.text(get.clone()).contains(val));
        cluster.done(set(var, "unset"));
        assert_eq!(cluster.refused(get).0, Errno::ENOENT);
    }
    cluster.done(set("compression_mode", "force"));
    cluster.done(set("nodelete", "1"));
    let detail = cluster.text(json!({"prefix": "osd pool ls", "detail": "detail"}));
    assert!(detail.contains("flags hashpspool,nodelete stripe_width 0 compression_mode force"), "{detail}");
    cluster
        .done(json!({"prefix": "osd pool set-quota", "pool": "data2", "field": "max_bytes", "val": "10G"}));
    let quota = cluster.value(json!({"prefix": "osd pool get-quota", "pool": "data2"}));
    assert_eq!(quota["quota_max_bytes"], 10_u64 << 30);
    let delete = json!({
        "prefix": "osd pool rm", "pool": "data2", "pool2": "data2", "yes_i_really_really_mean_it": "true",
    });
    assert!(cluster.refused(delete.clone()).1.contains("mon_allow_pool_delete"));
    cluster.done(
        json!({"prefix": "config set", "who": "global", "name": "mon-allow-pool-delete", "value": "1"}),
    );
    assert!(cluster.refused(delete.clone()).1.contains("nodelete false"));
    cluster.done(set("nodelete", "false"));
    assert!(cluster.refused(json!({"prefix": "osd pool rm", "pool": "data2"})).1.contains("twice"));
    cluster.done(delete);
    assert_eq!(cluster.value(json!({"prefix": "osd pool ls"})), json!(["other"]));
    cluster.done(json!({"prefix": "osd pool create", "pool": "next", "pg_num": 1}));
    let pools = cluster.value(json!({"prefix": "osd lspools"}));
    assert_eq!(pools[1]["poolnum"], 3, "an id is never given twice");
}

#[test]
fn health_names_what_is_wrong() {
    let mut cluster = Cluster::recorded();
    let codes = |cluster: &mut Cluster| {
        let health = cluster.value(json!({"prefix": "health"}));
        health["checks"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(codes(&mut cluster), ["POOL_APP_NOT_ENABLED"]);
    for pool in ["p1", "p2"] {
        cluster.done(json!({"prefix": "osd pool application enable", "pool": pool, "app": "x"}));
    }
    assert_eq!(cluster.text(json!({"prefix": "health"})), "HEALTH_OK\n");
    let down = osd_life::mark_down(&cluster.state, cluster.now, &[1]);
    cluster.apply(down);
    assert_eq!(codes(&mut cluster), ["OSD_DOWN", "PG_AVAILABILITY"]);
    let detail = cluster.text(json!({"prefix": "health", "detail": "detail"}));
    assert!(detail.contains("osd.1 (root=default,host=vm,device=vm.disk1) is down"), "{detail}");
    assert!(cluster.text(json!({"prefix": "status"})).contains("pgs not active"));
    cluster.boot(1);
    cluster.done(json!({"prefix": "osd set", "key": "noscrub"}));
    cluster.done(json!({"prefix": "osd set-nearfull-ratio", "ratio": 0.1}));
    assert_eq!(codes(&mut cluster), ["OSDMAP_FLAGS", "OSD_NEARFULL"]);
    let alert = wire::msg::Alert {
        code: "SLICE_FAILED".into(),
        severity: wire::msg::Severity::Error,
        text: "its journal cannot be replayed".into(),
    };
    cluster.live.alerts.accept(2, vec![alert]);
    assert!(cluster.text(json!({"prefix": "health"})).starts_with("HEALTH_ERR"));
    cluster.live.alerts.accept(2, Vec::new());
    assert!(cluster.text(json!({"prefix": "health"})).starts_with("HEALTH_WARN"));
}

#[test]
fn blocks_and_flags() {
    let mut cluster = Cluster::new();
    let add =
        json!({"prefix": "osd blocklist", "blocklistop": "add", "addr": "127.0.0.1:0/4242", "expire": 60.0});
    assert!(
        cluster.done(add).starts_with("blocklisting 127.0.0.1:0/4242 until 2026-11-21T04:51:23.312801+0000")
    );
    let list = cluster.value(json!({"prefix": "osd blocklist ls"}));
    assert_eq!(list[0]["addr"], "127.0.0.1:0/4242");
    cluster.done(json!({"prefix": "osd blacklist", "blacklistop": "rm", "addr": "127.0.0.1:0/4242"}));
    assert!(cluster.state.osd_maps.newest().blocklist.0.is_empty());
    cluster.done(json!({"prefix": "osd set", "key": "pause"}));
    assert!(cluster.text(json!({"prefix": "osd dump"})).contains("pauserd,pausewr,sortbitwise"));
    cluster.done(json!({"prefix": "osd unset", "key": "pause"}));
    let sortbitwise = json!({"prefix": "osd unset", "key": "sortbitwise"});
    assert_eq!(cluster.refused(sortbitwise).0, Errno::EINVAL, "listings rely on it");
    for bad in ["", "x", "127.0.0.1:99999/1", "127.0.0.1:1/x"] {
        let command = json!({"prefix": "osd blocklist", "blocklistop": "add", "addr": bad});
        assert_eq!(cluster.refused(command).0, Errno::EINVAL, "{bad}");
    }
    // OSDs that are down and marked down again, or do not exist.
    assert_eq!(
        cluster.done(json!({"prefix": "osd down", "ids": ["0", "osd.2"]})),
        "marked down osd.0. marked down osd.2. "
    );
    assert_eq!(cluster.done(json!({"prefix": "osd down", "ids": "0"})), "osd.0 is already down. ");
    assert_eq!(cluster.refused(json!({"prefix": "osd down", "ids": ["9"]})).0, Errno::ENOENT);
}

#[test]
fn tell_has_its_own_table() {
    let cluster = Cluster::new();
    let view = View { state: &cluster.state, live: &cluster.live, now: cluster.now };
    let request =
        |prefix: &str| Request::parse(&[json!({"prefix": prefix}).to_string()], Bytes::new()).unwrap();
    let unknown = run(&view, Table::Tell, &request("status")).reply;
    assert_eq!(
        (unknown.code, unknown.status.as_str()),
        (Errno::EINVAL.code(), "unknown command prefix status")
    );
    assert_eq!(run(&view, Table::Tell, &request("version")).reply.code, 0);
    let rows = run(&view, Table::Tell, &request("get_command_descriptions")).reply.output;
    let rows: BTreeMap<String, Value> = serde_json::from_slice(&rows).unwrap();
    assert!(rows.values().all(|row| row.get("sig").is_some() && row.get("flags").is_none()));
}
