//! [`Metrics`]: what daemons say, as Prometheus has it.

use std::collections::BTreeMap;

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use serde_json::Value;

/// Those of an OSD's counters that go down as well; so do all of a throttle's.
const GAUGES: [&str; 9] = [
    "op_wip",
    "numpg",
    "connections",
    "total_bytes",
    "available_bytes",
    "allocated_bytes",
    "stored_bytes",
    "omap_bytes",
    "metadata_bytes",
];

/// Fields of a distribution, and which quantiles they are.
const QUANTILES: [(&str, &str); 4] = [("p50", "0.5"), ("p99", "0.99"), ("p999", "0.999"), ("max", "1")];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
}

/// One metric with all its values.
struct Family {
    help: String,
    kind: Kind,
    labels: &'static [&'static str],
    /// By the values of the labels.
    values: Vec<(Vec<String>, u64)>,
}

/// See the module.
#[derive(Default)]
pub struct Metrics {
    families: BTreeMap<String, Family>,
}

impl Metrics {
    fn add(
        &mut self,
        name: &str,
        help: &str,
        kind: Kind,
        labels: &'static [&'static str],
        of: &[&str],
        value: u64,
    ) {
        let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let ending = if kind == Kind::Counter { "_total" } else { "" };
        let name: String = format!("spirula_{name}{ending}").chars().map(allowed).collect();
        let new = || Family { help: help.to_owned(), kind, labels, values: Vec::new() };
        let family = self.families.entry(name).or_insert_with(new);
        family.values.push((of.iter().map(|label| (*label).to_owned()).collect(), value));
    }

    /// From `ceph health detail`.
    pub fn health(&mut self, health: &Value) {
        let status = match health["status"].as_str() {
            Some("HEALTH_OK") => 0,
            Some("HEALTH_WARN") => 1,
            _ => 2,
        };
        self.add("health_status", "0 OK, 1 warning, 2 error", Kind::Gauge, &[], &[], status);
        for (name, check) in health["checks"].as_object().into_iter().flatten() {
            let severity = check["severity"].as_str().unwrap_or_default();
            let labels: &[&str] = &["name", "severity"];
            self.add("health_check", "checks that are not well", Kind::Gauge, labels, &[name, severity], 1);
        }
    }

    /// From `ceph df`.
    pub fn pools(&mut self, df: &Value) {
        const FIELDS: [(&str, &str); 4] = [
            ("stored", "bytes of clients in a pool"),
            ("objects", "objects in a pool"),
            ("bytes_used", "bytes that a pool takes"),
            ("max_avail", "bytes that a pool may still take"),
        ];
        for pool in df["pools"].as_array().into_iter().flatten() {
            let name = pool["name"].as_str().unwrap_or_default();
            let id = pool["id"].to_string();
            for (field, help) in FIELDS {
                if let Some(value) = pool["stats"][field].as_u64() {
                    self.add(
                        &format!("pool_{field}"),
                        help,
                        Kind::Gauge,
                        &["pool", "id"],
                        &[name, &id],
                        value,
                    );
                }
            }
        }
    }

    /// From `ceph osd dump`; gives the OSDs that are up.
    pub fn osds(&mut self, map: &Value) -> Vec<i32> {
        let mut all_up = Vec::new();
        for osd in map["osds"].as_array().into_iter().flatten() {
            let Some(id) = osd["osd"].as_i64().and_then(|id| i32::try_from(id).ok()) else { continue };
            let is = |field: &str| osd[field].as_u64().unwrap_or_default();
            let label = id.to_string();
            self.add("osd_up", "whether an OSD is up", Kind::Gauge, &["osd"], &[&label], is("up"));
            self.add("osd_in", "whether an OSD is to hold data", Kind::Gauge, &["osd"], &[&label], is("in"));
            if is("up") == 1 {
                all_up.push(id);
            }
        }
        all_up
    }

    /// Whether an OSD gave its counters.
    pub fn answered(&mut self, osd: i32, answered: bool) {
        let help = "whether an OSD that is up gave its counters";
        self.add("osd_answered", help, Kind::Gauge, &["osd"], &[&osd.to_string()], u64::from(answered));
    }

    /// From `ceph tell osd.N perf dump`.
    pub fn counters(&mut self, osd: i32, counters: &Value) {
        let label = osd.to_string();
        for (group, fields) in counters.as_object().into_iter().flatten() {
            for (field, value) in fields.as_object().into_iter().flatten() {
                let is_gauge =
                    group.starts_with("throttle") || group == "memory" || GAUGES.contains(&&**field);
                let kind = if is_gauge { Kind::Gauge } else { Kind::Counter };
                let help = format!("{field} of {group} in 'ceph tell osd.N perf dump'");
                let name = format!("{group}_{field}");
                if let Some(value) = value.as_u64() {
                    self.add(&name, &help, kind, &["osd"], &[&label], value);
                } else if let (Some(count), Some(sum)) = (value["avgcount"].as_u64(), value["sum"].as_f64()) {
                    let times = format!("{help}: how many times");
                    self.add(&format!("{name}_count"), &times, kind, &["osd"], &[&label], count);
                    let micros = format!("{help}: microseconds, all together");
                    let sum = (sum * 1e6).round() as u64;
                    self.add(&format!("{name}_us"), &micros, kind, &["osd"], &[&label], sum);
                    for (field, quantile) in QUANTILES {
                        let Some(seconds) = value[field].as_f64() else { continue };
                        let help = format!("{help}: microseconds that this part of them took at most");
                        let (labels, of) = (&["osd", "quantile"], [label.as_str(), quantile]);
                        let micros = (seconds * 1e6).round() as u64;
                        self.add(&format!("{name}_quantile_us"), &help, Kind::Gauge, labels, &of, micros);
                    }
                }
            }
        }
    }

    /// In Prometheus's text format.
    pub fn text(self) -> anyhow::Result<String> {
        let registry = Registry::new();
        for (name, family) in self.families {
            let opts = Opts::new(name, family.help);
            match family.kind {
                Kind::Counter => {
                    let vec = IntCounterVec::new(opts, family.labels)?;
                    for (labels, value) in &family.values {
                        vec.get_metric_with_label_values(labels)?.inc_by(*value);
                    }
                    registry.register(Box::new(vec))?;
                }
                Kind::Gauge => {
                    let vec = IntGaugeVec::new(opts, family.labels)?;
                    for (labels, value) in &family.values {
                        vec.get_metric_with_label_values(labels)?
                            .set(i64::try_from(*value).unwrap_or(i64::MAX));
                    }
                    registry.register(Box::new(vec))?;
                }
            }
        }
        Ok(TextEncoder::new().encode_to_string(&registry.gather())?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn daemons_words_become_metrics() -> anyhow::Result<()> {
        let mut metrics = Metrics::default();
        let check = json!({ "severity": "HEALTH_WARN" });
        metrics.health(&json!({ "status": "HEALTH_WARN", "checks": { "OSD_STORE_FULL": check } }));
        metrics.pools(&json!({ "pools": [{ "name": "a \"b\"", "id": 3, "stats": { "objects": 7 } }] }));
        let osds = json!({ "osds": [{ "osd": 0, "up": 1, "in": 1 }, { "osd": 4, "up": 0, "in": 1 }] });
        assert_eq!(metrics.osds(&osds), [0]);
        metrics.counters(
            0,
            &json!({
                "osd": { "op": 12, "op_wip": 2, "odd": "text", "op_r_latency": { "avgcount": 5, "sum": 0.0125, "p99": 0.004, "max": 0.0051 } },
                "throttle-x_y": { "val": 9 },
            }),
        );
        let text = metrics.text()?;
        for line in [
            "spirula_health_status 1",
            "spirula_health_check{name=\"OSD_STORE_FULL\",severity=\"HEALTH_WARN\"} 1",
            "spirula_pool_objects{id=\"3\",pool=\"a \\\"b\\\"\"} 7",
            "spirula_osd_up{osd=\"4\"} 0",
            "# TYPE spirula_osd_op_total counter",
            "spirula_osd_op_total{osd=\"0\"} 12",
            "# TYPE spirula_osd_op_wip gauge",
            "spirula_osd_op_wip{osd=\"0\"} 2",
            "spirula_throttle_x_y_val{osd=\"0\"} 9",
            "spirula_osd_op_r_latency_count_total{osd=\"0\"} 5",
            "spirula_osd_op_r_latency_us_total{osd=\"0\"} 12500",
            "# TYPE spirula_osd_op_r_latency_quantile_us gauge",
            "spirula_osd_op_r_latency_quantile_us{osd=\"0\",quantile=\"0.99\"} 4000",
            "spirula_osd_op_r_latency_quantile_us{osd=\"0\",quantile=\"1\"} 5100",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
        }
        assert!(!text.contains("odd"));
        Ok(())
    }
}
