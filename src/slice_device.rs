//! An OSD's part of a device that may grow while it is in use: label and segment table are this file's business, so that the
//! store just asks its device whether there is more.

use std::rc::Rc;
use std::sync::Arc;

use allocator::Extent;
use nvme::uring::{Polling, UringDevice};
use nvme::{
    BlockDevice, BlockingPartition, DeviceError, DeviceFile, DeviceResult, DmaBuf, Geometry, Partition,
};
use rt::{Core, LocalBoxFuture};
use store::label::{LabelError, Labelled};
use uuid::Uuid;

/// See the module. Lives on the core of its OSD.
pub struct SliceDevice {
    inner: Rc<Inner>,
}

struct Inner {
    file: Arc<DeviceFile>,
    whole: Rc<dyn BlockDevice>,
    fsid: Uuid,
    slice: usize,
    part: Partition,
    /// The same for foreign threads.
    foreign: Arc<BlockingPartition>,
}

/// As the devices want runs.
pub fn places(runs: &[Extent]) -> Vec<(u64, u64)> {
    runs.iter().map(|run| (run.start, run.len)).collect()
}

impl SliceDevice {
    /// The slice that the label tells of.
    pub fn open(
        core: &Core,
        file: &Arc<DeviceFile>,
        labelled: &Labelled,
        slice: usize,
        name: &str,
    ) -> anyhow::Result<Self> {
        let whole: Rc<dyn BlockDevice> =
            Rc::new(UringDevice::attach(core, file.clone(), Polling::WherePossible)?);
        let runs = places(&labelled.runs(&*whole, slice)?);
        let part = Partition::of_runs(whole.clone(), name, runs.clone())?;
        let foreign = Arc::new(BlockingPartition::of_runs(Arc::new(file.blocking()), runs)?);
        let (file, fsid) = (file.clone(), labelled.label.fsid);
        Ok(Self { inner: Rc::new(Inner { file, whole, fsid, slice, part, foreign }) })
    }

    /// The same for foreign threads.
    pub fn foreign(&self) -> Arc<BlockingPartition> {
        self.inner.foreign.clone()
    }
}

impl Inner {
    async fn look_again(&self) -> DeviceResult<u64> {
        let failed = |reason: String| DeviceError::Io {
            op: "growth",
            offset: 0,
            len: 0,
            device: self.whole.name().to_owned(),
            reason,
        };
        self.file.look_again().map_err(|error| failed(error.to_string()))?;
        let by_label = |error| match error {
            LabelError::Device(error) => error,
            error => failed(error.to_string()),
        };
        let Some(_dividing) = self.file.divide() else {
            return Err(failed("another OSD is taking it up: try again".to_owned()));
        };
        let mut labelled = Labelled::read(&*self.whole, Some(self.fsid)).await.map_err(by_label)?;
        // One of the OSDs on the device does it for all; the others find it done.
        if let Some(grown) = labelled.grown(&*self.whole) {
            grown.write_grown(&*self.whole).await.map_err(by_label)?;
            labelled = grown;
        }
        let runs = places(&labelled.runs(&*self.whole, self.slice).map_err(by_label)?);
        self.foreign.grow(runs.clone())?;
        self.part.grow(runs)?;
        Ok(self.part.size())
    }
}

impl BlockDevice for SliceDevice {
    fn geometry(&self) -> &Geometry {
        self.inner.part.geometry()
    }

    fn size(&self) -> u64 {
        self.inner.part.size()
    }

    fn look_again(&self) -> LocalBoxFuture<'static, DeviceResult<u64>> {
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
