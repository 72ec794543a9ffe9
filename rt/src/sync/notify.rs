//! Signals: [`Notify`] wakes who waits, [`Event`] is a flag to wait for. Live on one core.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::waiters::{Ticket, Waiters};

/// A signal without memory but one: a notification that nobody waits for is kept for the next waiter.
#[derive(Default)]
pub struct Notify {
    waiters: RefCell<Waiters>,
    kept: Cell<bool>,
}

impl Notify {
    /// Wakes the first waiter, or lets the next one through at once.
    pub fn notify_one(&self) {
        if self.waiters.borrow_mut().wake_first().is_none() {
            self.kept.set(true);
        }
    }

    /// Wakes all who wait now; keeps nothing.
    pub fn notify_all(&self) {
        self.waiters.borrow_mut().wake_all();
    }

    /// Waits for a notification. A place in the line is taken at the first poll.
    pub fn notified(&self) -> impl Future<Output = ()> + '_ {
        Notified { notify: self, ticket: None }
    }
}

struct Notified<'a> {
    notify: &'a Notify,
    ticket: Option<Ticket>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let notify = self.notify;
        let mut waiters = notify.waiters.borrow_mut();
        match self.ticket {
            Some(ticket) if !waiters.contains(ticket) => {
                self.ticket = None;
                return Poll::Ready(());
            }
            None if notify.kept.take() => return Poll::Ready(()),
            _ => {}
        }
        waiters.wait(&mut self.ticket, cx.waker(), ());
        Poll::Pending
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket
            && !self.notify.waiters.borrow_mut().leave(ticket)
        {
            // Notified but dropped before it noticed: pass it on.
            self.notify.notify_one();
        }
    }
}

/// A flag that tasks wait for.
#[derive(Default)]
pub struct Event {
    set: Cell<bool>,
    waiters: RefCell<Waiters>,
}

impl Event {
    /// Sets the flag; all waiters go on.
    pub fn set(&self) {
        self.set.set(true);
        self.waiters.borrow_mut().wake_all();
    }

    /// Clears the flag.
    pub fn reset(&self) {
        self.set.set(false);
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// Waits until the flag is seen set. A waiter woken by [`Event::set`] goes on even if it is reset meanwhile.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        Wait { event: self, ticket: None }
    }
}

struct Wait<'a> {
    event: &'a Event,
    ticket: Option<Ticket>,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let event = self.event;
        let mut waiters = event.waiters.borrow_mut();
        if event.set.get() || self.ticket.is_some_and(|ticket| !waiters.contains(ticket)) {
            return Poll::Ready(());
        }
        waiters.wait(&mut self.ticket, cx.waker(), ());
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.event.waiters.borrow_mut().leave(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::core::Group;
    use crate::sync::{Either, select, yield_now};

    #[test]
    fn a_notification_is_neither_lost_nor_doubled() {
        super::super::run(|core| async move {
            let notify = Rc::new(Notify::default());
            notify.notify_one();
            notify.notify_one();
            notify.notified().await;
            assert!(matches!(select(notify.notified(), yield_now()).await, Either::Right(())));

            let woken = Rc::new(Cell::new(0));
            for _ in 0..3 {
                let (notify, woken) = (notify.clone(), woken.clone());
                core.spawn(Group::Client, "wait", async move {
                    notify.notified().await;
                    woken.set(woken.get() + 1);
                });
            }
            core.sleep(std::time::Duration::from_millis(1)).await;
            notify.notify_one();
            core.sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(woken.get(), 1);
            notify.notify_all();
            core.sleep(std::time::Duration::from_millis(1)).await;
            assert_eq!(woken.get(), 3);
        });
    }

    #[test]
    fn a_dropped_waiter_passes_its_notification_on() {
        super::super::run(|core| async move {
            let notify = Rc::new(Notify::default());
            let mut first = Box::pin(notify.notified());
            assert!(matches!(select(&mut first, yield_now()).await, Either::Right(())));
            let other = notify.clone();
            let done = Rc::new(Event::default());
            let set = done.clone();
            core.spawn(Group::Client, "second", async move {
                other.notified().await;
                set.set();
            });
            core.sleep(std::time::Duration::from_millis(1)).await;
            notify.notify_one();
            drop(first);
            done.wait().await;
        });
    }

    #[test]
    fn an_event_lets_all_through_while_set() {
        super::super::run(|core| async move {
            let event = Rc::new(Event::default());
            let set = event.clone();
            core.spawn(Group::Client, "set", async move { set.set() });
            event.wait().await;
            event.wait().await;
            assert!(event.is_set());
            event.reset();
            assert!(matches!(select(event.wait(), yield_now()).await, Either::Right(())));
        });
    }
}
