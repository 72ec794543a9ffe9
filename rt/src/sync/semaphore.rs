//! Permits, weighted, first come first served. Lives on one core.
//!
//! Invariant: permits free plus permits held (or granted to a waiter) is the total. A big request at the head of the
//! line is not overtaken by small ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::waiters::{Ticket, Waiters};

/// A pool of permits, shared by clones.
#[derive(Clone)]
pub struct Semaphore {
    state: Rc<RefCell<State>>,
    total: u64,
}

struct State {
    free: u64,
    waiters: Waiters<u64>,
    /// Waiters that were given permits and have not noticed yet.
    granted: BTreeMap<Ticket, u64>,
}

/// Permits held; dropping gives them back.
#[must_use = "dropping a permit gives it back"]
pub struct Permit {
    semaphore: Semaphore,
    amount: u64,
}

impl Semaphore {
    /// A pool of `total` permits.
    pub fn new(total: u64) -> Self {
        let state = State { free: total, waiters: Waiters::default(), granted: BTreeMap::new() };
        Self { state: Rc::new(RefCell::new(state)), total }
    }

    /// Waits for `amount` permits. One that asks for more than the pool has gets the whole pool.
    pub fn acquire(&self, amount: u64) -> impl Future<Output = Permit> + use<> {
        Acquire { semaphore: self.clone(), amount: amount.min(self.total), ticket: None }
    }

    /// `amount` permits if they are free and nobody waits.
    pub fn try_acquire(&self, amount: u64) -> Option<Permit> {
        let amount = amount.min(self.total);
        let mut state = self.state.borrow_mut();
        if !state.waiters.is_empty() || state.free < amount {
            return None;
        }
        state.free -= amount;
        Some(Permit { semaphore: self.clone(), amount })
    }

    /// Permits nobody holds.
    pub fn free(&self) -> u64 {
        self.state.borrow().free
    }

    /// Size of the pool.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Tasks in the line.
    pub fn waiting(&self) -> usize {
        self.state.borrow().waiters.len()
    }

    fn give_back(&self, amount: u64) {
        let mut state = self.state.borrow_mut();
        state.free += amount;
        assert!(state.free <= self.total, "more permits came back than there are");
        state.grant();
    }
}

impl State {
    fn grant(&mut self) {
        while let Some(&amount) = self.waiters.first() {
            if amount > self.free {
                break;
            }
            if let Some(ticket) = self.waiters.wake_first() {
                self.free -= amount;
                self.granted.insert(ticket, amount);
            }
        }
    }
}

impl Permit {
    /// How many permits this is.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Takes part of it off, at most all, as a permit of its own.
    pub fn split(&mut self, amount: u64) -> Permit {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        Permit { semaphore: self.semaphore.clone(), amount }
    }

    /// Joins another permit of the same pool to this one.
    pub fn merge(&mut self, mut other: Permit) {
        assert!(Rc::ptr_eq(&self.semaphore.state, &other.semaphore.state), "permits of different pools");
        self.amount += std::mem::take(&mut other.amount);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.semaphore.give_back(self.amount);
        }
    }
}

struct Acquire {
    semaphore: Semaphore,
    amount: u64,
    ticket: Option<Ticket>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        let semaphore = self.semaphore.clone();
        if let Some(ticket) = self.ticket {
            let mut state = semaphore.state.borrow_mut();
            if let Some(amount) = state.granted.remove(&ticket) {
                self.ticket = None;
                drop(state);
                return Poll::Ready(Permit { semaphore, amount });
            }
        } else if let Some(permit) = semaphore.try_acquire(self.amount) {
            return Poll::Ready(permit);
        }
        let amount = self.amount;
        semaphore.state.borrow_mut().waiters.wait(&mut self.ticket, cx.waker(), amount);
        Poll::Pending
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.semaphore.state.borrow_mut();
        if let Some(amount) = state.granted.remove(&ticket) {
            state.free += amount;
        } else {
            state.waiters.leave(ticket);
        }
        state.grant();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::Group;
    use crate::sync::{Either, select, yield_now};

    #[test]
    fn first_come_first_served_whatever_the_size() {
        super::super::run(|core| async move {
            let pool = Semaphore::new(10);
            let all = pool.acquire(10).await;
            let order = Rc::new(RefCell::new(Vec::new()));
            for amount in [8, 1, 9, 5] {
                let (pool, order, sleeper) = (pool.clone(), order.clone(), core.clone());
                core.spawn(Group::Client, "wait", async move {
                    let permit = pool.acquire(amount).await;
                    order.borrow_mut().push(permit.amount());
                    sleeper.sleep(Duration::from_millis(5)).await;
                });
                // So that the line has this order.
                core.sleep(Duration::from_millis(1)).await;
            }
            assert_eq!((pool.waiting(), pool.free()), (4, 0));
            assert!(pool.try_acquire(0).is_none(), "nobody overtakes");
            drop(all);
            core.sleep(Duration::from_millis(2)).await;
            assert_eq!((pool.free(), pool.waiting()), (1, 2), "8 and 1 run, 9 has to wait");
            core.sleep(Duration::from_millis(30)).await;
            assert_eq!(order.borrow()[2..], [9, 5]);
            assert_eq!((pool.free(), pool.waiting()), (10, 0));
        });
    }

    #[test]
    fn dropped_waiters_give_back_and_let_others_through() {
        super::super::run(|_| async move {
            let pool = Semaphore::new(4);
            let mut held = pool.acquire(4).await;
            let mut big = Box::pin(pool.acquire(4));
            let mut small = Box::pin(pool.acquire(1));
            assert!(matches!(select(&mut big, yield_now()).await, Either::Right(())));
            assert!(matches!(select(&mut small, yield_now()).await, Either::Right(())));
            drop(held.split(1));
            assert!(matches!(select(&mut small, yield_now()).await, Either::Right(())));
            drop(big);
            assert_eq!(small.await.amount(), 1);
            let granted = pool.acquire(2);
            let mut granted = Box::pin(granted);
            assert!(matches!(select(&mut granted, yield_now()).await, Either::Right(())));
            drop(held);
            assert_eq!(pool.free(), 2);
            drop(granted);
            assert_eq!(pool.free(), 4);
            assert_eq!(pool.acquire(99).await.amount(), 4, "more than all is all");
        });
    }
}
