//! [`MemoryDevice`]: the oracle. Perfect memory: every I/O is done when its method returns, nothing is ever lost.
//!
//! It checks what callers must obey (range, alignment) as strictly as a real device does. Clones are handles on
//! the same bytes, from any core or thread and in any world; [`MemoryDevice::snapshot`] makes an independent copy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rt::LocalBoxFuture;

use crate::blocking::BlockingDevice;
use crate::buffer::DmaBuf;
use crate::check;
use crate::device::{BlockDevice, DeviceResult, Geometry, Kind};
use crate::image::Image;
use crate::limits::MEMORY_IO_MAX;

/// A device in memory; a handle, see the module's text.
#[derive(Clone)]
pub struct MemoryDevice {
    name: Arc<str>,
    geometry: Arc<Geometry>,
    // A lock, because foreign threads have handles too. Never held across anything but a copy.
    image: Arc<Mutex<Image>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    bytes_written: AtomicU64,
    reads: AtomicU64,
    bytes_read: AtomicU64,
}

impl MemoryDevice {
    /// A blank device of `size` bytes with blocks of 4096.
    pub fn new(size: u64) -> Self {
        Self::with_geometry("memory", Self::default_geometry(size))
    }

    /// What [`MemoryDevice::new`] has, to be changed and given to [`MemoryDevice::with_geometry`].
    pub fn default_geometry(size: u64) -> Geometry {
        Geometry {
            size,
            block_size: 4096,
            atomic_write_unit: 4096,
            volatile_cache: false,
            rotational: false,
            discard: true,
            io_max: MEMORY_IO_MAX,
            kind: Kind::Memory,
        }
    }

    /// A blank device.
    pub fn with_geometry(name: &str, geometry: Geometry) -> Self {
        Self::from_image(name, geometry, Image::new())
    }

    /// A device which holds `image`.
    pub fn from_image(name: &str, geometry: Geometry, image: Image) -> Self {
        check::geometry(&geometry);
        let (geometry, image) = (Arc::new(geometry), Arc::new(Mutex::new(image)));
        Self { name: name.into(), geometry, image, counts: Arc::default() }
    }

    /// An independent device with the same bytes. Cheap: pages are shared until one side writes them.
    pub fn snapshot(&self) -> Self {
        let image = Arc::new(Mutex::new(self.image()));
        Self { image, counts: Arc::default(), ..self.clone() }
    }

    /// Flips the bits of `mask` in one byte: for checksums to find.
    pub fn corrupt(&self, offset: u64, mask: u8) {
        let mut byte = [0];
        self.with_image(|image| {
            image.read(offset, &mut byte);
            image.write(offset, &[byte[0] ^ mask]);
        });
    }

    /// The bytes as they are now.
    pub fn image(&self) -> Image {
        self.with_image(|image| image.clone())
    }

    /// Bytes written since it was made, through any handle.
    pub fn bytes_written(&self) -> u64 {
        self.counts.bytes_written.load(Ordering::Relaxed)
    }

    /// Reads since it was made, through any handle, and their bytes.
    pub fn reads(&self) -> (u64, u64) {
        (self.counts.reads.load(Ordering::Relaxed), self.counts.bytes_read.load(Ordering::Relaxed))
    }

    fn read_image(&self, offset: u64, memory: &mut [u8]) {
        self.with_image(|image| image.read(offset, memory));
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        self.counts.bytes_read.fetch_add(memory.len() as u64, Ordering::Relaxed);
    }

    fn write_image(&self, offset: u64, bytes: &[u8]) {
        self.with_image(|image| image.write(offset, bytes));
        self.counts.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }

    /// See [`BlockDevice::geometry`].
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// See [`BlockDevice::name`].
    pub fn name(&self) -> &str {
        &self.name
    }

    fn with_image<T>(&self, look: impl FnOnce(&mut Image) -> T) -> T {
        // A panic elsewhere while the lock was held ends the process in production; in a test the bytes
        // are still as good as they were.
        look(&mut self.image.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn check_range(&self, op: &'static str, offset: u64, len: u64) -> DeviceResult<()> {
        check::range(op, &*self.geometry, &self.name, offset, len)
    }
}

impl BlockDevice for MemoryDevice {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self, offset: u64, mut buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let checked = self.check_range("read", offset, buf.len() as u64);
        let result = checked.map(|()| {
            self.read_image(offset, &mut buf);
            buf
        });
        Box::pin(std::future::ready(result))
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let checked = self.check_range("write", offset, buf.len() as u64);
        let result = checked.map(|()| {
            self.write_image(offset, &buf);
            buf
        });
        Box::pin(std::future::ready(result))
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        Box::pin(std::future::ready(BlockingDevice::discard(self, offset, len)))
    }
}

impl BlockingDevice for MemoryDevice {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        check::lent_memory("read", &*self.geometry, &self.name, offset, memory)?;
        self.read_image(offset, memory);
        Ok(())
    }

    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        check::lent_memory("write", &*self.geometry, &self.name, offset, memory)?;
        self.write_image(offset, memory);
        Ok(())
    }

    fn flush(&self) -> DeviceResult<()> {
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        self.check_range("discard", offset, len)?;
        self.with_image(|image| image.clear(offset, len));
        Ok(())
    }
}
