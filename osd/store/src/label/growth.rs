//! Dividing what a device has grown by among the stores on it.
//!
//! Order: each store's window gets a copy of its superblock where it will end → the label says the new size → the segment table
//! says who has what. So at no moment is there only one copy of a superblock where a mount looks: until the table is written
//! they are where the window began and ended, afterwards where it begins and ends.

use std::rc::Rc;

use allocator::Extent;
use nvme::{BlockDevice, Partition};

use super::{
    HEAD_BYTES, Label, LabelError, LabelResult, Labelled, NOBODY, SEGMENTS_MAX, SegmentTable, TABLE_PLACES,
    TAIL_BYTES, write_at,
};
use crate::engine::{Engine, OpenError};

impl Labelled {
    /// Divides what the device has grown by, durably; gives the label and table that it has then, none if there is not enough to
    /// divide. Nobody else reads or writes label and table meanwhile.
    ///
    /// # Errors
    /// The device's, or that a store on it was made by a newer version.
    pub async fn take_up_growth(&self, device: &Rc<dyn BlockDevice>) -> LabelResult<Option<Self>> {
        let Some(grown) = self.grown(&**device) else { return Ok(None) };
        for (slice, store) in self.label.slices.iter().enumerate() {
            let window = |of: &Self| -> LabelResult<Partition> {
                let runs = of.runs(&**device, slice)?;
                Ok(Partition::of_runs(device.clone(), "slice", places(&runs))?)
            };
            match Engine::copy_superblock(&window(self)?, &window(&grown)?).await {
                // What is only a part of a store has none.
                Ok(()) | Err(OpenError::NoStore { .. }) => {}
                Err(error) => {
                    let (device, store) = (device.name().to_owned(), *store);
                    return Err(LabelError::Superblock { device, store, reason: error.to_string() });
                }
            }
        }
        device.flush().await?;
        grown.write_grown(&**device).await?;
        Ok(Some(grown))
    }

    /// What label and segment table become on a device that has grown: all slices get the same number of segments more. None if
    /// there are not enough for that.
    fn grown(&self, device: &dyn BlockDevice) -> Option<Self> {
        let (size, slices) = (device.size(), self.label.slices.len());
        let room = size.saturating_sub(HEAD_BYTES + TAIL_BYTES);
        let count =
            usize::try_from((room / self.label.segment_bytes).min(SEGMENTS_MAX)).unwrap_or(usize::MAX);
        let mut owners = self.segments.owners.clone();
        owners.resize(owners.len().max(count), NOBODY);
        let mut free = owners.iter_mut().filter(|owner| **owner == NOBODY).collect::<Vec<_>>();
        let each = free.len().checked_div(slices).unwrap_or(0);
        for (slice, owned) in (0..).zip(free.chunks_mut(each.max(1))).take(if each == 0 { 0 } else { slices })
        {
            owned.iter_mut().for_each(|owner| **owner = slice);
        }
        let label = Label { generation: self.label.generation + 1, size, ..self.label.clone() };
        let segments = SegmentTable { generation: self.segments.generation + 1, owners };
        (each > 0).then_some(Self { label, segments, damaged: 0 })
    }

    /// Writes what [`Self::grown`] gave. The label first: a table with more segments than fit the device would be corrupt, and
    /// one with fewer is not. A crash in between leaves nobody with less than before, and this can be repeated.
    async fn write_grown(&self, device: &dyn BlockDevice) -> LabelResult<()> {
        self.label.write(device).await?;
        let table = self.segments.encode();
        for place in TABLE_PLACES {
            write_at(device, place, &table).await?;
            device.flush().await?;
        }
        Ok(())
    }
}

/// As partitions want runs.
pub fn places(runs: &[Extent]) -> Vec<(u64, u64)> {
    runs.iter().map(|run| (run.start, run.len)).collect()
}

#[cfg(test)]
mod tests {
    use nvme::{DmaBuf, MemoryDevice, Recording, RecordingDevice};

    use super::super::tests::{FSID, on_core, plan};
    use super::*;
    use crate::engine::FormatOptions;
    use crate::superblock::Superblock;
    use uuid::Uuid;

    fn store(slice: usize) -> Uuid {
        Uuid::from_u128(slice as u128)
    }

