//! One entry per decoder, and the interpreter of ops, for fuzzers and for replaying their corpora.
//!
//! Each entry takes any bytes and panics when an invariant breaks: a decoder panics or gives a value larger than its
//! input allows; encoding what was decoded and decoding that again does not give the same; the interpreter does
//! something else in one request than in several. What is refused is fine.

mod choices;
mod history;
mod requests;
mod seeds;
mod values;
mod world;

pub use seeds::seeds;

/// Name of an entry, and the function that takes the bytes of one test case.
pub type Target = (&'static str, fn(&[u8]));

/// All entries.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

static TARGETS: &[Target] = &[
    ("pg_object_info", values::object_info),
    ("pg_log_entry", values::log_entry),
    ("pg_group_info", values::group_info),
    ("pg_group_open", values::group_open),
    ("pg_list_query", values::list_query),
    ("pg_request", requests::request),
    ("pg_history", history::history),
];
