//! Where BlueFS asks for space and its lender answers: [`SpaceDesk`] and [`SpaceRequests`].
//!
//! BlueFS's side may be a foreign thread or a task, the lender's is a task of a core. Asking never blocks, and
//! answering needs no foreign thread: were it otherwise, threads that all wait for space would wait for ever. The
//! lock is held for a few instructions on either side.
//!
//! A question is answered once, by a grant or a denial; there is one question at a time. The answer is picked up by
//! whoever needs space next, and granted space is logged with the next commit.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use allocator::Extent;

/// What BlueFS would like to be lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceWish {
    /// Bytes.
    pub bytes: u64,
    /// In multiples of this, bytes, and aligned to it.
    pub unit: u64,
    /// Where there are none such, up to so many bytes in smaller pieces, multiples of 4096 or the device's block.
    pub small_bytes: u64,
}

/// The lender's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Grant(Vec<Extent>),
    Deny,
}

#[derive(Default)]
struct State {
    wanted: Option<SpaceWish>,
    answers: VecDeque<Answer>,
    /// Answers ever given.
    answered: u64,
    lender: Option<Waker>,
    /// The lender has begun to look at questions. Before that, waiting for an answer may be waiting for oneself.
    serving: bool,
    borrowers: Vec<Waker>,
    /// Nobody lends, or nobody borrows, any more.
    lender_gone: bool,
    borrower_gone: bool,
}

#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    answered: Condvar,
}

/// The borrower's end, given to a mount.
pub struct SpaceDesk(Arc<Desk>);

/// The lender's end.
pub struct SpaceRequests(Arc<Desk>);

/// A desk's two ends.
pub fn space_desk() -> (SpaceDesk, SpaceRequests) {
    let desk = Arc::<Desk>::default();
    (SpaceDesk(Arc::clone(&desk)), SpaceRequests(desk))
}

impl State {
    fn is_over(&self, seen: u64) -> bool {
        self.answered > seen || self.lender_gone || self.borrower_gone
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, answer: Answer) {
        let waiting = {
            let mut state = self.lock();
            state.answers.push_back(answer);
            state.answered += 1;
            std::mem::take(&mut state.borrowers)
        };
        self.answered.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl SpaceRequests {
    /// Waits until BlueFS wants to be lent space. `None` once it is gone.
    pub async fn next(&self) -> Option<SpaceWish> {
        poll_fn(|context| {
            let mut state = self.0.lock();
            state.serving = true;
            if let Some(wish) = state.wanted.take() {
                return Poll::Ready(Some(wish));
            }
            if state.borrower_gone {
                return Poll::Ready(None);
            }
            state.lender = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Lends: the extents are BlueFS's from now on, until it gives them back or a later mount does not have them.
    /// They are as the wish says, inside the device, and overlap nothing that it has.
    pub fn grant(&self, extents: Vec<Extent>) {
        self.0.answer(Answer::Grant(extents));
    }

    /// There is nothing to lend now. Asked again when it gets tighter.
    pub fn deny(&self) {
        self.0.answer(Answer::Deny);
    }
}

impl Drop for SpaceRequests {
    fn drop(&mut self) {
        self.0.lock().lender_gone = true;
        // Whoever waits gets this answer; later questions are denied as they are asked.
        self.0.answer(Answer::Deny);
    }
}

impl SpaceDesk {
    pub(crate) fn ask(&self, wish: SpaceWish) {
        let lender = {
            let mut state = self.0.lock();
            if state.lender_gone {
                state.answers.push_back(Answer::Deny);
                state.answered += 1;
                return;
            }
            state.wanted = Some(wish);
            state.lender.take()
        };
        lender.into_iter().for_each(Waker::wake);
    }

    /// Takes an answer that is there. Called with the machine locked, so that an answer taken is an answer applied
    /// for whoever locks it next.
    pub(crate) fn take(&self) -> Option<Answer> {
        self.0.lock().answers.pop_front()
    }

    /// How many answers were given so far.
    pub(crate) fn answered(&self) -> u64 {
        self.0.lock().answered
    }

    /// Blocks until more than `seen` answers were given, or a side is gone.
    pub(crate) fn wait_blocking(&self, seen: u64) {
        let mut state = self.0.lock();
        while !state.is_over(seen) {
            state = self.0.answered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`SpaceDesk::wait_blocking`], in a task.
    pub(crate) async fn wait(&self, seen: u64) {
        poll_fn(|context| {
            let mut state = self.0.lock();
            if state.is_over(seen) {
                return Poll::Ready(());
            }
            state.borrowers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Whether questions are being answered.
    pub(crate) fn is_serving(&self) -> bool {
        self.0.lock().serving
    }

    /// Whether somebody lends, or is going to.
    pub(crate) fn has_lender(&self) -> bool {
        !self.0.lock().lender_gone
    }

    /// One of the sides is gone, and no answer is left.
    pub(crate) fn is_deserted(&self) -> bool {
        let state = self.0.lock();
        state.answers.is_empty() && (state.lender_gone || state.borrower_gone)
    }

    /// Ends the borrowing: whoever waits goes on, the lender's [`SpaceRequests::next`] ends.
    pub(crate) fn close(&self) {
        let woken = {
            let mut state = self.0.lock();
            state.borrower_gone = true;
            let lender = state.lender.take();
            std::mem::take(&mut state.borrowers).into_iter().chain(lender).collect::<Vec<_>>()
        };
        self.0.answered.notify_all();
        woken.into_iter().for_each(Waker::wake);
    }
}

impl Drop for SpaceDesk {
    fn drop(&mut self) {
        self.close();
    }
}
