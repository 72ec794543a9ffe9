//! Each kind of checksum notices damage, and says what it found; blobs of several kinds live in one object.

use std::rc::Rc;

use rt::sim::{Config, Sim};

use super::world::World;
use crate::checksum::ChecksumKind;
use crate::engine::Engine;
use crate::object_store::{FsckLevel, ObjectStore, StoreError, Unwatched};
use crate::suite::{Generator, collection, join, object, pattern};
use crate::types::PoolOptions;
use crate::{ObjectId, Op, Transaction};

const BLOCK: u64 = 4096;

async fn write(store: &Engine, name: &ObjectId, offset: u64, salt: u64, len: u64) {
    let data = vec![pattern(salt, usize::try_from(len).expect("small"))];
    let ops = vec![Op::Write { collection: collection(), object: name.clone(), offset, data }];
    store.submit(Transaction { ops }).durable.await.expect("write");
}

fn choose(store: &Engine, kind: Option<ChecksumKind>) {
    store.set_pool_options(collection().pool, PoolOptions { checksum: kind, ..PoolOptions::default() });
}

async fn findings(store: &Engine) -> Vec<String> {
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await.expect("fsck");
    report.findings.into_iter().map(|finding| finding.detail).collect()
}

#[test]
fn blocks_of_every_kind_are_read_changed_and_found_damaged() {
    let sim = Sim::new(1, Config::default());
    let world = Rc::new(World::new(1, 8 << 20, 4096, 256 << 10));
    sim.run(0, |core| async move {
        world.format(&core).await;
        let mut store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        let name = object("mixed", 1);
        let mut expect = Vec::new();
        for (number, kind) in (0..).zip(ChecksumKind::ALL) {
            choose(&store, Some(kind));
            write(&store, &name, number * 2 * BLOCK, number, 2 * BLOCK).await;
            expect.extend_from_slice(&pattern(number, 2 * BLOCK as usize));
        }
        // A part of a block is written where it is, so its blob keeps its kind.
        choose(&store, None);
        for number in 0..6 {
            let at = (number * 2 + 1) * BLOCK + 50;
            write(&store, &name, at, 100 + number, 30).await;
            expect[at as usize..at as usize + 30].copy_from_slice(&pattern(100 + number, 30));
        }
        store.close().await.expect("close");
        store = world.mount(&core).await.expect("mount");
        let found = store.read(collection(), &name, 0, u64::MAX).await.expect("read");
        assert!(join(found) == expect);
        assert_eq!(findings(&store).await, Vec::<String>::new());

        // One bit in the second block of each.
        let places = store.block_places(collection(), &name).await.expect("places");
        for place in places.iter().skip(1).step_by(2) {
            world.disk.corrupt(place.address + 99, 4);
        }
        for (number, kind) in (0..).zip(ChecksumKind::ALL) {
            let read = store.read(collection(), &name, (number * 2 + 1) * BLOCK, 200).await;
            match (kind, read) {
                (ChecksumKind::None, Ok(_)) => {}
                (_, Err(StoreError::Io(problem))) => {
                    let says = format!("expected {} 0x", kind.name());
                    assert!(
                        problem.contains(&says) && problem.contains(&format!("got {}", kind.name())),
                        "{problem}"
                    );
                }
                (_, other) => panic!("{kind:?}: {other:?}"),
            }
        }
        assert_eq!(findings(&store).await.len(), 5, "all but the one that nothing protects");
        store.close().await.expect("close");
    });
}
