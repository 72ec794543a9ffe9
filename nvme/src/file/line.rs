//! [`Line`]: tasks of whatever cores that wait for their turn, one after the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// See the module.
#[derive(Default)]
pub(super) struct Line(Mutex<State>);

#[derive(Default)]
struct State {
    /// It is somebody's turn.
    taken: bool,
    /// Who comes next, by number: whose future was dropped is passed over.
    waiting: VecDeque<(u64, Waker)>,
    numbers: u64,
}

/// A turn; it ends when this is dropped.
#[must_use = "a turn that is dropped is over"]
pub struct Turn<'a>(&'a Line);

impl Line {
    /// Waits for a turn.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let mut place = Place { line: self, number: None };
        poll_fn(|context| place.poll(context)).await;
        Turn(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits.
struct Place<'a> {
    line: &'a Line,
    number: Option<u64>,
}

impl Place<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.line.lock();
        let is_first = state.waiting.front().is_none_or(|(first, _)| Some(*first) == self.number);
        if !state.taken && is_first {
            state.taken = true;
            state.waiting.pop_front();
            self.number = None;
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.numbers += 1;
            state.numbers
        });
        match state.waiting.iter_mut().find(|(waiting, _)| *waiting == number) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => state.waiting.push_back((number, context.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Place<'_> {
    /// Who no longer waits must not keep the others waiting.
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let next = {
            let mut state = self.line.lock();
            state.waiting.retain(|(waiting, _)| *waiting != number);
            state.waiting.front().filter(|_| !state.taken).map(|(_, waker)| waker.clone())
        };
        next.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.0.lock();
            state.taken = false;
            state.waiting.front().map(|(_, waker)| waker.clone())
        };
        next.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::Wake;
    use std::thread::{self, Thread};

    use super::*;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn wait_for<F: Future>(future: F) -> F::Output {
        let (mut future, waker) = (pin!(future), Waker::from(Arc::new(Unpark(thread::current()))));
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return value;
            }
            thread::park();
        }
    }

    fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Option<F::Output> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn turns_come_in_the_order_of_asking_and_who_goes_away_is_passed_over() {
        let line = Line::default();
        let mut waiting: Vec<_> = (0..4).map(|_| Box::pin(line.turn())).collect();
        let mut turns: Vec<_> = waiting.iter_mut().map(poll).collect();
        assert_eq!(turns.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, false]);
        // The second goes away while it waits, the third just as it is its turn.
        drop(waiting.remove(1));
        turns.clear();
        assert!(poll(&mut waiting[2]).is_none(), "it is not the first");
        drop(waiting.remove(1));
        let turn = poll(&mut waiting[1]).expect("it is its turn");
        let mut late = Box::pin(line.turn());
        assert!(poll(&mut late).is_none());
        drop(turn);
        assert!(poll(&mut late).is_some());
    }

    #[test]
    fn threads_have_it_one_at_a_time() {
        let line = Line::default();
        let (inside, total) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let turn = wait_for(line.turn());
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        total.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4000);
    }
}
