//! Sleeping tasks of a real core, by deadline. Lives on one core.
//!
//! Invariant: a sleeper is in the map from its first poll until it is due or dropped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use crate::core::Nanos;
use crate::os;

/// Monotonic time since this process first asked; the same on all cores.
pub(crate) fn monotonic() -> Nanos {
    static START: OnceLock<u64> = OnceLock::new();
    let start = *START.get_or_init(os::monotonic_ns);
    Nanos(os::monotonic_ns().saturating_sub(start))
}

/// Time since 1970.
pub(crate) fn wall_clock() -> Nanos {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
}

/// Sleepers of one core.
#[derive(Default)]
pub(crate) struct Timers {
    sleepers: RefCell<BTreeMap<(Nanos, u64), Waker>>,
    next: Cell<u64>,
}

impl Timers {
    /// Sleeps until the deadline.
    pub fn sleep_until(self: &Rc<Self>, deadline: Nanos) -> Sleep {
        Sleep { timers: self.clone(), deadline, key: None }
    }

    /// When the next sleeper is due.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.sleepers.borrow().first_key_value().map(|(key, _)| key.0)
    }

    /// Wakes all that are due.
    pub fn fire(&self, now: Nanos) {
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(first) = sleepers.first_entry() {
            if first.key().0 > now {
                break;
            }
            first.remove().wake();
        }
    }
}

/// See [`Timers::sleep_until`].
pub(crate) struct Sleep {
    timers: Rc<Timers>,
    deadline: Nanos,
    key: Option<(Nanos, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if monotonic() >= self.deadline {
            return Poll::Ready(());
        }
        let timers = self.timers.clone();
        let deadline = self.deadline;
        let key = *self.key.get_or_insert_with(|| {
            timers.next.set(timers.next.get() + 1);
            (deadline, timers.next.get())
        });
        timers.sleepers.borrow_mut().insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.timers.sleepers.borrow_mut().remove(&key);
        }
    }
}
