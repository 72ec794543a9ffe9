//! A bounded queue between tasks. Lives on one core.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::Closed;
use super::waiters::{Ticket, Waiters};

/// Why [`QueueSender::try_send`] gave the item back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// At its bound.
    Full(T),
    /// Nobody receives any more.
    Closed(T),
}

struct State<T> {
    items: VecDeque<T>,
    bound: usize,
    senders: usize,
    receiver_gone: bool,
    receiver: Option<Waker>,
    waiting: Waiters,
}

/// Puts items in. Clones share the queue.
pub struct QueueSender<T>(Rc<RefCell<State<T>>>);

/// Takes items out.
pub struct QueueReceiver<T>(Rc<RefCell<State<T>>>);

/// A queue of at most `bound` items, at least one.
pub fn queue<T>(bound: usize) -> (QueueSender<T>, QueueReceiver<T>) {
    let state = Rc::new(RefCell::new(State {
        items: VecDeque::new(),
        bound: bound.max(1),
        senders: 1,
        receiver_gone: false,
        receiver: None,
        waiting: Waiters::default(),
    }));
    (QueueSender(state.clone()), QueueReceiver(state))
}

impl<T> QueueSender<T> {
    /// Puts an item in if there is room.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.borrow_mut();
        if state.receiver_gone {
            return Err(TrySendError::Closed(item));
        }
        if state.items.len() >= state.bound {
            return Err(TrySendError::Full(item));
        }
        state.items.push_back(item);
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Waits for room and puts the item in. The item is lost if the future is dropped or the receiver is gone.
    pub async fn send(&self, item: T) -> Result<(), Closed> {
        let mut place = Place { state: &self.0, ticket: None };
        let mut item = Some(item);
        poll_fn(|cx| {
            let Some(next) = item.take() else { return Poll::Ready(Ok(())) };
            match self.try_send(next) {
                Ok(()) => Poll::Ready(Ok(())),
                Err(TrySendError::Closed(_)) => Poll::Ready(Err(Closed)),
                Err(TrySendError::Full(back)) => {
                    item = Some(back);
                    self.0.borrow_mut().waiting.wait(&mut place.ticket, cx.waker(), ());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Whether the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().receiver_gone
    }

    /// Items in the queue.
    pub fn len(&self) -> usize {
        self.0.borrow().items.len()
    }

    /// Whether no item is in the queue.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().items.is_empty()
    }
}

/// A sender's place in the line for room. Leaving it wakes the next: the room may be meant for this one.
struct Place<'a, T> {
    state: &'a Rc<RefCell<State<T>>>,
    ticket: Option<Ticket>,
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.state.borrow_mut();
        state.waiting.leave(ticket);
        if state.items.len() < state.bound {
            state.waiting.wake_first();
        }
    }
}

impl<T> Clone for QueueSender<T> {
    fn clone(&self) -> Self {
        self.0.borrow_mut().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for QueueSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.senders -= 1;
        if state.senders == 0
            && let Some(waker) = state.receiver.take()
        {
            waker.wake();
        }
    }
}

impl<T> QueueReceiver<T> {
    /// The next item; none once all senders are gone and nothing is left.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            if let Some(item) = state.take() {
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

    /// The next item if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.borrow_mut().take()
    }

    /// Items in the queue.
    pub fn len(&self) -> usize {
        self.0.borrow().items.len()
    }

    /// Whether no item is in the queue.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().items.is_empty()
    }
}

impl<T> State<T> {
    fn take(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.waiting.wake_first();
        Some(item)
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        let items = {
            let mut state = self.0.borrow_mut();
            state.receiver_gone = true;
            state.receiver = None;
            state.waiting.wake_all();
            std::mem::take(&mut state.items)
        };
        drop(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Group;

    #[test]
    fn order_bound_and_end() {
        super::super::run(|core| async move {
            let (sender, mut receiver) = queue(4);
            for producer in 0..3 {
                let sender = sender.clone();
                core.spawn(Group::Client, "produce", async move {
                    for number in 0..50 {
                        assert_eq!(sender.send((producer, number)).await, Ok(()));
                        assert!(sender.len() <= 4);
                    }
                });
            }
            drop(sender);
            let mut next = [0; 3];
            while let Some((producer, number)) = receiver.recv().await {
                assert_eq!(number, next[producer]);
                next[producer] += 1;
            }
            assert_eq!(next, [50; 3]);
        });
    }

    #[test]
    fn a_gone_receiver_ends_senders() {
        super::super::run(|core| async move {
            let (sender, receiver) = queue(1);
            assert_eq!(sender.try_send(1), Ok(()));
            assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
            core.spawn(Group::Client, "drop", async move { drop(receiver) });
            assert_eq!(sender.send(2).await, Err(Closed));
            assert_eq!(sender.try_send(3), Err(TrySendError::Closed(3)));
        });
    }
}
