//! Mailboxes between cores: bounded, ordered, any number of senders, one receiver. Work in every world.
//!
//! Invariant: messages of one sender arrive in order; a message accepted is received unless the receiver is dropped.
//! Crossing cores costs a lock and maybe a wake-up: nothing on the data path does it.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::sync::{Closed, TrySendError};

struct State<T> {
    items: VecDeque<T>,
    bound: usize,
    senders: usize,
    receiver_gone: bool,
    receiver: Option<Waker>,
    /// Senders that wait for room, in order.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
}

struct Shared<T>(Mutex<State<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts messages in, from any core.
pub struct Sender<T>(Arc<Shared<T>>);

/// Takes messages out, on one core at a time.
pub struct Receiver<T>(Arc<Shared<T>>);

/// A mailbox of at most `bound` messages, at least one.
pub fn mailbox<T: Send>(bound: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared(Mutex::new(State {
        items: VecDeque::new(),
        bound: bound.max(1),
        senders: 1,
        receiver_gone: false,
        receiver: None,
        waiting: BTreeMap::new(),
        next_ticket: 0,
    })));
    (Sender(shared.clone()), Receiver(shared))
}

impl<T: Send> Sender<T> {
    /// Puts a message in if there is room.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.lock();
        if state.receiver_gone {
            return Err(TrySendError::Closed(item));
        }
        if state.items.len() >= state.bound {
            return Err(TrySendError::Full(item));
        }
        state.items.push_back(item);
        let waker = state.receiver.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Waits for room and puts the message in. The message is lost if the future is dropped or the receiver is gone.
    pub async fn send(&self, item: T) -> Result<(), Closed> {
        let mut place = Place { shared: &self.0, ticket: None };
        let mut item = Some(item);
        poll_fn(|cx| {
            let Some(next) = item.take() else { return Poll::Ready(Ok(())) };
            // The place in the line is taken under the same lock that found no room.
            let mut state = self.0.lock();
            if state.receiver_gone {
                return Poll::Ready(Err(Closed));
            }
            if state.items.len() >= state.bound {
                item = Some(next);
                let ticket = *place.ticket.get_or_insert_with(|| {
                    state.next_ticket += 1;
                    state.next_ticket
                });
                state.waiting.insert(ticket, cx.waker().clone());
                return Poll::Pending;
            }
            state.items.push_back(next);
            let waker = state.receiver.take();
            drop(state);
            waker.into_iter().for_each(Waker::wake);
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Whether the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        self.0.lock().receiver_gone
    }
}

struct Place<'a, T> {
    shared: &'a Shared<T>,
    ticket: Option<u64>,
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.shared.lock();
        state.waiting.remove(&ticket);
        // The room that this one was woken for may go to the next.
        let next = if state.items.len() < state.bound { state.waiting.pop_first() } else { None };
        drop(state);
        next.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders -= 1;
        let waker = if state.senders == 0 { state.receiver.take() } else { None };
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T: Send> Receiver<T> {
    /// The next message; none once all senders are gone and nothing is left. Cancel-safe.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if let Some((item, sender)) = state.take() {
                drop(state);
                sender.into_iter().for_each(Waker::wake);
                return Poll::Ready(Some(item));
            }
            if state.senders == 0 {
                return Poll::Ready(None);
            }
            state.receiver = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The next message if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        let (item, sender) = self.0.lock().take()?;
        sender.into_iter().for_each(Waker::wake);
        Some(item)
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<(T, Option<Waker>)> {
        let item = self.items.pop_front()?;
        Some((item, self.waiting.pop_first().map(|(_, waker)| waker)))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receiver_gone = true;
        state.receiver = None;
        let items = std::mem::take(&mut state.items);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(items);
        waiting.into_values().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Group;

    #[test]
    fn bounded_ordered_and_ended() {
        crate::sync::run(|core| async move {
            let (sender, mut receiver) = mailbox(3);
            for producer in 0..3 {
                let sender = sender.clone();
                core.spawn(Group::Client, "produce", async move {
                    for number in 0..20 {
                        assert_eq!(sender.send((producer, number)).await, Ok(()));
                    }
                });
            }
            drop(sender);
            let mut next = [0; 3];
            while let Some((producer, number)) = receiver.recv().await {
                assert_eq!(number, next[producer]);
                next[producer] += 1;
            }
            assert_eq!(next, [20; 3]);
        });
    }

    #[test]
    fn a_gone_receiver_ends_senders() {
        crate::sync::run(|core| async move {
            let (sender, receiver) = mailbox(1);
            assert_eq!(sender.try_send(1), Ok(()));
            assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
            core.spawn(Group::Client, "drop", async move { drop(receiver) });
            assert_eq!(sender.send(2).await, Err(Closed));
            assert!(sender.is_closed());
        });
    }
}
