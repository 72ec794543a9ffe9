//! What the benches of the engine alone have in common besides the store, which is `load::setup`: clocks, and an allocator that
//! counts.

#![expect(unsafe_code, reason = "clocks of threads, and a count of allocations")]

pub mod allocations;
pub mod clock;

pub use load::setup;

/// As in the command, and counted.
#[global_allocator]
static ALLOCATOR: allocations::Counted = allocations::Counted;

/// Least, median and most.
pub fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
}
