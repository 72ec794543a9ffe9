//! Making the cluster's stores, as `spirula mkfs` does: the OSDs' first, then the monitor's. Crashes strike here too: a
//! store that was not finished is nobody's, and is made anew.

use std::time::Duration;

use bytes::Bytes;
use rt::sim::{RandomStream, Sim};
use store::{CollectionId, ObjectId, ObjectStore, Op, Transaction};

use crate::check_store;
use crate::client_life::Shared;
use crate::cluster::{Cluster, MON_HOST, Outcome};
use crate::node_store;
use crate::scenario::Scenario;

/// Virtual time within which a store is made.
const LIMIT: Duration = Duration::from_secs(60);
/// Most crashes while one store is made.
const CRASHES_MAX: u32 = 3;
/// A crash comes after at most so many steps.
const STEPS_MAX: u64 = 400;

/// Makes every store.
pub fn make(sim: &Sim, cluster: &Cluster, scenario: &Scenario, shared: &Shared, dice: &mut RandomStream) {
    for osd in 0..cluster.nodes.len() {
        if scenario.disks_used_before {
            use_before(sim, cluster, osd, shared);
        }
        let start = |done: Outcome| cluster.make_osd(sim, osd, done);
        let crash = |power| {
            cluster.crash_osd(sim, osd, power);
            if let Err(problem) = check_store::check_unmade(&cluster.nodes[osd]) {
                shared.fail(format!("osd.{osd} after a crash while it was made: {problem}"));
            }
        };
        make_one(sim, shared, dice, start, crash);
    }
    let start = |done: Outcome| cluster.make_mon(sim, done);
    make_one(sim, shared, dice, start, |_| cluster.crash_mon(sim));
    // Those who made it end here; the daemons are new processes.
    sim.kill(MON_HOST);
    cluster.mon_disk.end_process();
    for osd in 0..cluster.nodes.len() {
        cluster.crash_osd(sim, osd, false);
    }
}

fn make_one(
    sim: &Sim,
    shared: &Shared,
    dice: &mut RandomStream,
    start: impl Fn(Outcome),
    crash: impl Fn(bool),
) {
    let mut crashes = 0;
    loop {
        let done = Outcome::default();
        start(done.clone());
        if crashes < CRASHES_MAX && dice.one_in(2) {
            crashes += 1;
            let mut left = 1 + dice.below(STEPS_MAX);
            while left > 0 && done.borrow().is_none() {
                sim.step();
                left -= 1;
            }
            shared.counts.borrow_mut().crashes_in_make += u64::from(left == 0);
            crash(!dice.one_in(4));
            continue;
        }
        let deadline = sim.now().0 + u64::try_from(LIMIT.as_nanos()).unwrap_or(u64::MAX);
        while done.borrow().is_none() && sim.now().0 < deadline {
            sim.step();
        }
        match done.take() {
            Some(Ok(())) => return,
            Some(Err(error)) => return shared.fail(error),
            None => return shared.fail(format!("a store was not made within {LIMIT:?}")),
        }
    }
}

/// A former store of another identity, whose remains must not be taken for the new one's.
fn use_before(sim: &Sim, cluster: &Cluster, osd: usize, shared: &Shared) {
    let done = Outcome::default();
    cluster.make_osd(sim, osd, done.clone());
    while done.borrow().is_none() && sim.step() {}
    let parts = cluster.nodes[osd].parts.clone();
    let used = sim.run_within(Cluster::osd_host(osd), LIMIT, |core| async move {
        let store = node_store::open(&core, &parts).await?.engine;
        let collection = CollectionId { pool: 1, seed: 0 };
        let create = Op::CreateCollection { collection, bits: 0 };
        let mut last = store.submit(Transaction { ops: vec![create] }).durable;
        for number in 0..60_u32 {
            let name = Bytes::from(format!("former {number}"));
            let object = ObjectId {
                pool: 1,
                hash: number.wrapping_mul(0x9e37_79b9),
                namespace: Bytes::new(),
                key: Bytes::new(),
                name,
                snap: ObjectId::HEAD,
            };
            let data = vec![Bytes::from(vec![b'f'; 20_000])];
            last = store
                .submit(Transaction { ops: vec![Op::Write { collection, object, offset: 0, data }] })
                .durable;
        }
        last.await.map_err(|error| error.to_string())
    });
    if !matches!(used, Some(Ok(()))) {
        shared.fail(format!("osd.{osd} cannot be used before it is made: {used:?}"));
    }
    cluster.crash_osd(sim, osd, true);
}
