//! Tests of the executor on its own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use super::*;
use crate::sync::yield_now;

fn executor() -> Executor {
    Executor::new(Remote::new(None))
}

fn run(executor: &Executor) {
    while let Some(polled) = executor.poll_one(|shares, lengths| (shares.next(lengths), 0)) {
        executor.charge(polled.group, 1);
    }
}

#[test]
fn tasks_run_in_order_and_finish() {
    let executor = executor();
    let log = Rc::new(RefCell::new(Vec::new()));
    for number in 0..3 {
        let log = log.clone();
        executor.spawn(
            Group::Client,
            "t",
            Box::pin(async move {
                log.borrow_mut().push(number);
                yield_now().await;
                log.borrow_mut().push(number + 10);
            }),
        );
    }
    assert_eq!(executor.live(), 3);
    run(&executor);
    assert_eq!(*log.borrow(), [0, 1, 2, 10, 11, 12]);
    assert_eq!(executor.live(), 0);
}

#[test]
fn shares_hold_between_busy_groups() {
    let executor = executor();
    let counts = Rc::new(RefCell::new([0_u32; 3]));
    for group in [Group::Client, Group::Commit, Group::Background] {
        let counts = counts.clone();
        executor.spawn(
            group,
            "busy",
            Box::pin(async move {
                loop {
                    counts.borrow_mut()[group as usize] += 1;
                    yield_now().await;
                }
            }),
        );
    }
    for _ in 0..900 {
        let polled = executor.poll_one(|shares, lengths| (shares.next(lengths), 0));
        executor.charge(polled.map_or(Group::Client, |polled| polled.group), 1);
    }
    assert_eq!(*counts.borrow(), [400, 400, 100]);
}

#[test]
fn cancel_drops_the_future_also_from_within() {
    struct OnDrop(Rc<Cell<u32>>);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let executor = executor();
    let drops = Rc::new(Cell::new(0));
    let guard = OnDrop(drops.clone());
    let waiting = executor.spawn(
        Group::Client,
        "waiting",
        Box::pin(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        }),
    );
    run(&executor);
    assert_eq!((drops.get(), executor.live()), (0, 1));
    waiting.cancel();
    assert_eq!((drops.get(), executor.live()), (1, 0));

    let own = Rc::new(Cell::new(None::<Task>));
    let guard = OnDrop(drops.clone());
    let handle = own.clone();
    own.set(Some(executor.spawn(
        Group::Client,
        "own",
        Box::pin(async move {
            let _guard = guard;
            if let Some(task) = handle.take() {
                task.cancel();
            }
            yield_now().await;
            unreachable!("cancelled before");
        }),
    )));
    run(&executor);
    assert_eq!((drops.get(), executor.live()), (2, 0));
}

#[test]
fn stale_wakers_wake_nobody() {
    let executor = executor();
    let waker = Rc::new(RefCell::new(None::<Waker>));
    let keep = waker.clone();
    let first = executor.spawn(
        Group::Client,
        "first",
        Box::pin(std::future::poll_fn(move |cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            std::task::Poll::Pending
        })),
    );
    run(&executor);
    first.cancel();
    let polls = Rc::new(Cell::new(0));
    let count = polls.clone();
    executor.spawn(
        Group::Client,
        "second",
        Box::pin(std::future::poll_fn(move |_| {
            count.set(count.get() + 1);
            std::task::Poll::Pending
        })),
    );
    run(&executor);
    let waker = waker.borrow().clone();
    assert!(waker.is_some());
    waker.iter().for_each(Waker::wake_by_ref);
    run(&executor);
    assert_eq!(polls.get(), 1);
    drop(executor);
    waker.iter().for_each(Waker::wake_by_ref);
}

#[test]
fn kill_drops_everything_and_refuses_more() {
    let executor = executor();
    let alive = Rc::new(());
    for _ in 0..3 {
        let alive = alive.clone();
        executor.spawn(
            Group::Commit,
            "t",
            Box::pin(async move {
                let _alive = alive;
                std::future::pending::<()>().await;
            }),
        );
    }
    executor.kill();
    assert_eq!((Rc::strong_count(&alive), executor.live()), (1, 0));
    let late = alive.clone();
    executor.spawn(
        Group::Commit,
        "late",
        Box::pin(async move {
            let _late = late;
        }),
    );
    assert_eq!(Rc::strong_count(&alive), 1);
    assert!(!executor.has_ready());
}
