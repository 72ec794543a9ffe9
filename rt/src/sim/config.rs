//! What a simulated world is like. Pure.

use std::time::Duration;

/// Properties of a simulated world. The default is a healthy, fast, jittery network without faults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Network between two hosts, unless set otherwise by [`super::Sim::set_link`].
    pub link: Link,
    /// Network within a host.
    pub loopback: Link,
    /// Bytes on their way or unread in one direction of a connection; a writer beyond that waits.
    pub window_bytes: usize,
    /// An attempt to connect that got no answer ends after this.
    pub connect_timeout: Duration,
    /// Virtual time that one poll of a task takes, at most (drawn from the seed).
    pub poll_cost_max: Duration,
    /// Timers fire at most this late (drawn from the seed; most fire in time).
    pub timer_slack_max: Duration,
    /// Delay of work on foreign threads, least and most.
    pub alien_delay: (Duration, Duration),
    /// Wall clock of the beginning, nanoseconds since 1970.
    pub wall_clock_start: u64,
    /// Wall clocks jump about this often, each host's at its own times; never if zero.
    pub wall_clock_jump_every: Duration,
    /// Wall clocks are off by at most this after a jump, either way.
    pub wall_clock_jump_max: Duration,
    /// Keep the trace as text, see [`super::Sim::trace_text`].
    pub trace: bool,
}

/// One direction of the network between two hosts.
#[derive(Clone, Debug)]
pub struct Link {
    /// Least delay of a message.
    pub delay_min: Duration,
    /// Usual greatest delay.
    pub delay_max: Duration,
    /// Messages that are slow, in a million.
    pub slow_ppm: u32,
    /// Greatest delay of a slow message.
    pub slow_max: Duration,
    /// Messages whose delivery resets their connection instead, in a million.
    pub reset_ppm: u32,
    /// Messages that arrive with a bit flipped, in a million: what a network's own checksums let through.
    pub flip_ppm: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            link: Link::default(),
            loopback: Link {
                delay_min: Duration::from_micros(2),
                delay_max: Duration::from_micros(20),
                slow_ppm: 500,
                slow_max: Duration::from_millis(1),
                reset_ppm: 0,
                flip_ppm: 0,
            },
            window_bytes: 256 << 10,
            connect_timeout: Duration::from_secs(10),
            poll_cost_max: Duration::from_micros(1),
            timer_slack_max: Duration::from_micros(200),
            alien_delay: (Duration::from_micros(10), Duration::from_micros(500)),
            wall_clock_start: 1_800_000_000_000_000_000,
            wall_clock_jump_every: Duration::ZERO,
            wall_clock_jump_max: Duration::from_secs(30),
            trace: false,
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay_min: Duration::from_micros(20),
            delay_max: Duration::from_micros(200),
            slow_ppm: 1000,
            slow_max: Duration::from_millis(5),
            reset_ppm: 0,
            flip_ppm: 0,
        }
    }
}
