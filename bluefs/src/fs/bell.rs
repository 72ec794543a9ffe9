//! [`Bell`]: by which commits, on whatever thread, tell whoever rewrites the log that it is time to. Either a task waits for it, on
//! the core on which the commits are, or somebody looks.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

#[derive(Default)]
struct State {
    rung: bool,
    closed: bool,
    waiting: Option<Waker>,
}

/// See the module; clones are one bell.
#[derive(Clone, Default)]
pub struct Bell(Arc<Mutex<State>>);

impl Bell {
    /// Waits until it rings; at once if it rang since. False once it is closed.
    pub async fn next(&self) -> bool {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.closed {
                return Poll::Ready(false);
            }
            if std::mem::take(&mut state.rung) {
                return Poll::Ready(true);
            }
            state.waiting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether it rang since it was last heard: for those who look now and then.
    pub fn take(&self) -> bool {
        std::mem::take(&mut self.lock().rung)
    }

    pub(crate) fn ring(&self) {
        let waiting = {
            let mut state = self.lock();
            state.rung = true;
            state.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends whoever waits.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            state.waiting.take()
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
