//! Blocks that cannot be read, with somebody who has them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use nvme::{BlockDevice, DeviceError, DeviceResult, DmaBuf, Geometry};
use rt::LocalBoxFuture;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::engine::Engine;
use crate::object_store::{Copies, FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::types::{Hints, ObjectId};
use crate::{Op, Transaction};

const BLOCK: usize = 4096;

/// Sectors that cannot be read, or give something else, until they are written.
pub(super) struct Bad {
    pub below: Rc<dyn BlockDevice>,
    pub at: Rc<RefCell<BTreeSet<u64>>>,
    /// Reads of them fail.
    pub fails: bool,
}

impl BlockDevice for Bad {
    fn geometry(&self) -> &Geometry {
        self.below.geometry()
    }

    fn name(&self) -> &str {
        self.below.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let len = buf.len() as u64;
        let bad: Vec<u64> = self.at.borrow().range(offset..offset + len).copied().collect();
        let (reading, fails) = (self.below.read(offset, buf), self.fails);
        Box::pin(async move {
            let mut buf = reading.await?;
            if fails && !bad.is_empty() {
                let (device, reason) = ("bad".to_owned(), "media error".to_owned());
                return Err(DeviceError::Io { op: "read", offset, len, device, reason });
            }
            for at in bad {
                buf[usize::try_from(at - offset).expect("within") + 100] ^= 4;
            }
            Ok(buf)
        })
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.at.borrow_mut().retain(|at| !(offset..offset + buf.len() as u64).contains(at));
        self.below.write(offset, buf)
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.below.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.below.discard(offset, len)
    }
}

/// Has one object, and says how often it was asked.
struct Replica {
    object: ObjectId,
    data: Bytes,
    asked: Cell<u32>,
}

impl Copies for Replica {
    fn fetch(&self, object: &ObjectId, offset: u64, len: u64) -> LocalBoxFuture<'static, Option<Bytes>> {
        self.asked.set(self.asked.get() + 1);
        let narrow = |at: u64| usize::try_from(at).expect("small").min(self.data.len());
        let found = (*object == self.object).then(|| self.data.slice(narrow(offset)..narrow(offset + len)));
        Box::pin(std::future::ready(found))
    }
}

fn counter(store: &Engine, wanted: &str) -> u64 {
    store.stats().counters.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, value)| *value)
}

async fn write(store: &Engine, offset: u64, data: Bytes) {
    let op = Op::Write { collection: collection(), object: object("object", 1), offset, data: vec![data] };
    store.submit(Transaction { ops: vec![op] }).durable.await.expect("write");
}

#[test]
fn what_a_copy_has_is_served_and_written_anew() {
    for fails in [false, true] {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let world = World::new(1, 8 << 20, 4096, 256 << 10);
            world.format(&core).await;
            let at = Rc::new(RefCell::new(BTreeSet::new()));
            let device = Rc::new(Bad { below: world.device(&core), at: Rc::clone(&at), fails });
            let store = world.mount_on(&core, device, false).await.expect("mount");
            store.submit(Generator::prologue()).durable.await.expect("create");
            // The last block is not whole.
            let (name, data) = (object("object", 1), pattern(1, 5 * BLOCK + 700));
            write(&store, 0, data.clone()).await;
            let places = store.block_places(collection(), &name).await.expect("places");
            let bad = [places[1].address, places[5].address];
            at.borrow_mut().extend(bad);
            let read = async || store.read(collection(), &name, 0, 1 << 20).await.map(join);

            assert!(matches!(read().await, Err(StoreError::Io(_))), "nobody has it");
            let replica = |data| Rc::new(Replica { object: name.clone(), data, asked: Cell::new(0) });
            let wrong = replica(pattern(2, 5 * BLOCK + 700));
            store.set_copies(Some(wrong.clone()));
            let refused = read().await;
            let said = if fails { "media error" } else { "wrong checksum" };
            assert!(matches!(&refused, Err(StoreError::Io(reason)) if reason.contains(said)), "{refused:?}");
            assert!(wrong.asked.get() > 0 && counter(&store, "blocks_healed") == 0);

            let right = replica(data.clone());
            store.set_copies(Some(right.clone()));
            assert!(read().await.is_ok_and(|read| read == data));
            assert_eq!((right.asked.get(), counter(&store, "blocks_healed")), (2, 2));
            core.sleep(std::time::Duration::from_secs(1)).await;
            // Now it can be read without any copy, and nothing is lost of the space.
            store.set_copies(None);
            assert!(read().await.is_ok_and(|read| read == data));
            let now = store.block_places(collection(), &name).await.expect("places");
            assert_ne!(now[1].address, bad[0], "it is elsewhere");
            store.close().await.expect("close");
            let store = world.mount(&core).await.expect("mount");
            let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
            assert_eq!(report.findings, []);
            store.close().await.expect("close");
        });
    }
}

