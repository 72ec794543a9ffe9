//! RocksDB on BlueFS on a recording device: power is cut at every write and flush of a workload. After each cut the
//! store opens, and shows a state of the workload at or after the last flush that completed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::common::{COPIES, formatted, on_core, open};
use bluefs::fs::BlueFs;
use bluefs::kv::suite::{Workload, contents};
use bluefs::kv::{KvStore, MemKv};
use bytes::Bytes;
use nvme::{Recording, RecordingBlockingDevice};

const FLUSHED: u64 = 1 << 32;

#[test]
fn every_cut_opens_to_a_state_at_or_after_the_last_flush() {
    on_core(|core| async move {
        let device = formatted(16 << 20);
        let store = open(&core, Arc::new(device.clone())).await;
        store.close().await.unwrap();

        let recording = Recording::new(device.geometry().clone(), device.image());
        let recorded = RecordingBlockingDevice::new(recording.clone(), Arc::new(device.clone()));
        let oracle = MemKv::new();
        let mut states: Vec<BTreeMap<Bytes, Bytes>> = vec![oracle.contents()];
        let store = open(&core, Arc::new(recorded)).await;
        let mut workload = Workload::new(11);
        for round in 1..=24_u64 {
            let batch = workload.batch();
            oracle.apply(batch.clone()).await.unwrap();
            states.push(oracle.contents());
            recording.mark(round);
            store.apply(batch).await.unwrap();
            if round % 6 == 0 {
                store.flush().await.unwrap();
                recording.mark(FLUSHED | round);
            }
        }
        store.compact().await.unwrap();
        store.close().await.unwrap();

        let (mut opened, mut lossy) = (0, 0);
        for cut in recording.cuts() {
            let moment = recording.at(cut);
            let marks = moment.marks();
            let flushed =
                marks.iter().filter(|mark| **mark >= FLUSHED).max().map_or(0, |mark| mark - FLUSHED);
            let applied = marks.iter().filter(|mark| **mark < FLUSHED).max().copied().unwrap_or(0);
            let choices = moment.choices(1);
            // All kinds of loss, but not each at every cut: opening RocksDB takes milliseconds.
            let kept = choices.len().min(3);
            for choice in choices.iter().cycle().skip(cut % choices.len()).take(kept) {
                let image = moment.image(choice);
                let store = open(&core, Arc::new(image.clone())).await;
                let found = contents(&store, &store.view()).await;
                let possible = &states[flushed as usize..=applied as usize];
                assert!(
                    possible.contains(&found),
                    "{}: a state that never was",
                    nvme::BlockingDevice::name(&image)
                );
                store.close().await.unwrap();
                assert_eq!(BlueFs::load(&image, COPIES).unwrap().check(COPIES), []);
                opened += 1;
                lossy += u32::from(found != states[applied as usize]);
            }
        }
        assert!(opened > 100 && lossy > 10, "{opened} cuts opened, {lossy} lost something unflushed");
    });
}
