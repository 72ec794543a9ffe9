//! CPU per 4 KiB random read and write: through the seam, against a bare io_uring loop and against pread.
//!
//! `cargo bench -p nvme` measures; under `cargo test` a few I/Os show that it still works. TEST_NVME_BENCH names the
//! folder for its file (default: one of cargo's), since a file in memory shows nothing about direct I/O.
//!
//! Expected before the first run: the seam costs at most 1 µs more than the bare loop with the same registration. What
//! it does per I/O: two small allocations, one wake-up and one poll of a task.

#![expect(clippy::unwrap_used, unsafe_code, reason = "a bench; it has a bare loop to compare with")]

use std::cell::Cell;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, squeue, types};
use nvme::{BlockDevice, BlockingDevice, DmaBuf, OpenOptions, Polling, Space, UringDevice};
use rt::sim::RandomStream;
use rt::uring::Config;
use rt::{CoreId, Group};

const BLOCK: u64 = 4096;

#[derive(Clone, Copy)]
struct Size {
    file: u64,
    ios: u64,
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Read,
    Write,
}

/// Time and CPU of so many I/Os.
struct Cost {
    wall: Duration,
    cpu: Duration,
}

fn main() {
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let size = if measuring {
        Size { file: 1 << 30, ios: 30_000, rounds: 5 }
    } else {
        Size { file: 4 << 20, ios: 200, rounds: 1 }
    };
    let folder = std::env::var_os("TEST_NVME_BENCH").unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    let directory = tempfile::tempdir_in(folder).unwrap();
    let path = directory.path().join("bench");
    prepare(&path, size.file);
    println!("medians of {} rounds of {} I/Os of {BLOCK} bytes, interleaved", size.rounds, size.ios);
    for direction in [Direction::Read, Direction::Write] {
        for depth in [1, 32] {
            compare(&path, size, direction, depth);
        }
    }
}

/// A file whose blocks are all written, since reading holes and first writes cost something else.
fn prepare(path: &Path, len: u64) {
    nvme::create(path, len, Space::Reserved).unwrap();
    let file = nvme::open(path, &options()).unwrap().blocking();
    let chunk = DmaBuf::zeroed(1 << 20);
    for offset in (0..len).step_by(chunk.len()) {
        file.write_at(offset, &chunk).unwrap();
    }
    file.flush().unwrap();
}

fn options() -> OpenOptions {
    OpenOptions { allow_buffered: true, ..OpenOptions::default() }
}

fn compare(path: &Path, size: Size, direction: Direction, depth: u64) {
    type Run = fn(&Path, Size, Direction, u64) -> Cost;
    let mut contenders: Vec<(&str, Run)> = vec![
        ("bare io_uring, registered file and buffers", |path, size, direction, depth| {
            bare(path, size, direction, depth, true)
        }),
        ("bare io_uring", |path, size, direction, depth| bare(path, size, direction, depth, false)),
        ("through the seam", seam),
    ];
    if depth == 1 {
        contenders.push(("pread or pwrite", blocking));
    }
    let mut costs: Vec<Vec<Cost>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..size.rounds {
        for ((_, run), costs) in contenders.iter().zip(&mut costs) {
            costs.push(run(path, size, direction, depth));
        }
    }
    for ((name, _), mut costs) in contenders.into_iter().zip(costs) {
        costs.sort_by_key(|cost| cost.cpu);
        let median = &costs[costs.len() / 2];
        println!(
            "{direction:?} depth {depth:2}  {name:43} {:6.2} us CPU/IO  {:8.0} IO/s",
            median.cpu.as_secs_f64() * 1e6 / size.ios as f64,
            size.ios as f64 / median.wall.as_secs_f64()
        );
    }
}

/// CPU of all threads of the process, the kernel's workers for its rings included.
fn cpu_time() -> Duration {
    // SAFETY: all zeroes is a rusage, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage), 0);
        usage
    };
    let duration = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

fn measure(body: impl FnOnce()) -> Cost {
    let (wall, cpu) = (Instant::now(), cpu_time());
    body();
    Cost { wall: wall.elapsed(), cpu: cpu_time() - cpu }
}

struct Offsets(RandomStream, u64);

impl Offsets {
    fn new(size: Size) -> Self {
        Self(RandomStream::new(1, "offsets"), size.file / BLOCK)
    }

    fn next(&mut self) -> u64 {
        self.0.below(self.1) * BLOCK
    }
}

