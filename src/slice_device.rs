//! An OSD's part of a device that may grow while it is in use: label and segment table are this file's business, so that the
//! store just asks its device whether there is more.

use std::rc::Rc;
use std::sync::Arc;

use nvme::uring::{Polling, UringDevice};
use nvme::{
    BlockDevice, BlockingPartition, DeviceError, DeviceFile, DeviceResult, DmaBuf, Geometry, MemberSizes,
    Partition, sizes_of_one,
};
use rt::{Core, LocalBoxFuture};
use store::label::{LabelError, Labelled, places};
use uuid::Uuid;

/// See the module. Lives on the core of its OSD.
pub struct SliceDevice {
    inner: Rc<Inner>,
}

struct Inner {
    file: Arc<DeviceFile>,
    whole: Rc<dyn BlockDevice>,
    fsid: Uuid,
    store: Uuid,
    part: Partition,
    /// The same for foreign threads.
    foreign: Arc<BlockingPartition>,
}

impl SliceDevice {
    /// The part of a store that the label tells of.
    pub fn open(
        core: &Core,
        file: &Arc<DeviceFile>,
        labelled: &Labelled,
        store: Uuid,
        name: &str,
    ) -> anyhow::Result<Self> {
        let whole: Rc<dyn BlockDevice> =
            Rc::new(UringDevice::attach(core, file.clone(), Polling::WherePossible)?);
        let runs = places(&labelled.runs_of(&*whole, store)?);
        let part = Partition::of_runs(whole.clone(), name, runs.clone())?;
        let foreign = Arc::new(BlockingPartition::of_runs(Arc::new(file.blocking()), runs)?);
        let (file, fsid) = (file.clone(), labelled.label.fsid);
        Ok(Self { inner: Rc::new(Inner { file, whole, fsid, store, part, foreign }) })
    }

    /// The same for foreign threads.
    pub fn foreign(&self) -> Arc<BlockingPartition> {
        self.inner.foreign.clone()
    }
}

impl Inner {
    async fn look_again(&self) -> DeviceResult<MemberSizes> {
        let failed = |reason: String| DeviceError::Io {
            op: "growth",
            offset: 0,
            len: 0,
            device: self.whole.name().to_owned(),
            reason,
        };
        let by_label = |error| match error {
            LabelError::Device(error) => error,
            error => failed(error.to_string()),
        };
        let _dividing = self.file.divide().await;
        self.file.look_again().map_err(|error| failed(error.to_string()))?;
        let mut labelled = Labelled::read(&*self.whole, Some(self.fsid)).await.map_err(by_label)?;
        // One of the OSDs on the device does it for all; the others find it done.
        if let Some(grown) = labelled.take_up_growth(&self.whole).await.map_err(by_label)? {
            labelled = grown;
        }
        let runs = places(&labelled.runs_of(&*self.whole, self.store).map_err(by_label)?);
        self.foreign.grow(runs.clone())?;
        self.part.grow(runs)?;
        Ok(sizes_of_one(self.part.size()))
    }
}

impl BlockDevice for SliceDevice {
    fn geometry(&self) -> &Geometry {
        self.inner.part.geometry()
    }

    fn size(&self) -> u64 {
        self.inner.part.size()
    }

