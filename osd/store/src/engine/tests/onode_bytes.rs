//! What an object's metadata takes: once all of it was overwritten at random, and when it was written from beginning to end.

use bluefs::kv::ScanLimit;
use bytes::Bytes;
use rt::sim::{Config, RandomStream, Sim};

use super::world::{Below, World};
use crate::keys;
use crate::object_store::ObjectStore;
use crate::suite::{Generator, collection, object, pattern};
use crate::types::Hints;
use crate::{Op, Transaction};

const BLOCK: u64 = 4096;
const OBJECT_BYTES: u64 = 4 << 20;

/// The object as it is written.
fn write(offset: u64, len: u64, salt: u64) -> Op {
    let data = vec![pattern(salt, usize::try_from(len).expect("small"))];
    Op::Write { collection: collection(), object: object("name", 1), offset, data }
}

/// Keys, and bytes of keys and values, of an object after these transactions.
fn measured(ops: Vec<Op>) -> (usize, usize) {
    Sim::new(1, Config::default()).run(0, |core| async move {
        let world = World::new(1, 64 << 20, 4096, 1 << 20);
        world.format(&core).await;
        let store = world.mount(&core).await.expect("mount");
        store.submit(Generator::prologue()).durable.await.expect("create");
        for op in ops {
            store.submit(Transaction { ops: vec![op] }).durable.await.expect("write");
        }
        // One may have been on its way, without the last changes.
        for _ in 0..2 {
            store.checkpoint().await.expect("checkpoint");
        }
        store.close().await.expect("close");

        let Below::Plain(kv) = &world.below else { panic!("a plain store") };
        let kv = kv.open(&core);
        let mut start = keys::onode(&object("name", 1));
        let end = Bytes::from([&start[..start.len() - 1], &[0xff]].concat());
        let (mut count, mut sum) = (0, 0);
        loop {
            let limit = ScanLimit { keys: 1000, bytes: 1 << 20 };
            let page = kv.scan(&kv.view(), start, end.clone(), limit).await.expect("scan");
            count += page.entries.len();
            sum += page.entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
            match page.entries.last() {
                Some((last, _)) if page.more => start = keys::after(last),
                _ => return (count, sum),
            }
        }
    })
}

/// Bytes of keys and values of a 4 MiB object, after each of its blocks moved by itself: Ceph's needed 25 kB, then 16.
#[test]
fn an_object_that_was_overwritten_at_random_stays_small() {
    let mut blocks: Vec<u64> = (0..OBJECT_BYTES / BLOCK).collect();
    let mut dice = RandomStream::new(7, "order");
    for at in (1..blocks.len()).rev() {
        let other = usize::try_from(dice.below(u64::try_from(at + 1).expect("small"))).expect("small");
        blocks.swap(at, other);
    }
    let overwrites = blocks.into_iter().map(|number| write(number * BLOCK, BLOCK, number));
    let (keys, bytes) = measured([write(0, OBJECT_BYTES, 1)].into_iter().chain(overwrites).collect());
    println!("{keys} keys, {bytes} bytes with their values");
    assert_eq!(keys, 1 + 64, "an onode and a shard for each 64 KiB");
    assert!(bytes <= 15_000, "{bytes} bytes");
}

/// The same of one that was written from its beginning to its end, without hints and with them.
#[test]
fn an_object_that_is_streamed_takes_less() {
    let [plain, streamed] = [false, true].map(|is_streamed| {
        let hints = Hints { is_streamed, ..Hints::default() };
        let hint = Op::SetHints { collection: collection(), object: object("name", 1), hints };
        let writes = (0..4).map(|number| write(number << 20, 1 << 20, number));
        let (keys, bytes) = measured([hint].into_iter().chain(writes).collect());
        assert_eq!(keys, 1 + 64);
        bytes
    });
    println!("{plain} bytes with keys, streamed {streamed}");
    // Of 1024 checksums of 4 bytes 64 are left, each with the number of its blocks; and each shard says that it is so.
    assert_eq!(plain - streamed, 1024 * 4 - 64 * 6);
    assert!(streamed <= 4000, "{streamed} bytes");
}
