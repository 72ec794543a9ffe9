//! A device that gives wrong bytes once, one that keeps giving them, and a block that is described in two ways.

use std::cell::Cell;
use std::rc::Rc;

use nvme::{BlockDevice, DeviceResult, DmaBuf, Geometry};
use rt::LocalBoxFuture;
use rt::sim::{Config, Sim};

use super::world::World;
use crate::checksum::{Checksum, ChecksumKind};
use crate::engine::blocks::Wanted;
use crate::object_store::{ObjectStore, StoreError};
use crate::shard::Place;
use crate::suite::{Generator, collection, join, object, pattern};
use crate::types::AccessHints;
use crate::{Op, Transaction};

/// The next reads give a wrong bit each.
struct Flaky {
    below: Rc<dyn BlockDevice>,
    wrong: Rc<Cell<u32>>,
}

impl BlockDevice for Flaky {
    fn geometry(&self) -> &Geometry {
        self.below.geometry()
    }

    fn name(&self) -> &str {
        self.below.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let is_wrong = self.wrong.get() > 0;
        self.wrong.set(self.wrong.get().saturating_sub(1));
        let reading = self.below.read(offset, buf);
        Box::pin(async move {
            let mut buf = reading.await?;
            if is_wrong {
                buf[100] ^= 4;
            }
            Ok(buf)
        })
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.below.write(offset, buf)
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.below.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.below.discard(offset, len)
    }
}

#[test]
fn a_block_that_does_not_match_is_read_once_more_and_then_refused() {
    let sim = Sim::new(1, Config::default());
    let world = World::new(1, 8 << 20, 4096, 256 << 10);
    sim.run(0, |core| async move {
        world.format(&core).await;
        let wrong = Rc::new(Cell::new(0));
        let device = Rc::new(Flaky { below: world.device(&core), wrong: Rc::clone(&wrong) });
        let store = world.mount_on(&core, device, false).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let (name, data) = (object("object", 1), pattern(1, 20_000));
        let ops = vec![Op::Write {
            collection: collection(),
            object: name.clone(),
            offset: 0,
            data: vec![data.clone()],
        }];
        store.submit(Transaction { ops }).durable.await.expect("write");
        let mismatches = || {
            let counters = store.stats().counters;
            counters.iter().find(|(name, _)| *name == "checksum_mismatches").map(|(_, value)| *value)
        };
        let read = async || store.read(collection(), &name, 0, 20_000).await.map(join);

        wrong.set(1);
        assert!(read().await.is_ok_and(|read| read == data), "the second look is right");
        assert_eq!((mismatches(), wrong.get()), (Some(1), 0));

        wrong.set(2);
        let refused = read().await;
        let Err(StoreError::Io(reason)) = &refused else { panic!("{refused:?}") };
        for part in ["object", "byte 0", "at 0x", "expected crc32c 0x", "got crc32c 0x"] {
            assert!(reason.contains(part), "'{part}' is missing: {reason}");
        }
        assert_eq!((mismatches(), wrong.get()), (Some(2), 0));
        assert!(read().await.is_ok_and(|read| read == data), "the device is sound again");

        // A write over a part of the block looks twice as well, and takes nothing that it did not verify.
        let part = |at: u64| Op::Write {
            collection: collection(),
            object: name.clone(),
            offset: at,
            data: vec![pattern(2, 7)],
        };
        wrong.set(1);
        store.submit(Transaction { ops: vec![part(10)] }).durable.await.expect("the second look is right");
        wrong.set(2);
        let refused = store.submit(Transaction { ops: vec![part(5000)] }).durable.await;
        assert!(matches!(refused, Err(StoreError::Io(_))), "{refused:?}");
        let mut expect = data.to_vec();
        expect[10..17].copy_from_slice(&pattern(2, 7));
        assert!(read().await.is_ok_and(|read| read == expect));
        store.close().await.expect("close");
    });
}

#[test]
fn a_block_that_two_shards_claim_is_refused() {
    let sim = Sim::new(1, Config::default());
    let world = World::new(1, 8 << 20, 4096, 256 << 10);
    sim.run(0, |core| async move {
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let (name, data) = (object("object", 1), pattern(1, 4096));
        let ops = vec![Op::Write {
            collection: collection(),
            object: name.clone(),
            offset: 0,
            data: vec![data.clone()],
        }];
        store.submit(Transaction { ops }).durable.await.expect("write");
        let found = store.block_places(collection(), &name).await.expect("places");
        let (address, birth) = (found[0].address, found[0].birth);
        let checksum = Checksum::of(ChecksumKind::Crc32c, &data);
        let (is_shared, is_packed) = (false, false);
        let place = Place {
            blob: address,
            index: 0,
            address,
            checksum,
            chunk: address,
            chunk_blocks: 1,
            birth,
            is_shared,
            is_packed,
            logical: 0,
        };
        let foreign = Place { birth: birth + 1, ..place };
        let stale = Place { checksum: Checksum::of(ChecksumKind::Crc32c, b"other"), ..place };
        for (second, is_right) in [(place, true), (foreign, false), (stale, false)] {
            let mut wanted = Wanted::default();
            wanted.places.extend([second, place]);
            let read = store.inner.read_blocks(&name, &wanted, AccessHints::default()).await;
            assert_eq!(read.is_ok(), is_right, "{second:?}: {read:?}");
        }
        store.close().await.expect("close");
    });
}
