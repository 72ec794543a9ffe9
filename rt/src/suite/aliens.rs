//! Work on foreign threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::core::{Core, Group, Lane};
use crate::sync::{Either, oneshot, select, yield_now};

const LANES: [Lane; 4] = [Lane::Checkpoint, Lane::Space, Lane::Read, Lane::Compaction];

pub(super) async fn work_gives_its_result(core: Core) {
    assert_eq!(core.alien(Lane::Read, || 6 * 7).await, 42);
    assert_eq!(core.alien(Lane::Read, || "text".to_owned()).await, "text");
}

pub(super) async fn work_overlaps_with_tasks(core: Core) {
    let mut receivers = Vec::new();
    for number in 0..200_u64 {
        let (sender, receiver) = oneshot();
        let own = core.clone();
        core.spawn(Group::Commit, "submitter", async move {
            let lane = LANES[(number % 4) as usize];
            let value = own.alien(lane, move || number * number).await;
            sender.send(value).unwrap();
        });
        receivers.push(receiver);
    }
    for (number, receiver) in receivers.into_iter().enumerate() {
        assert_eq!(receiver.await, Ok((number * number) as u64));
    }
}

pub(super) async fn dropped_work_still_runs(core: Core) {
    let count = Arc::new(AtomicU32::new(0));
    let add = |count: &Arc<AtomicU32>| {
        let count = count.clone();
        move || count.fetch_add(1, Ordering::SeqCst)
    };
    // Never polled, and polled once.
    drop(core.alien(Lane::Space, add(&count)));
    let polled = core.alien(Lane::Space, add(&count));
    let _ = matches!(select(polled, yield_now()).await, Either::Left(_));
    for _ in 0..1000 {
        if count.load(Ordering::SeqCst) == 2 {
            return;
        }
        core.sleep(Duration::from_millis(2)).await;
    }
    panic!("of two works whose futures were dropped {} ran", count.load(Ordering::SeqCst));
}

pub(super) async fn every_lane_works(core: Core) {
    for lane in LANES {
        assert_eq!(core.alien(lane, move || lane).await, lane);
    }
}
