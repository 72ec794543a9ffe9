//! [`Changes`]: a counter that tasks of one core wait on, for conditions over state that lives elsewhere.
//!
//! Read the count, look at the state, and if it will not do, wait for a change since that count: no change between
//! the look and the wait is missed.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

#[derive(Default)]
pub(crate) struct Changes {
    count: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Changes {
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// The state changed: all who wait look again.
    pub(crate) fn note(&self) {
        self.count.set(self.count.get() + 1);
        self.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Waits until the count is not `seen` any more.
    pub(crate) async fn since(&self, seen: u64) {
        poll_fn(|context| {
            if self.count.get() != seen {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