/// Of several blocks under one checksum all come from a copy, and are written anew together; also what stays when a part of
/// them is overwritten is known by it.
#[test]
fn chunks_come_from_a_copy_whole() {
    for fails in [false, true] {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let world = World::new(1, 8 << 20, 4096, 256 << 10);
            world.format(&core).await;
            let at = Rc::new(RefCell::new(BTreeSet::new()));
            let device = Rc::new(Bad { below: world.device(&core), at: Rc::clone(&at), fails });
            let store = world.mount_on(&core, device, false).await.expect("mount");
            store.submit(Generator::prologue()).durable.await.expect("create");
            // The last block is not whole.
            let (name, mut data) = (object("object", 1), pattern(1, 5 * BLOCK + 700).to_vec());
            let hints = Hints { is_streamed: true, ..Hints::default() };
            let hint = Op::SetHints { collection: collection(), object: name.clone(), hints };
            store.submit(Transaction { ops: vec![hint] }).durable.await.expect("hint");
            write(&store, 0, Bytes::from(data.clone())).await;
            let places = store.block_places(collection(), &name).await.expect("places");
            at.borrow_mut().insert(places[4].address);
            let replica =
                Replica { object: name.clone(), data: Bytes::from(data.clone()), asked: Cell::new(0) };
            let replica = Rc::new(replica);
            store.set_copies(Some(replica.clone()));
            // What stays is sound, although the device has one of its blocks wrong: that is found by itself.
            write(&store, BLOCK as u64, pattern(3, BLOCK)).await;
            data[BLOCK..2 * BLOCK].copy_from_slice(&pattern(3, BLOCK));
            core.sleep(std::time::Duration::from_secs(1)).await;
            let read = async || store.read(collection(), &name, 0, 1 << 20).await.map(join);
            assert!(read().await.is_ok_and(|found| found == data));
            core.sleep(std::time::Duration::from_secs(1)).await;
            store.set_copies(None);
            assert!(read().await.is_ok_and(|found| found == data), "it was written anew");
            assert_eq!(counter(&store, "chunks_damaged"), 0);

            // Written as one, and read in part.
            write(&store, 0, Bytes::from(data.clone())).await;
            let places = store.block_places(collection(), &name).await.expect("places");
            at.borrow_mut().extend([places[0].address, places[4].address]);
            let right =
                Replica { object: name.clone(), data: Bytes::from(data.clone()), asked: Cell::new(0) };
            let right = Rc::new(right);
            store.set_copies(Some(right.clone()));
            let found = store.read(collection(), &name, 2 * BLOCK as u64, 10).await.map(join);
            assert!(found.is_ok_and(|found| found == data[2 * BLOCK..2 * BLOCK + 10]));
            assert_eq!(right.asked.get(), 1, "once for all of them");
            core.sleep(std::time::Duration::from_secs(1)).await;
            store.set_copies(None);
            assert!(read().await.is_ok_and(|found| found == data));
            store.close().await.expect("close");
            let store = world.mount(&core).await.expect("mount");
            let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
            assert_eq!(report.findings, []);
            store.close().await.expect("close");
        });
    }
}

/// Never answers.
struct Silent(Cell<u32>);

impl Copies for Silent {
    fn fetch(&self, _object: &ObjectId, _offset: u64, _len: u64) -> LocalBoxFuture<'static, Option<Bytes>> {
        self.0.set(self.0.get() + 1);
        Box::pin(std::future::pending())
    }
}

#[test]
fn blocks_side_by_side_are_asked_for_once_and_not_for_ever() {
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let world = World::new(1, 8 << 20, 4096, 256 << 10);
        world.format(&core).await;
        let at = Rc::new(RefCell::new(BTreeSet::new()));
        let device = Rc::new(Bad { below: world.device(&core), at: Rc::clone(&at), fails: true });
        let store = world.mount_on(&core, device, false).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let (name, data) = (object("object", 1), pattern(1, 9 * BLOCK + 700));
        write(&store, 0, data.clone()).await;
        let places = store.block_places(collection(), &name).await.expect("places");
        at.borrow_mut().extend([0, 1, 2, 5, 8, 9].map(|number: usize| places[number].address));
        let silent = Rc::new(Silent(Cell::new(0)));
        store.set_copies(Some(silent.clone()));
        let before = core.now();
        let read = store.read(collection(), &name, 0, 1 << 20).await;
        assert!(matches!(read, Err(StoreError::Io(_))), "{read:?}");
        let waited = (core.now().0 - before.0) / 1_000_000_000;
        assert!((10..12).contains(&waited) && silent.0.get() == 1, "{waited} s, {}", silent.0.get());
        let right = Rc::new(Replica { object: name.clone(), data: data.clone(), asked: Cell::new(0) });
        store.set_copies(Some(right.clone()));
        assert!(store.read(collection(), &name, 0, 1 << 20).await.map(join).is_ok_and(|read| read == data));
        assert_eq!((right.asked.get(), counter(&store, "blocks_healed")), (3, 6));
        store.close().await.expect("close");
    });
}

