use std::path::Path;

use serde_json::Value;

use super::*;

fn settings(folder: &Path) -> Settings {
    Settings {
        operations: 300,
        rounds: 1,
        warm_up: 1,
        depth: 8,
        objects: 2,
        data_cache: 0,
        kv: Kv::Memory,
        only: None,
        together: false,
        spin: 0,
        io: 0,
        flush: None,
        json: Some(folder.join("result.json")),
    }
}

/// Measures, and gives what was written of each load.
fn results(settings: &Settings) -> Vec<Value> {
    measure(settings).expect("runs");
    let path = settings.json.as_ref().expect("one was given");
    let told: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("written")).expect("JSON");
    told["results"].as_array().expect("a list").clone()
}

fn number(result: &Value, name: &str) -> f64 {
    result[name].as_f64().expect("a number")
}

/// Every load in both arrangements: everything is counted, and reads write nothing.
#[test]
fn every_load_is_measured_together_and_apart() {
    for together in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        let results = results(&Settings { together, ..settings(folder.path()) });
        assert_eq!(results.len(), Load::all().count());
        for result in results {
            let writes = result["load"] == "overwrite";
            for name in ["cpu_us_median", "enters", "allocations"] {
                assert!(number(&result, name) > 0.0, "{name}: {result}");
            }
            // The store may have something to finish while others are measured: a checkpoint, the seal of its journal.
            assert_eq!(number(&result, "device_bytes") >= 4096.0, writes, "{result}");
            assert_eq!(number(&result, "groups") > 0.05, writes, "{result}");
        }
    }
}

/// What an operation may take at depth 32, of both ends together: on one thread the same ones always come together. Whoever needs
/// more changes the limit, and says why.
const LIMITS: [(&str, [(&str, f64); 6]); 2] = [
    (
        "read",
        [
            ("allocations", 49.0),
            ("enters", 0.2),
            ("tasks", 0.01),
            ("device_bytes", 40.0),
            ("groups", 0.01),
            ("foreign_wakes", 0.005),
        ],
    ),
    (
        "overwrite",
        [
            ("allocations", 77.0),
            ("enters", 0.2),
            ("tasks", 1.2),
            ("device_bytes", 5000.0),
            ("groups", 0.08),
            ("foreign_wakes", 0.005),
        ],
    ),
];

#[test]
fn an_operation_stays_within_its_limits() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = results(&Settings {
        operations: 4000,
        depth: 32,
        objects: 4,
        together: true,
        ..settings(folder.path())
    });
    for (load, limits) in LIMITS {
        let result = results.iter().find(|result| result["load"] == load).expect("it was measured");
        for (name, limit) in limits {
            assert!(number(result, name) <= limit, "{name} of {load} above {limit}: {result}");
        }
    }
}
