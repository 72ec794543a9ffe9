//! How answers look: sizes, durations, times, tables, JSON. Pure; shaped like Ceph's, since tools and people parse it.

mod addr;
mod json;
mod table;
mod units;

pub use addr::{addrvec, bare, first_addr};
pub use json::{Format, UnknownFormat, number, to_text};
pub use table::{Align, Table};
pub use units::{bytes, count, fixed_weight, since, timestamp, timestamp_z};