/// A copy that does not answer may yet have what was written: nothing is given up meanwhile.
#[test]
fn a_damaged_chunk_is_not_cut_while_copies_do_not_answer() {
    for fails in [false, true] {
        Sim::new(1, Config::default()).run(0, move |core| async move {
            let world = World::new(1, 8 << 20, 4096, 256 << 10);
            world.format(&core).await;
            let at = Rc::new(RefCell::new(BTreeSet::new()));
            let device = Rc::new(Bad { below: world.device(&core), at: Rc::clone(&at), fails });
            let store = world.mount_on(&core, device, false).await.expect("mount");
            store.submit(Generator::prologue()).durable.await.expect("create");
            let (name, data) = (object("object", 1), pattern(1, 6 * BLOCK));
            let hints = Hints { is_streamed: true, ..Hints::default() };
            let hint = Op::SetHints { collection: collection(), object: name.clone(), hints };
            store.submit(Transaction { ops: vec![hint] }).durable.await.expect("hint");
            write(&store, 0, data.clone()).await;
            let places = store.block_places(collection(), &name).await.expect("places");
            at.borrow_mut().insert(places[4].address);
            store.set_copies(Some(Rc::new(Silent(Cell::new(0)))));
            let object = name.clone();
            let op = Op::Write { collection: collection(), object, offset: 0, data: vec![pattern(2, BLOCK)] };
            let refused = store.submit(Transaction { ops: vec![op] }).durable.await;
            let said = if fails { "media error" } else { "wrong checksum" };
            assert!(matches!(&refused, Err(StoreError::Io(reason)) if reason.contains(said)), "{refused:?}");
            assert_eq!((counter(&store, "chunks_split"), counter(&store, "chunks_damaged")), (0, 0));
            // A copy that does answer has all of it.
            let right = Replica { object: name.clone(), data: data.clone(), asked: Cell::new(0) };
            store.set_copies(Some(Rc::new(right)));
            let found = store.read(collection(), &name, 0, 1 << 20).await.map(join);
            assert!(found.is_ok_and(|found| found == data));
            store.close().await.expect("close");
        });
    }
}

#[test]
fn what_was_written_since_stays() {
    Sim::new(1, Config::default()).run(0, move |core| async move {
        let world = World::new(1, 8 << 20, 4096, 256 << 10);
        world.format(&core).await;
        let at = Rc::new(RefCell::new(BTreeSet::new()));
        let device = Rc::new(Bad { below: world.device(&core), at: Rc::clone(&at), fails: false });
        let store = world.mount_on(&core, device, false).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let (name, mut data) = (object("object", 1), pattern(1, 3 * BLOCK).to_vec());
        write(&store, 0, Bytes::from(data.clone())).await;
        at.borrow_mut().extend(
            store.block_places(collection(), &name).await.expect("places").iter().map(|place| place.address),
        );
        let replica = Replica { object: name.clone(), data: Bytes::from(data.clone()), asked: Cell::new(0) };
        store.set_copies(Some(Rc::new(replica)));
        // A part of a bad block, a whole one, and one while the block that was read is about to be written anew.
        write(&store, 10, pattern(2, 20)).await;
        write(&store, BLOCK as u64, pattern(3, BLOCK)).await;
        let reading = store.read(collection(), &name, 2 * BLOCK as u64, BLOCK as u64);
        let read = join(reading.await.expect("a copy has it"));
        assert_eq!(read, data[2 * BLOCK..]);
        write(&store, 2 * BLOCK as u64, pattern(4, BLOCK)).await;
        core.sleep(std::time::Duration::from_secs(1)).await;
        data[10..30].copy_from_slice(&pattern(2, 20));
        data[BLOCK..2 * BLOCK].copy_from_slice(&pattern(3, BLOCK));
        data[2 * BLOCK..].copy_from_slice(&pattern(4, BLOCK));
        store.set_copies(None);
        assert!(store.read(collection(), &name, 0, 1 << 20).await.map(join).is_ok_and(|read| read == data));
        assert_eq!(counter(&store, "blocks_healed"), 2);
        store.close().await.expect("close");
    });
}
