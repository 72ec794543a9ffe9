//! The check beside clients: what is wrong is found while they write, and nothing that is not.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use rt::sim::{Config, Sim};
use rt::sync::oneshot;
use rt::{Core, Group, LocalBoxFuture};

use super::repair::{ALL, known, plant, populate, world};
use super::world::World;
use crate::engine::{Engine, FreeList};
use crate::object_store::{FsckLevel, FsckReport, ObjectStore, StoreError, Watch};
use crate::suite::{Generator, Shape, collection, object, pattern};
use crate::{Op, Transaction};

/// Pauses for as long as clients need for something, and ends the check after so many pauses.
struct Slow {
    core: Core,
    left: Cell<u32>,
}

impl Watch for Slow {
    fn pause(&self, _bytes: u64) -> LocalBoxFuture<'static, bool> {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        let pause = self.core.sleep(Duration::from_micros(self.core.random_u64() % 2000));
        Box::pin(async move {
            pause.await;
            left > 0
        })
    }
}

/// Does something at a pause, of those in the walk over keys or of those while data is read.
struct Acting {
    left: Cell<u32>,
    reads_data: Option<Cell<bool>>,
    act: Box<dyn Fn()>,
}

impl Watch for Acting {
    fn progress(&self, done: u64, total: u64) {
        if let Some(reads_data) = &self.reads_data {
            reads_data.set(2 * done > total);
        }
    }

    fn pause(&self, _bytes: u64) -> LocalBoxFuture<'static, bool> {
        if self.reads_data.as_ref().is_none_or(Cell::get) {
            self.left.set(self.left.get().saturating_sub(1));
            if self.left.get() == 0 {
                (self.act)();
            }
        }
        Box::pin(std::future::ready(true))
    }
}

#[test]
fn a_check_ends_where_its_view_keeps_what_others_need_and_not_when_it_has_none() {
    for reads_data in [false, true] {
        let report = run(1, async move |core| {
            let world = world(FreeList::Pages);
            populate(&world, &core).await;
            let store = Rc::new(world.mount(&core).await.expect("mount"));
            let inner = Rc::clone(&store.inner);
            let act = Box::new(move || inner.kv_room.views_unwanted.set(true));
            let reads_data = reads_data.then(|| Cell::new(false));
            let report =
                store.fsck(FsckLevel::Deep, Rc::new(Acting { left: Cell::new(2), reads_data, act })).await;
            store.close().await.expect("close");
            report.expect("fsck")
        });
        assert_eq!((report.findings, report.is_whole), (vec![], reads_data));
    }
}

#[test]
fn a_store_that_goes_down_ends_its_check() {
    for left in [1, 5, 9, 13] {
        let report = run(1, async move |core| {
            let world = world(FreeList::Pages);
            populate(&world, &core).await;
            let store = Rc::new(world.mount(&core).await.expect("mount"));
            let inner = Rc::clone(&store.inner);
            let act = Box::new(move || inner.fail("the test says so".to_owned()));
            store
                .fsck(FsckLevel::Deep, Rc::new(Acting { left: Cell::new(left), reads_data: None, act }))
                .await
        });
        let is_it = |error: &StoreError| matches!(error, StoreError::Down(why) if why.contains("says so"));
        assert!(report.as_ref().is_err_and(is_it), "after {left} pauses: {report:?}");
    }
}

/// Checks a store beside a client that writes all the time, after damage was done to it.
async fn check(core: &Core, world: &World, level: FsckLevel, pauses: u32) -> FsckReport {
    let store = Rc::new(world.mount(core).await.expect("mount"));
    let goes_on = Rc::new(Cell::new(true));
    let written = Rc::new(Cell::new(0));
    let client = write_until(Rc::clone(&store), Rc::clone(&goes_on), Rc::clone(&written));
    let (ends, ended) = oneshot();
    core.spawn(Group::Client, "client", async move {
        client.await;
        assert!(ends.send(()).is_ok(), "somebody waits for it");
    });
    while written.get() < 3 {
        core.sleep(Duration::from_millis(1)).await;
    }
    let before = written.get();
    let watch = Slow { core: core.clone(), left: Cell::new(pauses) };
    let report = store.fsck(level, Rc::new(watch)).await.expect("fsck");
    assert!(!report.is_whole || written.get() > before, "clients went on: {before} {}", written.get());
    goes_on.set(false);
    ended.await.expect("the client ends");
    store.close().await.expect("close");
    report
}

/// Random changes, and an object that moves all the time.
async fn write_until(store: Rc<Engine>, goes_on: Rc<Cell<bool>>, written: Rc<Cell<u32>>) {
    let mut generator = Generator::new(5, Shape { objects: 5, object_bytes: 60_000, ..Shape::default() });
    while goes_on.get() {
        // Some are refused: of objects that are not there.
        let random = store.submit(generator.transaction()).readable;
        let data = vec![pattern(written.get().into(), 30_000)];
        let op = Op::Write { collection: collection(), object: object("moving", 77), offset: 0, data };
        store.submit(Transaction { ops: vec![op] }).durable.await.expect("write");
        drop(random.await);
        if written.get() % 8 == 0 {
            store.checkpoint().await.expect("checkpoint");
        }
        written.set(written.get() + 1);
    }
}

fn run<T: 'static>(seed: u64, main: impl AsyncFnOnce(Core) -> T + 'static) -> T {
    Sim::new(seed, Config::default()).run(0, |core| async move { main(core).await })
}

#[test]
fn a_clean_store_is_found_clean_while_clients_write() {
    for seed in 0..12 {
        let (free_list, level) =
            (FreeList::ALL[seed % 2], [FsckLevel::Metadata, FsckLevel::Deep][seed / 2 % 2]);
        let report = run(seed as u64, async move |core| {
            let world = match seed % 3 {
                0 => world(free_list).stacked(1 << 20),
                _ => world(free_list),
            };
            populate(&world, &core).await;
            check(&core, &world, level, u32::MAX).await
        });
        assert_eq!((report.findings, report.is_whole), (vec![], true), "seed {seed}");
        assert!(report.objects >= 6 && (report.bytes_verified > 0) == (level == FsckLevel::Deep));
    }
}

#[test]
fn damage_is_found_while_clients_write() {
    let planted = [
        "space that nobody has is marked used",
        "a share counts too many uses",
        "nobody has an omap",
        "an onode counts other bytes",
        "a pool's statistics are wrong",
    ];
    let found = run(3, async move |core| {
        let world = world(FreeList::Merge);
        populate(&world, &core).await;
        let known = known(&world, &core).await;
        let damage = ALL.iter().filter(|damage| planted.contains(&damage.name));
        plant(&world, &core, damage.flat_map(|damage| (damage.plant)(&known)).collect()).await;
        check(&core, &world, FsckLevel::Metadata, u32::MAX).await
    });
    let kinds: BTreeSet<_> = found.findings.iter().map(|finding| finding.kind).collect();
    let expected =
        ["extent-leak", "share-uses", "omap-without-owner", "object-statistics", "pool-statistics"];
    assert_eq!(kinds, BTreeSet::from(expected), "{:?}", found.findings);
}

#[test]
fn a_check_that_ends_early_says_nothing_of_what_it_did_not_see() {
    for pauses in 0..14 {
        let report = run(u64::from(pauses), async move |core| {
            let world = world(FreeList::Pages);
            populate(&world, &core).await;
            check(&core, &world, FsckLevel::Deep, pauses).await
        });
        assert_eq!((report.findings, report.is_whole), (vec![], false), "after {pauses} pauses");
    }
}
