//! Random blocks of a file, past the page cache: what a read costs.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

use io_uring::{opcode, types};
use rt::sync::Gate;
use rt::uring::{Ring, UringCore};
use rt::{Core, Group};

use crate::backend::{Backend, Sample, measure, start};

/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;
/// Reads in flight.
pub const DEPTH: usize = 32;

/// Fills a file with MiBs that no device can guess, and puts them on the disk.
pub fn fill(mut file: &File, mib: u32) -> std::io::Result<()> {
    let chunk: Vec<u8> = (0..1_u32 << 20).map(|place| place.wrapping_mul(2_654_435_761) as u8).collect();
    for _ in 0..mib {
        file.write_all(&chunk)?;
    }
    file.sync_all()
}

/// Random blocks, `DEPTH` at a time, past the page cache.
pub fn read(backend: Backend, path: &Path, time: Duration) -> Sample {
    let path = path.to_owned();
    let measured = start(backend, move |core| async move {
        let (count, gate) = (Rc::new(Cell::new(0_u64)), Gate::default());
        match backend {
            Backend::Uring => read_on_ring(&core, &path, &count, &gate),
            Backend::Glommio => read_on_glommio(&core, &path, &count, &gate).await,
        }
        let sample = measure(&core, time, &count, |_| Duration::ZERO).await;
        // Ending glommio's executor with reads in flight corrupts memory: it frees their buffers twice, or too early.
        gate.close().await;
        sample
    });
    measured.join().unwrap()
}

fn read_on_ring(core: &Core, path: &Path, count: &Rc<Cell<u64>>, gate: &Gate) {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
    let blocks = file.metadata().unwrap().len() / BLOCK_BYTES as u64;
    let ring = core.world().downcast_ref::<UringCore>().unwrap().ring().clone();
    let file = Rc::new(file);
    for _ in 0..DEPTH {
        let (own, count, file, ring) = (core.clone(), count.clone(), file.clone(), ring.clone());
        let (gate, pass) = (gate.clone(), gate.enter());
        core.spawn(Group::Client, "read", async move {
            let mut memory = Aligned::new();
            while !gate.is_closing() {
                let offset = own.random_u64() % blocks * BLOCK_BYTES as u64;
                memory = read_block(&ring, file.clone(), memory, offset).await;
                count.set(count.get() + 1);
            }
            drop(pass);
        });
    }
}

async fn read_block(ring: &Ring, file: Rc<File>, memory: Aligned, offset: u64) -> Aligned {
    let fd = types::Fd(file.as_raw_fd());
    // SAFETY: memory (on the heap) and descriptor belong to the operation.
    let op = unsafe {
        ring.submit((memory, file), |(memory, _)| {
            opcode::Read::new(fd, memory.0.as_ptr(), BLOCK_BYTES as u32).offset(offset).build()
        })
    };
    let (result, (memory, _)) = op.await;
    assert_eq!(result.unwrap() as usize, BLOCK_BYTES);
    memory
}

async fn read_on_glommio(core: &Core, path: &Path, count: &Rc<Cell<u64>>, gate: &Gate) {
    let file = Rc::new(glommio::io::DmaFile::open(path).await.unwrap());
    let blocks = file.file_size().await.unwrap() / BLOCK_BYTES as u64;
    for _ in 0..DEPTH {
        let (own, count, file) = (core.clone(), count.clone(), file.clone());
        let (gate, pass) = (gate.clone(), gate.enter());
        core.spawn(Group::Client, "read", async move {
            while !gate.is_closing() {
                let offset = own.random_u64() % blocks * BLOCK_BYTES as u64;
                let block = file.read_at_aligned(offset, BLOCK_BYTES).await.unwrap();
                assert_eq!(block.len(), BLOCK_BYTES);
                count.set(count.get() + 1);
            }
            drop(pass);
        });
    }
}

/// A block of memory that O_DIRECT accepts.
struct Aligned(NonNull<u8>);

const LAYOUT: Layout = match Layout::from_size_align(BLOCK_BYTES, BLOCK_BYTES) {
    Ok(layout) => layout,
    Err(_) => panic!("a block has a layout"),
};

impl Aligned {
    fn new() -> Self {
        // SAFETY: the layout is not empty.
        Self(NonNull::new(unsafe { alloc_zeroed(LAYOUT) }).unwrap())
    }
}

impl Drop for Aligned {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.0.as_ptr(), LAYOUT) }
    }
}
