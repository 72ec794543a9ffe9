//! Everything that changes in a simulated world. One per world; borrowed only between calls of user code.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

use super::config::Config;
use super::host::SimCore;
use super::net::{Net, NetEvent};
use super::random::RandomStream;
use super::trace::Trace;
use super::{Sim, after};
use crate::core::Nanos;

/// Place in the event queue: time, then order of scheduling.
pub(super) type EventKey = (Nanos, u64);

pub(super) enum Event {
    /// A sleeping task is due.
    Timer(Waker),
    /// Foreign work is due to run.
    Alien {
        host: u16,
        life: u64,
        job: u64,
    },
    Net(NetEvent),
    Call(Box<dyn FnOnce(&Sim)>),
}

pub(super) struct State {
    pub now: Nanos,
    pub events: BTreeMap<EventKey, Event>,
    sequence: u64,
    pub hosts: BTreeMap<u16, Rc<SimCore>>,
    pub lives: u64,
    pub steps: u64,
    pub net: Net,
    pub trace: Trace,
    pub wall_offsets: BTreeMap<u16, i64>,
    /// Order of tasks and events.
    pub order: RandomStream,
    /// Slack of timers, delays of foreign work.
    pub delays: RandomStream,
}

impl State {
    pub fn new(seed: u64, config: &Config) -> Self {
        Self {
            now: Nanos(0),
            events: BTreeMap::new(),
            sequence: 0,
            hosts: BTreeMap::new(),
            lives: 0,
            steps: 0,
            net: Net::new(seed, config),
            trace: Trace::new(seed, config.trace),
            wall_offsets: BTreeMap::new(),
            order: RandomStream::new(seed, "rt/order"),
            delays: RandomStream::new(seed, "rt/delays"),
        }
    }

    pub fn note(&mut self, what: &str, numbers: &[u64], content: &[u8]) {
        self.trace.note(self.now, what, numbers, content);
    }

    pub fn schedule(&mut self, time: Nanos, event: Event) -> EventKey {
        let key = (time, self.sequence);
        self.sequence += 1;
        self.events.insert(key, event);
        key
    }

    pub fn schedule_in(&mut self, delay: std::time::Duration, event: Event) -> EventKey {
        self.schedule(after(self.now, delay), event)
    }

    /// Takes the first event and moves the clock to it.
    pub fn next_event(&mut self) -> Option<Event> {
        let ((time, sequence), event) = self.events.pop_first()?;
        self.now = self.now.max(time);
        let what = match &event {
            Event::Timer(_) => "timer",
            Event::Alien { .. } => "alien",
            Event::Net(_) => "net",
            Event::Call(_) => "call",
        };
        self.note(what, &[sequence], &[]);
        Some(event)
    }
}
