//! Tasks, timers, clocks, randomness, mailboxes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::pending;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use crate::core::{Core, Group};
use crate::mailbox::mailbox;
use crate::sync::{Event, oneshot, timeout};

const GROUPS: [Group; 3] = [Group::Client, Group::Commit, Group::Background];

pub(super) async fn spawned_tasks_run(core: Core) {
    for group in GROUPS {
        let (sender, receiver) = oneshot();
        // Dropping the handle lets the task run on.
        drop(core.spawn(group, "spawned", async move { sender.send(group).unwrap() }));
        assert_eq!(receiver.await, Ok(group));
    }
}

struct OnDrop(Rc<Cell<u32>>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

pub(super) async fn cancel_drops_the_future(core: Core) {
    let drops = Rc::new(Cell::new(0));
    let started = Rc::new(Event::default());
    let (guard, set) = (OnDrop(drops.clone()), started.clone());
    let task = core.spawn(Group::Client, "cancelled", async move {
        let _guard = guard;
        set.set();
        pending::<()>().await;
    });
    started.wait().await;
    assert_eq!(drops.get(), 0);
    task.cancel();
    core.sleep(Duration::from_millis(5)).await;
    assert_eq!(drops.get(), 1);

    // Before the first poll.
    let guard = OnDrop(drops.clone());
    let task = core.spawn(Group::Client, "never polled", async move {
        let _guard = guard;
        unreachable!("cancelled before it ran");
    });
    task.cancel();
    core.sleep(Duration::from_millis(5)).await;
    assert_eq!(drops.get(), 2);

    // After the end.
    let (sender, receiver) = oneshot();
    let task = core.spawn(Group::Client, "done", async move { sender.send(()).unwrap() });
    receiver.await.unwrap();
    core.sleep(Duration::from_millis(5)).await;
    task.cancel();
}

pub(super) async fn a_task_may_cancel_itself_and_others(core: Core) {
    let drops = Rc::new(Cell::new(0));
    let guard = OnDrop(drops.clone());
    let other = core.spawn(Group::Background, "other", async move {
        let _guard = guard;
        pending::<()>().await;
    });
    let own = Rc::new(Cell::new(None));
    let (handle, guard, sleeper) = (own.clone(), OnDrop(drops.clone()), core.clone());
    own.set(Some(core.spawn(Group::Client, "own", async move {
        let _guard = guard;
        sleeper.yield_now().await;
        other.cancel();
        let task: Option<crate::core::Task> = handle.take();
        task.expect("set before the first poll").cancel();
        sleeper.yield_now().await;
        unreachable!("cancelled itself");
    })));
    core.sleep(Duration::from_millis(20)).await;
    assert_eq!(drops.get(), 2);
}

pub(super) async fn yielding_lets_others_run(core: Core) {
    let turns = Rc::new(Cell::new(0));
    let count = turns.clone();
    let other = core.clone();
    core.spawn(Group::Client, "other", async move {
        for _ in 0..100 {
            count.set(count.get() + 1);
            other.yield_now().await;
        }
    });
    let mut yields = 0;
    while turns.get() < 100 {
        core.yield_now().await;
        yields += 1;
        assert!(yields < 100_000, "the other task got {} turns", turns.get());
    }
}

/// Some microseconds of work that no clock is needed for.
fn work() {
    let mut x = 1_u64;
    for _ in 0..10_000 {
        x = black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

/// What a group used, in nanoseconds. A turn counts for at least one microsecond, which is what it takes where time
/// stands still during a poll.
#[derive(Clone, Copy, Default)]
struct Used {
    turns: u32,
    total: u64,
}

pub(super) async fn groups_share_the_core(core: Core) {
    const TURNS: u32 = 2000;
    let used = Rc::new([Cell::new(Used::default()), Cell::new(Used::default())]);
    let (longest, done) = (Rc::new(Cell::new(0)), Rc::new(Event::default()));
    let mut tasks = Vec::new();
    for (index, group) in [Group::Client, Group::Background].into_iter().enumerate() {
        let (used, longest, done, own) = (used.clone(), longest.clone(), done.clone(), core.clone());
        tasks.push(core.spawn(group, "busy", async move {
            loop {
                let start = own.now();
                work();
                let turn = (own.now().0 - start.0).max(1000);
                longest.set(turn.max(longest.get()));
                let Used { turns, total } = used[index].get();
                used[index].set(Used { turns: turns + 1, total: total + turn });
                if index == 0 && turns == TURNS {
                    done.set();
                }
                own.yield_now().await;
            }
        }));
    }
    done.wait().await;
    tasks.into_iter().for_each(crate::core::Task::cancel);
    let [client, background] = [used[0].get(), used[1].get()];
    assert!(background.turns > 0, "a group starved");
    // On a busy machine a turn can take long; the group that had it is made to wait only afterwards.
    assert!(
        background.total < client.total + longest.get(),
        "client used {} us, background {} us",
        client.total / 1000,
        background.total / 1000
    );
}

pub(super) async fn timers_fire_in_order_and_never_early(core: Core) {
    let order = Rc::new(RefCell::new(Vec::new()));
    let start = core.now();
    for number in [7_u64, 2, 5, 1, 3, 6, 4] {
        let (order, sleeper) = (order.clone(), core.clone());
        let deadline = crate::core::Nanos(start.0 + number * 5_000_000);
        core.spawn(Group::Client, "sleeper", async move {
            sleeper.sleep_until(deadline).await;
            assert!(sleeper.now() >= deadline, "woken early");
            order.borrow_mut().push(number);
        });
    }
    core.sleep(Duration::from_millis(60)).await;
    assert_eq!(*order.borrow(), [1, 2, 3, 4, 5, 6, 7]);
    core.sleep_until(start).await;
    core.sleep(Duration::ZERO).await;
}

pub(super) async fn dropped_timers_are_forgotten(core: Core) {
    for _ in 0..1000 {
        assert!(timeout(&core, Duration::from_secs(3600), async {}).await.is_ok());
    }
    let start = core.now();
    assert!(timeout(&core, Duration::from_millis(2), core.sleep(Duration::from_secs(3600))).await.is_err());
    assert!(core.now().0 - start.0 < 3_600_000_000_000);
}

pub(super) async fn many_timers(core: Core) {
    let left = Rc::new(Cell::new(2000));
    let done = Rc::new(Event::default());
    for number in 0..2000_u64 {
        let (left, done, sleeper) = (left.clone(), done.clone(), core.clone());
        core.spawn(Group::Client, "sleeper", async move {
            sleeper.sleep(Duration::from_micros(number * 7919 % 10_000)).await;
            left.set(left.get() - 1);
            if left.get() == 0 {
                done.set();
            }
        });
    }
    done.wait().await;
}

pub(super) async fn time_limits_hold(core: Core) {
    let limit = Duration::from_millis(5);
    let start = core.now();
    assert!(timeout(&core, limit, pending::<()>()).await.is_err());
    assert!(core.now().0 >= start.0 + 5_000_000);
    assert_eq!(timeout(&core, Duration::from_secs(3600), async { 5 }).await, Ok(5));
}

pub(super) async fn clocks_go_on(core: Core) {
    let (start, wall) = (core.now(), core.wall_clock());
    // After September 2020 and before 2200, wherever this runs.
    assert!((1_600_000_000_000_000_000..7_258_118_400_000_000_000).contains(&wall.0));
    core.sleep(Duration::from_millis(3)).await;
    assert!(core.now().0 >= start.0 + 3_000_000);
}

pub(super) async fn random_bits_differ(core: Core) {
    let drawn: BTreeSet<u64> = (0..1000).map(|_| core.random_u64()).collect();
    assert_eq!(drawn.len(), 1000);
    // Each bit of a thousand draws is about half of the time set.
    for bit in 0..64 {
        let set = drawn.iter().filter(|value| **value >> bit & 1 == 1).count();
        assert!((350..650).contains(&set), "bit {bit} is set {set} times");
    }
}

pub(super) async fn many_tasks(core: Core) {
    const TASKS: u32 = 10_000;
    let (count, done) = (Rc::new(Cell::new(0)), Rc::new(Event::default()));
    for _ in 0..TASKS {
        let (count, done, yielder) = (count.clone(), done.clone(), core.clone());
        core.spawn(Group::Commit, "one of many", async move {
            yielder.yield_now().await;
            count.set(count.get() + 1);
            if count.get() == TASKS {
                done.set();
            }
        });
    }
    done.wait().await;
}

pub(super) async fn mailboxes_deliver_in_order(core: Core) {
    let (sender, mut receiver) = mailbox(3);
    for producer in 0..3_usize {
        let sender = sender.clone();
        core.spawn(Group::Client, "producer", async move {
            for number in 0..100 {
                sender.send((producer, number)).await.unwrap();
            }
        });
    }
    drop(sender);
    let mut next = [0; 3];
    while let Some((producer, number)) = receiver.recv().await {
        assert_eq!(number, next[producer]);
        next[producer] += 1;
    }
    assert_eq!(next, [100; 3]);
}
