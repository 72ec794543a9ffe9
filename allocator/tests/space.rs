//! Reservations give back what they hold, whichever way they end.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use allocator::suite::request;
use allocator::{AllocError, Allocator, BitmapAllocator, Class, Space};
use proptest::prelude::*;

const BLOCK: u64 = 4096;

fn space(blocks: u64, reserve: u64) -> Space<BitmapAllocator> {
    Space::new(BitmapAllocator::new_free(blocks * BLOCK, BLOCK), reserve * BLOCK)
}

#[test]
fn dropping_gives_back() {
    let space = space(100, 0);
    let mut reservation = space.reserve(60 * BLOCK - 1, Class::Ordinary).unwrap();
    assert_eq!(space.available(Class::Ordinary), 40 * BLOCK);
    let taken = reservation.take(&request(10 * BLOCK, BLOCK, 10)).unwrap();
    assert_eq!((reservation.bytes(), space.with(|a| a.free_bytes())), (50 * BLOCK, 90 * BLOCK));
    assert!(matches!(space.reserve(41 * BLOCK, Class::Ordinary), Err(AllocError::NoSpace { .. })));
    drop(taken);
    assert_eq!(space.with(|a| a.free_bytes()), 100 * BLOCK);
    let kept = reservation.take(&request(50 * BLOCK, BLOCK, 50)).unwrap().commit();
    assert!(reservation.take(&request(BLOCK, BLOCK, 1)).is_err());
    drop(reservation);
    assert_eq!(space.available(Class::Ordinary), 50 * BLOCK);
    space.release(&kept).unwrap();
    assert!(space.release(&kept).is_err());
    assert_eq!(space.available(Class::Ordinary), 100 * BLOCK);
}

#[test]
fn releasing_is_all_or_nothing() {
    let space = space(100, 0);
    let kept = space
        .reserve(8 * BLOCK, Class::Ordinary)
        .unwrap()
        .take(&request(8 * BLOCK, BLOCK, 1))
        .unwrap()
        .commit();
    let twice = [kept[0], kept[0]];
    assert_eq!(space.release(&twice), Err(AllocError::NotUsed(kept[0])));
    assert_eq!(space.available(Class::Ordinary), 92 * BLOCK);
}

#[test]
fn the_reserve_is_for_reclaim() {
    let space = space(100, 10);
    assert!(space.reserve(91 * BLOCK, Class::Ordinary).is_err());
    let _all = space.reserve(90 * BLOCK, Class::Ordinary).unwrap();
    assert!(space.reserve(1, Class::Ordinary).is_err());
    assert_eq!(space.reserve(10 * BLOCK, Class::Reclaim).unwrap().bytes(), 10 * BLOCK);
}

#[test]
fn promises_split_and_join() {
    let space = space(100, 0);
    let mut whole = space.reserve(30 * BLOCK, Class::Ordinary).unwrap();
    let part = whole.split(10 * BLOCK).unwrap();
    assert!(whole.split(21 * BLOCK).is_err());
    assert_eq!((whole.bytes(), part.bytes()), (20 * BLOCK, 10 * BLOCK));
    whole.join(part);
    drop(whole.split(5 * BLOCK).unwrap());
    assert_eq!(space.available(Class::Ordinary), 75 * BLOCK);
}

proptest! {
    #[test]
    fn nothing_leaks(steps in proptest::collection::vec((0_u8..6, 1_u64..40), 1..80)) {
        let space = space(256, 16);
        let (mut promised, mut taken, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, blocks) in steps {
            match kind {
                0 => promised.extend(space.reserve(blocks * BLOCK, Class::Ordinary)),
                1 => promised.extend(space.reserve(blocks * BLOCK, Class::Reclaim)),
                2 => if let Some(reservation) = promised.last_mut() {
                    let blocks = blocks.min(reservation.bytes() / BLOCK);
                    if blocks > 0 {
                        taken.push(reservation.take(&request(blocks * BLOCK, BLOCK, 64)).unwrap());
                    }
                },
                3 => drop(promised.pop()),
                4 => drop(taken.pop()),
                _ => kept.extend(taken.pop().map(|taken| taken.commit())),
            }
            let promised: u64 = promised.iter().map(|r| r.bytes()).sum();
            let held: u64 = taken.iter().flat_map(|t| t.extents()).chain(kept.iter().flatten()).map(|e| e.len).sum();
            prop_assert_eq!(space.with(|a| a.free_bytes()), 256 * BLOCK - held);
            let mut open: Vec<_> = taken.iter().flat_map(|t| t.extents().to_vec()).collect();
            open.sort();
            prop_assert_eq!(space.taken(), open);
            prop_assert_eq!(space.available(Class::Reclaim), 256 * BLOCK - held - promised);
        }
    }
}
