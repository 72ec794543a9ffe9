//! What is told of a measurement.

use super::*;
use crate::{Direction, Finding, Lane, Machine, Recorder, Report, Spent, Verified, Wrong};

fn lanes() -> (Lane, Lane) {
    let mut recorder = Recorder::new(Nanos(0));
    for number in 1..=10_000_u64 {
        let now = number * 100_000;
        recorder.record(Direction::Read, Nanos(now - 80_000), Nanos(now));
        if number.is_multiple_of(4) {
            recorder.record(Direction::Write, Nanos(now - number), Nanos(now));
        }
    }
    recorder.into_lanes()
}

fn report() -> Report {
    let (reads, writes) = lanes();
    let spent = Spent { cpu: Some(Duration::from_millis(100)), instructions: None, enters: Some(12_500) };
    let finding = Finding {
        position: 3,
        place: "object 'a<b>' at byte 12288".to_owned(),
        wrong: Wrong::Lost { expected: 2, found: 1 },
    };
    let measured = Measured {
        positions: 100,
        reads,
        writes,
        elapsed: Duration::from_secs(1),
        open_loop: Some(crate::driver::OpenLoop { arrivals: 13_000, not_started: 500, ..Default::default() }),
        parties: vec![Party::new("this thread", spent)],
        device_bytes: Some(2500 * 4096 * 2),
        verified: Some(Verified { checked: 10_000, wrong: 1, findings: vec![finding] }),
    };
    Report {
        target: "device",
        about: vec![("path", "/dev/<script>".to_owned())],
        command: "spirula bench device --path '/dev/<script>'".to_owned(),
        job: Job { mix: 80, rate: Some(13_000.0), verify: true, ..Job::default() },
        machine: Machine::this(),
        measured,
    }
}

#[test]
fn json_has_everything_that_is_needed_to_compare_and_to_repeat() {
    let told = report().to_json();
    let text = serde_json::to_string(&told).expect("JSON");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("parses"), told);
    for pointer in [
        "/target",
        "/about/path",
        "/command",
        "/version",
        "/machine/cores",
        "/machine/kernel",
        "/machine/instructions",
        "/job/block_size",
        "/job/depth",
        "/job/rate",
        "/job/spacing",
        "/job/mix",
        "/job/distribution",
        "/job/seconds",
        "/job/warm_up",
        "/job/age",
        "/job/seed",
        "/seconds",
        "/operations_per_s",
        "/bytes_per_s",
        "/latency_us/p99.9",
        "/reads/latency_us/max",
        "/writes/latency_us/p50",
        "/open_loop/delayed",
        "/spent/0/cpu_us_per_operation",
        "/verified/findings/0/place",
    ] {
        assert!(told.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer} in {told:#}");
    }
    assert_eq!(told["operations"], 12_500);
    assert_eq!(told["reads"]["operations"], 10_000);
    assert_eq!(told["spent"][0]["cpu_us_per_operation"], 8.0);
    assert_eq!(told["spent"][0]["enters_per_operation"], 1.0);
    assert_eq!(told["spent"][0]["instructions"], serde_json::Value::Null);
    assert_eq!(told["device_bytes_per_client_byte"], 2.0);
    assert_eq!(told["open_loop"]["not_started"], 500);
    let p50 = told["reads"]["latency_us"]["p50"].as_f64().expect("a number");
    assert!((p50 - 80.0).abs() < 0.2, "{p50}");
    let intervals = told["reads"]["operations_by_interval"].as_array().expect("a list");
    assert_eq!(intervals.iter().map(|count| count.as_u64().expect("a number")).sum::<u64>(), 10_000);
}

#[test]
fn a_kind_of_operation_that_there_was_not_has_no_latency() {
    let mut report = report();
    report.measured.writes = Recorder::new(Nanos(0)).into_lanes().1;
    let told = report.to_json();
    assert_eq!(
        (told["writes"]["operations"].as_u64(), &told["writes"]["latency_us"]),
        (Some(0), &serde_json::Value::Null)
    );
    assert_eq!(told["device_bytes_per_client_byte"], serde_json::Value::Null);
    assert!(!report.to_text().contains("write: "));
    assert!(report.to_html().expect("a page").contains("Latency by percentile"));
}

#[test]
fn text_says_what_is_wrong_and_what_was_not_counted() {
    let text = report().to_text();
    for words in [
        "read : 10000 operations, 10000/s, 39.1 MiB/s",
        "p99.9 80.",
        "NOT STARTED: 500 (3.85 %)",
        "this thread, each operation: 8.00 us CPU (10 % of a core), instructions not counted, 1.000 calls",
        "2.000 for each client byte",
        "1 of 10000 reads are WRONG",
        "80 % reads, 20 % writes",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
}

/// Checks that tags nest, as far as HTML wants them closed.
fn check_nesting(page: &str) {
    let mut open = Vec::new();
    let body = page.strip_prefix("<!DOCTYPE html>\n").expect("a page of HTML");
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("every tag ends");
        assert!(!text.contains('>'), "{text:?}");
        let name = tag.split_whitespace().next().expect("a name");
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "before {text:?}"),
            None if tag.ends_with('/') || name == "meta" => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn the_page_stands_alone_and_parses() {
    let page = report().to_html().expect("a page");
    check_nesting(&page);
    // The name of SVG's vocabulary is no address to fetch from.
    let rest = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for foreign in
        ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "<img", "<iframe"]
    {
        assert!(!rest.contains(foreign), "{foreign}");
    }
    assert_eq!(page.matches("<svg").count(), 4);
    for words in [
        "/dev/&lt;script&gt;",
        "object 'a&lt;b&gt;' at byte 12288: a lost write",
        "Operations per second",
        "Latency by percentile",
        "99.9",
        "distribution",
        "kernel",
        "1 of 10000 reads are WRONG",
    ] {
        assert!(page.contains(words), "{words:?} is missing");
    }
}

#[test]
fn a_run_without_operations_can_be_told_too() {
    let mut report = report();
    (report.measured.reads, report.measured.writes) = Recorder::new(Nanos(0)).into_lanes();
    report.measured.elapsed = Duration::ZERO;
    assert_eq!(report.to_json()["operations_per_s"], 0.0);
    assert!(report.to_text().starts_with("device: "));
    check_nesting(&report.to_html().expect("a page"));
}
