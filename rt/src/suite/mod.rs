//! What every world must do. A backend runs it in one line:
//!
//! ```
//! rt::suite::run_all(|test| rt::sim::Sim::new(1, rt::sim::Config::default()).run(0, test));
//! ```
//!
//! Each test gets a core of its own with the loopback network to itself. A test that fails panics.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failing test panics")]

mod aliens;
mod streams;
mod tasks;

use crate::core::{Core, LocalBoxFuture};

/// One test.
pub type Test = fn(Core) -> LocalBoxFuture<'static, ()>;

macro_rules! tests {
    ($($module:ident::$name:ident,)*) => {
        /// All tests, by name.
        pub const TESTS: &[(&str, Test)] =
            &[$((concat!(stringify!($module), "::", stringify!($name)), |core| Box::pin($module::$name(core))),)*];
    };
}

tests! {
    tasks::spawned_tasks_run,
    tasks::cancel_drops_the_future,
    tasks::a_task_may_cancel_itself_and_others,
    tasks::yielding_lets_others_run,
    tasks::groups_share_the_core,
    tasks::timers_fire_in_order_and_never_early,
    tasks::dropped_timers_are_forgotten,
    tasks::many_timers,
    tasks::time_limits_hold,
    tasks::clocks_go_on,
    tasks::random_bits_differ,
    tasks::many_tasks,
    tasks::mailboxes_deliver_in_order,
    aliens::work_gives_its_result,
    aliens::work_overlaps_with_tasks,
    aliens::dropped_work_still_runs,
    aliens::every_lane_works,
    streams::echo,
    streams::many_connections,
    streams::big_transfer_both_ways,
    streams::many_chunks_in_one_write,
    streams::half_close,
    streams::writers_wait_for_slow_readers,
    streams::dropped_reads_lose_nothing,
    streams::dropping_the_reader_alone_keeps_the_writer,
    streams::a_dropped_stream_ends_at_the_peer,
    streams::abort_ends_both_sides,
    streams::abort_wakes_a_reader_of_the_same_side,
    streams::refused_and_taken_addresses,
    streams::a_dropped_listener_refuses,
    streams::a_dropped_accept_loses_nothing,
    streams::dropped_connects_leave_no_trace,
    streams::received_bytes_outlive_the_connection,
}

/// Runs all tests, each in a world that `run` makes.
pub fn run_all(mut run: impl FnMut(Test)) {
    for (name, test) in TESTS {
        log::debug!("suite: {name}");
        let current = Current(name);
        run(*test);
        std::mem::forget(current);
    }
}

/// Names the test that panicked, also where the panic itself does not.
struct Current(&'static str);

impl Drop for Current {
    fn drop(&mut self) {
        if std::thread::panicking() {
            log::error!("suite: {} failed", self.0);
            eprintln!("suite: {} failed", self.0);
        }
    }
}