    fn look_again(&self) -> LocalBoxFuture<'static, DeviceResult<MemberSizes>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.look_again().await })
    }

    fn name(&self) -> &str {
        self.inner.part.name()
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.inner.part.read(offset, buf)
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        self.inner.part.write(offset, buf)
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.inner.part.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        self.inner.part.discard(offset, len)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use nvme::{BlockingDevice, OpenOptions};
    use rt::CoreId;
    use rt::uring::Config;
    use store::{Engine, FormatOptions};

    use super::*;

    const FSID: Uuid = Uuid::from_u128(1);
    const SIZE: u64 = 64 << 20;
    const LARGER: u64 = 160 << 20;
    const STORES: [Uuid; 4] =
        [Uuid::from_u128(11), Uuid::from_u128(12), Uuid::from_u128(13), Uuid::from_u128(14)];

    fn on_core<T: 'static>(number: u16, main: impl AsyncFnOnce(Core) -> T + 'static) -> T {
        let config = Config { recv_buffers: 0, ..Config::default() };
        rt::uring::run(CoreId(number), &config, |core| async move { main(core).await }).expect("a core")
    }

    /// A labelled device in a file, with a store on each of its slices.
    fn device() -> (tempfile::NamedTempFile, Arc<DeviceFile>) {
        let path = tempfile::NamedTempFile::new().expect("a file");
        path.as_file().set_len(SIZE).expect("a size");
        let options = OpenOptions { allow_buffered: true, ..OpenOptions::default() };
        let file = nvme::open(path.path(), &options).expect("opens");
        let opened = file.clone();
        on_core(0, async move |core| {
            let whole = UringDevice::attach(&core, opened.clone(), Polling::WherePossible).expect("attaches");
            let labelled = Labelled::plan(&whole, Uuid::from_u128(2), FSID, STORES.to_vec()).expect("fits");
            labelled.write(&whole).await.expect("writes");
            for store in STORES {
                let own = SliceDevice::open(&core, &opened, &labelled, store, "slice").expect("opens");
                let options = FormatOptions { kv_bytes: 0, ..FormatOptions::for_window(store, 4 << 20) };
                Engine::format(&own, &options).await.expect("formats");
            }
        });
        (path, file)
    }

    async fn read(core: &Core, file: &Arc<DeviceFile>) -> Labelled {
        let whole = UringDevice::attach(core, file.clone(), Polling::WherePossible).expect("attaches");
        Labelled::read(&whole, Some(FSID)).await.expect("reads")
    }

    #[test]
    fn osds_that_share_a_device_all_take_up_its_growth_at_once() {
        let (path, file) = device();
        path.as_file().set_len(LARGER).expect("grows");
        // All of them are open before the first one looks: who opens in that moment has another one's size.
        let all_are_open = Arc::new(Barrier::new(STORES.len()));
        let sizes = thread::scope(|scope| {
            let cores: Vec<_> = (0_u16..)
                .zip(STORES)
                .map(|(number, store)| {
                    let (file, all_are_open) = (file.clone(), all_are_open.clone());
                    scope.spawn(move || {
                        on_core(number, async move |core| {
                            let labelled = read(&core, &file).await;
                            let own =
                                SliceDevice::open(&core, &file, &labelled, store, "slice").expect("opens");
                            all_are_open.wait();
                            let (before, [after, ..]) =
                                (own.size(), own.look_again().await.expect("it grows"));
                            assert_eq!((own.size(), own.foreign().size()), (after, after));
                            let end = after - 4096;
                            own.write(end, DmaBuf::zeroed(4096)).await.expect("all of it may be used");
                            (before, after)
                        })
                    })
                })
                .collect();
            cores.into_iter().map(|core| core.join().expect("none fails")).collect::<Vec<_>>()
        });
        assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
        assert!(sizes[0].1 > 2 * sizes[0].0, "{sizes:?}");
    }

    #[test]
    fn every_store_on_a_device_that_grew_is_found_by_one_copy_of_its_superblock() {
        let (path, file) = device();
        path.as_file().set_len(LARGER).expect("grows");
        on_core(0, async move |core| {
            let labelled = read(&core, &file).await;
            let own = SliceDevice::open(&core, &file, &labelled, STORES[0], "slice").expect("opens");
            own.look_again().await.expect("it grows");
            let labelled = read(&core, &file).await;
            for store in STORES {
                let own = SliceDevice::open(&core, &file, &labelled, store, "slice").expect("opens");
                own.write(0, DmaBuf::zeroed(4096)).await.expect("writes");
                assert_eq!(Engine::main_superblock(&own).await.expect("the other copy is good").store, store);
            }
        });
    }
}