fn seam(path: &Path, size: Size, direction: Direction, depth: u64) -> Cost {
    let file = nvme::open(path, &options()).unwrap();
    rt::uring::run(CoreId(0), &Config::default(), |core| async move {
        let device = Rc::new(UringDevice::attach(&core, file, Polling::WherePossible).unwrap());
        let (wall, cpu) = (Instant::now(), cpu_time());
        let left = Rc::new(Cell::new(size.ios));
        let mut ends = Vec::new();
        for lane in 0..depth {
            let (device, left) = (device.clone(), left.clone());
            let (done, end) = rt::sync::oneshot();
            ends.push(end);
            let mut offsets = Offsets(RandomStream::new(lane, "offsets"), size.file / BLOCK);
            drop(core.spawn(Group::Client, "bench", async move {
                let mut buf = DmaBuf::zeroed(BLOCK as usize);
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    buf = match direction {
                        Direction::Read => device.read(offsets.next(), buf).await.unwrap(),
                        Direction::Write => device.write(offsets.next(), buf).await.unwrap(),
                    };
                }
                let _ = done.send(());
            }));
        }
        for end in ends {
            end.await.unwrap();
        }
        Cost { wall: wall.elapsed(), cpu: cpu_time() - cpu }
    })
    .unwrap()
}

fn blocking(path: &Path, size: Size, direction: Direction, _: u64) -> Cost {
    let device = nvme::open(path, &options()).unwrap().blocking();
    let mut buf = DmaBuf::zeroed(BLOCK as usize);
    let mut offsets = Offsets::new(size);
    measure(|| {
        for _ in 0..size.ios {
            match direction {
                Direction::Read => device.read_at(offsets.next(), &mut buf).unwrap(),
                Direction::Write => device.write_at(offsets.next(), &buf).unwrap(),
            }
        }
    })
}

/// What is left when there is nothing but the ring.
fn bare(path: &Path, size: Size, direction: Direction, depth: u64, registered: bool) -> Cost {
    let open = |flags| std::fs::OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let file = open(libc::O_DIRECT).or_else(|_| open(0)).unwrap();
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_defer_taskrun();
    let mut ring = builder.build(64).or_else(|_| IoUring::new(64)).unwrap();
    let mut bufs: Vec<DmaBuf> = (0..depth).map(|_| DmaBuf::zeroed(BLOCK as usize)).collect();
    let registered = registered && register(&ring, &file, &mut bufs);
    let mut offsets = Offsets::new(size);
    let fd = file.as_raw_fd();
    let mut entry = |slot: u64, buf: &mut DmaBuf| {
        entry(direction, registered, fd, slot, buf.as_mut_ptr(), offsets.next()).user_data(slot)
    };
    measure(|| {
        let (mut submitted, mut completed) = (0, 0);
        let push = |ring: &mut IoUring, entry: &squeue::Entry| {
            // SAFETY: the buffers outlive the loop, which waits for all, and each has one I/O at a time.
            unsafe { ring.submission().push(entry).unwrap() };
        };
        for slot in 0..depth.min(size.ios) {
            let entry = entry(slot, &mut bufs[slot as usize]);
            push(&mut ring, &entry);
            submitted += 1;
        }
        while completed < size.ios {
            ring.submit_and_wait(1).unwrap();
            let done: Vec<(u64, i32)> =
                ring.completion().map(|entry| (entry.user_data(), entry.result())).collect();
            for (slot, result) in done {
                assert_eq!(result, BLOCK as i32);
                completed += 1;
                if submitted < size.ios {
                    let entry = entry(slot, &mut bufs[slot as usize]);
                    push(&mut ring, &entry);
                    submitted += 1;
                }
            }
        }
    })
}

/// False where the limit of locked memory is too low.
fn register(ring: &IoUring, file: &std::fs::File, bufs: &mut [DmaBuf]) -> bool {
    let vectors: Vec<libc::iovec> = bufs
        .iter_mut()
        .map(|buf| libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() })
        .collect();
    // SAFETY: the buffers outlive the ring's I/Os.
    let buffers = unsafe { ring.submitter().register_buffers(&vectors) };
    buffers.is_ok() && ring.submitter().register_files(&[file.as_raw_fd()]).is_ok()
}

fn entry(
    direction: Direction,
    registered: bool,
    fd: RawFd,
    slot: u64,
    address: *mut u8,
    offset: u64,
) -> squeue::Entry {
    let (len, fixed, fd) = (BLOCK as u32, types::Fixed(0), types::Fd(fd));
    match (direction, registered) {
        (Direction::Read, true) => {
            opcode::ReadFixed::new(fixed, address, len, slot as u16).offset(offset).build()
        }
        (Direction::Write, true) => {
            opcode::WriteFixed::new(fixed, address, len, slot as u16).offset(offset).build()
        }
        (Direction::Read, false) => opcode::Read::new(fd, address, len).offset(offset).build(),
        (Direction::Write, false) => opcode::Write::new(fd, address, len).offset(offset).build(),
    }
}