    fn window(labelled: &Labelled, device: &MemoryDevice, slice: usize) -> Partition {
        let runs = labelled.runs(device, slice).expect("has some");
        Partition::of_runs(Rc::new(device.clone()), "slice", places(&runs)).expect("on the device")
    }

    /// Where a mount looks for the copies of a superblock there are two, each good by itself.
    async fn one_copy_is_enough(labelled: &Labelled, image: &MemoryDevice, slice: usize) {
        let size = window(labelled, image, slice).size();
        for place in Superblock::places(size, 4096) {
            let window = window(labelled, &image.snapshot(), slice);
            window.write(place, DmaBuf::from_slice_padded(&[7; 100], 4096)).await.expect("writes");
            let found = Engine::main_superblock(&window).await.expect("the other copy is good");
            assert_eq!(found.store, store(slice));
        }
    }

    fn all_runs(labelled: &Labelled, device: &MemoryDevice) -> Vec<Vec<Extent>> {
        (0..labelled.label.slices.len())
            .map(|slice| labelled.runs(device, slice).expect("has some"))
            .collect()
    }

    /// On a device of some MiB that becomes one of more, wherever power is cut while that is taken up.
    fn grows(slices: usize, before: u64, after: u64) {
        on_core(async move || {
            let old = MemoryDevice::new(before << 20);
            let labelled = plan(&old, slices).expect("fits");
            labelled.write(&old).await.expect("writes");
            for slice in 0..slices {
                let options =
                    FormatOptions { kv_bytes: 0, ..FormatOptions::for_window(store(slice), 4 << 20) };
                Engine::format(&window(&labelled, &old, slice), &options).await.expect("formats");
            }
            let mut geometry = MemoryDevice::default_geometry(after << 20);
            (geometry.volatile_cache, geometry.atomic_write_unit) = (true, 512);
            let device = MemoryDevice::from_image("grown", geometry.clone(), old.image());
            let found = Labelled::read(&device, Some(FSID)).await.expect("reads");
            let had = all_runs(&labelled, &device);
            assert_eq!((found.damaged, all_runs(&found, &device)), (0, had.clone()));
            let grown = found.grown(&device).expect("there is more");
            let has = all_runs(&grown, &device);
            let bytes = |runs: &[Extent]| runs.iter().map(|run| run.len).sum::<u64>();
            for (had, has) in had.iter().zip(&has) {
                assert_eq!((had[0].start, bytes(has)), (has[0].start, bytes(&has[..])));
                assert!(bytes(has) > bytes(had) && has[0].len >= had[0].len);
            }
            let mut all: Vec<Extent> = has.concat();
            all.sort_unstable();
            assert!(all.windows(2).all(|pair| pair[0].end() <= pair[1].start), "{all:?}");
            assert!(all.last().is_some_and(|last| last.end() + TAIL_BYTES <= after << 20));
            let recording = Recording::new(geometry, device.image());
            let recorded = RecordingDevice::new(recording.clone(), Rc::new(device.clone()));
            let recorded: Rc<dyn BlockDevice> = Rc::new(recorded);
            assert_eq!(found.take_up_growth(&recorded).await, Ok(Some(grown)));
            for cut in recording.cuts() {
                let moment = recording.at(cut);
                for choice in moment.choices(4) {
                    let image = moment.image(&choice);
                    let found = Labelled::read(&image, Some(FSID)).await.expect("reads");
                    let runs = all_runs(&found, &image);
                    assert!(runs == had || runs == has, "{}: {runs:?}", image.name());
                    for slice in 0..slices {
                        one_copy_is_enough(&found, &image, slice).await;
                    }
                    let whole: Rc<dyn BlockDevice> = Rc::new(image.clone());
                    found.take_up_growth(&whole).await.expect("writes");
                    let last = Labelled::read(&image, Some(FSID)).await.expect("reads");
                    assert_eq!((all_runs(&last, &image), last.label.size), (has.clone(), after << 20));
                    assert!(last.grown(&image).is_none());
                }
            }
        });
    }

    #[test]
    fn a_device_that_has_grown_is_taken_up_wherever_power_is_cut() {
        for (slices, before, after) in [(1, 64, 65), (1, 64, 300), (3, 64, 65), (3, 64, 101)] {
            grows(slices, before, after);
        }
    }
}
