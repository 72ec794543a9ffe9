//! Crash sweep: a fixed workload of every kind of write on the whole stack, recorded; then power loss at every write
//! and flush, with none, all, each one missing, each one torn, and random subsets of what was in flight.
//!
//! By default a sample of the cuts runs, so that the test takes seconds; `STORE_SWEEP=full` runs all.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use nvme::recording::Choice;
use nvme::{BlockDevice, Recording, RecordingDevice};
use rt::sim::{Config, RandomStream, Sim};
use rt::{Core, Group};

use super::history::{Dump, dump};
use super::world::World;
use crate::object_store::{FsckLevel, ObjectStore};
use crate::suite::{Generator, Shape, collection};
use crate::{CollectionId, MemStore, Op, Transaction};

const SECOND: CollectionId = CollectionId { pool: 7, seed: 0x2b };
const TRANSACTIONS: usize = 60;

struct Recorded {
    world: World,
    recording: Recording,
    /// For each collection, what it shows after each of its transactions.
    states: Vec<Vec<Dump>>,
}

fn world() -> World {
    let mut world = World::new(7, 6 << 20, 4096, 96 << 10).stacked(1 << 20);
    world.options.deferred_batch_bytes = 16 << 10;
    world.options.overlay_bytes_max = 48 << 10;
    world.options.large_write_bytes = 24 << 10;
    world
}

/// Runs the workload. Marks: collection × 1000 + number of its transactions that are acknowledged.
fn record() -> Recorded {
    let sim = Sim::new(11, Config::default());
    let world = world();
    let core = sim.core(0);
    let device = world.device(&core);
    {
        let (world, device) = (world.clone(), Rc::clone(&device));
        sim.run(0, |core| async move {
            world.format_on(&core, &*device).await;
            let store = world.mount_on(&core, device, false).await.expect("mount");
            store.submit(Generator::prologue()).durable.await.expect("create");
            store.close().await.expect("close");
        });
    }
    let recording = Recording::new(device.geometry().clone(), world.disk.durable_image());
    let (tape, inner) = (recording.clone(), world.clone());
    let states = sim.run(0, |core| async move {
        let device: Rc<dyn BlockDevice> = Rc::new(RecordingDevice::new(tape.clone(), device));
        workload(&core, &inner, device, tape).await
    });
    Recorded { world, recording, states }
}

async fn workload(
    core: &Core,
    world: &World,
    device: Rc<dyn BlockDevice>,
    tape: Recording,
) -> Vec<Vec<Dump>> {
    let store = world.mount_on(core, device, false).await.expect("mount");
    let mut generator = Generator::new(
        3,
        Shape { objects: 5, object_bytes: 60_000, write_bytes: 30_000, ..Shape::default() },
    );
    let oracles = [oracle(collection()), oracle(SECOND)];
    let mut states = vec![vec![dump(&oracles[0], collection()).await], vec![dump(&oracles[1], SECOND).await]];
    let open = Rc::new(Cell::new(0));
    let acknowledged = Rc::new(RefCell::new([0u64; 2]));
    for step in 0..TRANSACTIONS {
        let transaction = generator.transaction();
        let index = usize::from(transaction.ops.first().map(Op::collection) != Some(collection()));
        if oracles[index].apply(&transaction).is_err() {
            continue;
        }
        let id = [collection(), SECOND][index];
        states[index].push(dump(&oracles[index], id).await);
        let number = states[index].len() as u64 - 1;
        let durable = store.submit(transaction).durable;
        let (open_now, tape, acknowledged) = (Rc::clone(&open), tape.clone(), Rc::clone(&acknowledged));
        open.set(open.get() + 1);
        core.spawn(Group::Client, "acknowledged", async move {
            durable.await.expect("durable");
            let mut acknowledged = acknowledged.borrow_mut();
            acknowledged[index] = acknowledged[index].max(number);
            tape.mark(index as u64 * 1000 + number);
            open_now.set(open_now.get() - 1);
        });
        while open.get() > 3 {
            core.sleep(std::time::Duration::from_micros(50)).await;
        }
        match step % 20 {
            9 => store.checkpoint().await.expect("checkpoint"),
            15 => core.sleep(std::time::Duration::from_millis(8)).await,
            _ => {}
        }
    }
    store.close().await.expect("close");
    states
}

fn oracle(id: CollectionId) -> MemStore {
    let store = MemStore::new(1 << 40);
    let ops = vec![Op::CreateCollection { collection: id, bits: 8 }];
    store.apply(&Transaction { ops }).expect("create");
    store
}

impl Recorded {
    /// Mounts what power loss leaves and checks everything.
    fn check(&self, cut: usize, choice: &Choice) -> Result<(), String> {
        let moment = self.recording.at(cut);
        let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
        for mark in moment.marks() {
            let newest = acknowledged.entry(mark / 1000).or_default();
            *newest = (*newest).max(mark % 1000);
        }
        let device: Rc<dyn BlockDevice> = Rc::new(moment.image(choice));
        let world = self.world.clone();
        let sim = Sim::new(1, Config::default());
        let found = sim.run(0, |core| async move {
            let store =
                world.mount_on(&core, device, false).await.map_err(|error| format!("mount: {error}"))?;
            let dumps = [dump(&store, collection()).await, dump(&store, SECOND).await];
            let report = store.fsck(FsckLevel::Deep, Box::new(|_, _| {})).await;
            let report = report.map_err(|error| format!("fsck: {error}"))?;
            if !report.findings.is_empty() {
                return Err(format!("fsck: {:?}", report.findings));
            }
            Ok(dumps)
        })?;
        for (index, found) in found.iter().enumerate() {
            let shown = self.states[index].iter().rposition(|state| state == found);
            let least = acknowledged.get(&(index as u64)).copied().unwrap_or(0);
            if shown.is_none_or(|shown| (shown as u64) < least) {
                return Err(format!("collection {index} shows state {shown:?}, acknowledged {least}"));
            }
        }
        Ok(())
    }
}

#[test]
fn every_cut_leaves_what_was_acknowledged() {
    let full = std::env::var("STORE_SWEEP").is_ok_and(|value| value == "full");
    let recorded = record();
    let cuts = recorded.recording.cuts();
    let mut random = RandomStream::new(5, "sweep");
    let mut checked = 0;
    for cut in &cuts {
        let mut choices = recorded.recording.at(*cut).choices(if full { 32 } else { 4 });
        if !full {
            let kept = random.below(choices.len() as u64) as usize;
            choices = vec![choices.swap_remove(kept)];
        }
        for choice in choices {
            if let Err(failure) = recorded.check(*cut, &choice) {
                panic!("cut {cut}, {choice:?}: {failure}");
            }
            checked += 1;
        }
    }
    println!("{} cuts, {checked} states, {} writes", cuts.len(), recorded.recording.writes());
    assert!(cuts.len() > 200 && checked >= cuts.len());
}
