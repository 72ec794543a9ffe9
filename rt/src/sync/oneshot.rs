//! One value from one task to another. Lives on one core.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::Closed;

struct State<T> {
    value: Option<T>,
    receiver: Option<Waker>,
    sender_gone: bool,
    receiver_gone: bool,
}

/// Gives the value.
pub struct OneSender<T>(Rc<RefCell<State<T>>>);

/// Waits for the value: `receiver.await`. May be polled again after it was dropped from a `select` by reference.
pub struct OneReceiver<T>(Rc<RefCell<State<T>>>);

/// A pair for one value.
pub fn oneshot<T>() -> (OneSender<T>, OneReceiver<T>) {
    let state = Rc::new(RefCell::new(State {
        value: None,
        receiver: None,
        sender_gone: false,
        receiver_gone: false,
    }));
    (OneSender(state.clone()), OneReceiver(state))
}

impl<T> OneSender<T> {
    /// Gives the value, or gets it back if nobody waits any more.
    pub fn send(self, value: T) -> Result<(), T> {
        let mut state = self.0.borrow_mut();
        if state.receiver_gone {
            return Err(value);
        }
        state.value = Some(value);
        Ok(())
    }

    /// Whether the receiver was dropped.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().receiver_gone
    }
}

impl<T> Drop for OneSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.borrow_mut();
        state.sender_gone = true;
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
    }
}

impl<T> OneReceiver<T> {
    /// The value if it is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.0.borrow_mut().value.take()
    }
}

impl<T> Future for OneReceiver<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.borrow_mut();
        if let Some(value) = state.value.take() {
            return Poll::Ready(Ok(value));
        }
        if state.sender_gone {
            return Poll::Ready(Err(Closed));
        }
        state.receiver = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for OneReceiver<T> {
    fn drop(&mut self) {
        let value = {
            let mut state = self.0.borrow_mut();
            state.receiver_gone = true;
            state.receiver = None;
            state.value.take()
        };
        drop(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Group;

    #[test]
    fn gives_one_value_or_tells_that_none_will_come() {
        super::super::run(|core| async move {
            let (sender, receiver) = oneshot();
            core.spawn(Group::Client, "send", async move { assert_eq!(sender.send(7), Ok(())) });
            assert_eq!(receiver.await, Ok(7));

            let (sender, receiver) = oneshot::<u32>();
            core.spawn(Group::Client, "drop", async move { drop(sender) });
            assert_eq!(receiver.await, Err(Closed));

            let (sender, receiver) = oneshot();
            drop(receiver);
            assert!(sender.is_closed());
            assert_eq!(sender.send(7), Err(7));
        });
    }
}
