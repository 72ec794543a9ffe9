//! A cell whose changes can be waited for. Lives on one core.

use std::cell::{Ref, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::Closed;
use super::waiters::{Ticket, Waiters};

struct State<T> {
    value: RefCell<T>,
    control: RefCell<Control>,
}

struct Control {
    version: u64,
    waiters: Waiters,
    writer_gone: bool,
}

/// Holds and changes the value.
pub struct Watch<T>(Rc<State<T>>);

/// Sees the value. Clones remember on their own what they have seen.
pub struct Watcher<T> {
    state: Rc<State<T>>,
    seen: u64,
}

impl<T> Watch<T> {
    /// A cell with a first value.
    pub fn new(value: T) -> Self {
        let control = Control { version: 0, waiters: Waiters::default(), writer_gone: false };
        Self(Rc::new(State { value: RefCell::new(value), control: RefCell::new(control) }))
    }

    /// Replaces the value; watchers that wait go on. Those that are slow see the last value only.
    pub fn set(&self, value: T) {
        let old = self.0.value.replace(value);
        let mut control = self.0.control.borrow_mut();
        control.version += 1;
        control.waiters.wake_all();
        drop(control);
        drop(old);
    }

    /// The value. Do not hold it across an await.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.value.borrow()
    }

    /// A watcher that has seen the present value.
    pub fn watch(&self) -> Watcher<T> {
        Watcher { state: self.0.clone(), seen: self.0.control.borrow().version }
    }
}

impl<T> Drop for Watch<T> {
    fn drop(&mut self) {
        let mut control = self.0.control.borrow_mut();
        control.writer_gone = true;
        control.waiters.wake_all();
    }
}

impl<T> Watcher<T> {
    /// The value. Do not hold it across an await.
    pub fn borrow(&self) -> Ref<'_, T> {
        self.state.value.borrow()
    }

    /// Waits for a value not seen yet, which then counts as seen. Closed once the writer is gone and all is seen.
    pub async fn changed(&mut self) -> Result<(), Closed> {
        let mut place = Place { control: &self.state.control, ticket: None };
        let seen = self.seen;
        let version = poll_fn(|cx| {
            let mut control = self.state.control.borrow_mut();
            if control.version != seen {
                return Poll::Ready(Ok(control.version));
            }
            if control.writer_gone {
                return Poll::Ready(Err(Closed));
            }
            control.waiters.wait(&mut place.ticket, cx.waker(), ());
            Poll::Pending
        })
        .await?;
        drop(place);
        self.seen = version;
        Ok(())
    }
}

impl<T> Clone for Watcher<T> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), seen: self.seen }
    }
}

struct Place<'a> {
    control: &'a RefCell<Control>,
    ticket: Option<Ticket>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.control.borrow_mut().waiters.leave(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Group;

    #[test]
    fn watchers_see_the_last_value() {
        super::super::run(|core| async move {
            let watch = Watch::new(0);
            let mut watcher = watch.watch();
            watch.set(1);
            watch.set(2);
            assert_eq!(watcher.changed().await, Ok(()));
            assert_eq!(*watcher.borrow(), 2);
            let sleeper = core.clone();
            core.spawn(Group::Client, "set", async move {
                sleeper.yield_now().await;
                watch.set(3);
            });
            assert_eq!(watcher.changed().await, Ok(()));
            assert_eq!(*watcher.borrow(), 3);
            assert_eq!(watcher.changed().await, Err(Closed));
        });
    }
}
