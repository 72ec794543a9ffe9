//! A report as one page of HTML that needs nothing else: no scripts, fonts, styles or pictures from elsewhere.

use hdrhistogram::Histogram;

use super::plots::{self, Curve};
use super::{QUANTILES, Report, us};
use crate::recorder::Lane;

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:960px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:1.6em}table{border-collapse:collapse;margin:.6em 0}\
td,th{border:1px solid #ccc;padding:.25em .6em;text-align:left;vertical-align:top}td.n{text-align:right}\
code{background:#f3f3f3;padding:.1em .3em;overflow-wrap:anywhere}pre{overflow-x:auto;font-size:12px}svg{width:100%;height:auto}.wrong{color:#b00;font-weight:bold}";

impl Report {
    /// The page.
    pub fn to_html(&self) -> anyhow::Result<String> {
        let mut body = results(self);
        for sentence in self.sentences() {
            body += &paragraph(&sentence);
        }
        if let Some(sentence) = self.verified_sentence() {
            let class = if self.is_wrong() { " class=\"wrong\"" } else { "" };
            body += &format!("<p{class}>Verification: {}.</p>\n", escape(&sentence));
        }
        body += &findings(self);
        let parts: Vec<(&str, &Histogram<u64>)> =
            self.lanes().map(|(name, lane)| (name, &lane.latencies)).collect();
        if !parts.is_empty() {
            body += &plots::over_time("Operations per second", "per second", &self.curves(rate))?;
            body += &plots::by_percentile("Latency by percentile", &parts)?;
            body += &plots::histogram("How often which latency", &parts)?;
            body += &plots::durations_over_time("Longest latency of each interval", &self.curves(longest))?;
        }
        let heading = format!("spirula bench {}", self.target);
        let tables = [("Target", &self.about), ("Job", &self.job_rows()), ("Machine", &self.machine_rows())];
        for (name, rows) in tables {
            body += &format!("<h2>{name}</h2>\n{}", table(rows));
        }
        Ok(page(&heading, &self.command, &body))
    }

    fn sentences(&self) -> Vec<String> {
        let open = self.open_loop_sentence().map(|sentence| format!("Open loop: {sentence}."));
        let spent = self.measured.parties.iter().map(|party| format!("{}.", self.spent_sentence(party)));
        let written = self
            .amplification()
            .map(|times| format!("{times:.3} bytes were written to the device for each client byte."));
        open.into_iter().chain(spent).chain(written).collect()
    }

    fn curves(&self, of: fn(&Lane, usize) -> f64) -> Vec<Curve> {
        let curve = |(name, lane): (&str, &Lane)| {
            let length = lane.intervals.length_ns as f64 / 1e9;
            // The last one has hardly begun when the measurement ends.
            let whole = (self.measured.elapsed.as_nanos() / u128::from(lane.intervals.length_ns)) as usize;
            let points = (0..lane.intervals.operations.len().min(whole.max(1)))
                .map(|index| ((index as f64 + 0.5) * length, of(lane, index)))
                .collect();
            Curve { name: name.to_owned(), points }
        };
        self.lanes().map(curve).collect()
    }
}

/// A page with a heading, the command that made it, and the rest.
pub fn page(heading: &str, command: &str, body: &str) -> String {
    let (heading, command) = (escape(heading), escape(command));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{heading}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>{heading}</h1>\n<p><code>{command}</code></p>\n{body}</body>\n</html>\n"
    )
}

/// Names and values.
pub fn table(rows: &[(&'static str, String)]) -> String {
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value)))
        .collect();
    format!("<table>\n{rows}</table>\n")
}

/// Lines that are aligned by spaces.
pub fn preformatted(text: &str) -> String {
    format!("<pre>{}</pre>\n", escape(text))
}

fn paragraph(sentence: &str) -> String {
    format!("<p>{}</p>\n", escape(sentence))
}

fn results(report: &Report) -> String {
    let names: String = QUANTILES.iter().map(|(_, name)| format!("<th>{name}</th>")).collect();
    let mut rows = format!(
        "<tr><th></th><th>operations</th><th>per second</th><th>MiB/s</th><th>mean</th>{names}<th>max</th></tr>\n"
    );
    for (name, lane) in report.lanes() {
        let rate = report.per_second(lane.operations());
        let mut cells = vec![
            lane.operations().to_string(),
            format!("{rate:.0}"),
            format!("{:.1}", rate * report.job.block_size as f64 / f64::from(1 << 20)),
            format!("{:.1}", lane.latencies.mean() / 1000.0),
        ];
        let quantiles = QUANTILES.iter().map(|(quantile, _)| lane.latencies.value_at_quantile(*quantile));
        cells.extend(quantiles.chain([lane.latencies.max()]).map(|ns| format!("{:.1}", us(ns))));
        let cells: String = cells.iter().map(|cell| format!("<td class=\"n\">{cell}</td>")).collect();
        rows += &format!("<tr><th>{name}</th>{cells}</tr>\n");
    }
    format!("<table>\n{rows}</table>\n<p>Latencies are in microseconds.</p>\n")
}

fn findings(report: &Report) -> String {
    let findings = report.measured.verified.iter().flat_map(|verified| &verified.findings);
    let items: String = findings
        .map(|finding| {
            let text = format!("{}: {}", finding.place, finding.wrong);
            format!("<li class=\"wrong\">{}</li>\n", escape(&text))
        })
        .collect();
    if items.is_empty() { items } else { format!("<ul>\n{items}</ul>\n") }
}

fn rate(lane: &Lane, index: usize) -> f64 {
    lane.intervals.operations[index] as f64 * 1e9 / lane.intervals.length_ns as f64
}

fn longest(lane: &Lane, index: usize) -> f64 {
    us(lane.intervals.latency_ns_max[index])
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            other => escaped.push(other),
        }
    }
    escaped
}
