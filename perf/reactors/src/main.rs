//! Compares the two real backends on the same code: CPU per echoed message, CPU per read from a file.
//!
//! Expected before the first run (from probes with hand-written loops): 7 us of server CPU per 4 KiB round trip at 64
//! connections on our reactor and 11 to 13 on glommio; 43 and 70 at one connection, where each round trip pays a
//! wake-up; 5 to 6 and 6 to 8 us per read, where the device's rate hides most of the difference.
//!
//! Rounds are interleaved, uring glommio uring glommio; the medians count. CPU is that of the whole process without
//! the clients' thread, so helper threads of a backend count as its own.
//!
//! `cargo bench -p rt --features glommio [-- --seconds S --rounds N --only TEXT --json FILE]`.
//! Under `cargo test` it runs for an instant, so that it cannot rot.

#![expect(unsafe_code, clippy::unwrap_used, reason = "a bench")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use io_uring::{opcode, types};
use rt::sync::Gate;
use rt::uring::{Ring, UringCore};
use rt::{Core, CoreId, Group, glommio_world, uring};

const MESSAGE_BYTES: usize = 4096;
const BLOCK_BYTES: usize = 4096;
const DEPTH: usize = 32;
const SERVER_CPU: usize = 0;
const CLIENT_CPU: usize = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backend {
    Uring,
    Glommio,
}

const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Glommio];

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Glommio => "glommio",
        }
    }
}

/// One measurement of one backend.
#[derive(Clone, Copy)]
struct Sample {
    cpu: Duration,
    time: Duration,
    ops: u64,
}

struct Settings {
    time: Duration,
    rounds: usize,
    file_bytes: u64,
    json: Option<PathBuf>,
    /// Only comparisons whose name has this in it.
    only: String,
}

fn main() {
    let settings = settings();
    let file = prepare_file(settings.file_bytes);
    let mut results = Vec::new();
    let wanted = |name: &str| name.contains(&settings.only);
    for connections in [1, 64] {
        let name = format!("echo of {MESSAGE_BYTES} bytes, {connections} connections");
        if wanted(&name) {
            results.push(compare(&name, &settings, |backend| echo(backend, connections, settings.time)));
        }
    }
    let name = format!("read of {BLOCK_BYTES} bytes from a file, depth {DEPTH}");
    if wanted(&name) {
        results.push(compare(&name, &settings, |backend| read(backend, &file, settings.time)));
    }
    let _ = std::fs::remove_file(&file);
    let json = serde_json::json!({ "seconds": settings.time.as_secs_f64(), "results": results });
    match &settings.json {
        Some(path) => std::fs::write(path, format!("{json:#}\n")).unwrap(),
        None => println!("{json}"),
    }
}

fn settings() -> Settings {
    let mut arguments = std::env::args().skip(1);
    let mut settings = Settings {
        time: Duration::from_millis(30),
        rounds: 1,
        file_bytes: 4 << 20,
        json: None,
        only: String::new(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} wants a value"));
        match argument.as_str() {
            "--bench" => {
                settings.time = Duration::from_millis(1500);
                settings.rounds = 5;
                settings.file_bytes = 512 << 20;
            }
            "--seconds" => settings.time = Duration::from_secs_f64(value().parse().unwrap()),
            "--rounds" => settings.rounds = value().parse().unwrap(),
            "--only" => settings.only = value(),
            "--json" => settings.json = Some(value().into()),
            // What the test harness passes on.
            _ => {}
        }
    }
    settings
}

/// Runs interleaved rounds, prints and gives the medians.
fn compare(name: &str, settings: &Settings, measure: impl Fn(Backend) -> Sample) -> serde_json::Value {
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..settings.rounds {
        for (backend, samples) in BACKENDS.into_iter().zip(&mut samples) {
            samples.push(measure(backend));
        }
    }
    println!("{name}");
    let mut values = serde_json::Map::new();
    values.insert("name".into(), name.into());
    let mut medians = Vec::new();
    for (backend, samples) in BACKENDS.into_iter().zip(&samples) {
        let cpu = spread(samples.iter().map(|sample| sample.cpu.as_secs_f64() * 1e6 / sample.ops as f64));
        let rate = spread(samples.iter().map(|sample| sample.ops as f64 / sample.time.as_secs_f64()));
        println!(
            "  {:8} {:7.2} us CPU each ({:.2} to {:.2})   {:9.0}/s",
            backend.name(),
            cpu[1],
            cpu[0],
            cpu[2],
            rate[1]
        );
        medians.push(cpu[1]);
        let numbers = serde_json::json!({
            "cpu_us_min": cpu[0], "cpu_us_median": cpu[1], "cpu_us_max": cpu[2], "per_second_median": rate[1],
        });
        values.insert(backend.name().into(), numbers);
    }
    println!("  glommio / uring: {:.2}", medians[1] / medians[0]);
    values.insert("ratio".into(), (medians[1] / medians[0]).into());
    values.into()
}

/// Least, median and most.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2], values[values.len() - 1]]
}

/// CPU time of the calling thread, or of the whole process.
fn cpu_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is valid.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Runs a core of this backend on a thread of its own.
fn start<T: Send + 'static, F: Future<Output = T> + 'static>(
    backend: Backend,
    main: impl FnOnce(Core) -> F + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(move || match backend {
        Backend::Uring => {
            let config = uring::Config { cpus: vec![SERVER_CPU], ..uring::Config::default() };
            uring::run(CoreId(0), &config, main).unwrap()
        }
        Backend::Glommio => {
            let config = glommio_world::Config { cpu: Some(SERVER_CPU), ..glommio_world::Config::default() };
            glommio_world::run(CoreId(0), &config, main).unwrap()
        }
    })
}

fn echo(backend: Backend, connections: usize, time: Duration) -> Sample {
    let (say, hear) = mpsc::channel();
    let (stop, mut stopped) = rt::mailbox::mailbox::<()>(1);
    let server = start(backend, move |core| async move {
        let mut listener = core.listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        say.send(listener.local_addr()).unwrap();
        let serving = core.clone();
        core.spawn(Group::Client, "accept", async move {
            while let Ok(mut stream) = listener.accept().await {
                serving.spawn(Group::Client, "echo", async move {
                    while let Ok(bytes) = stream.reader.read().await {
                        if bytes.is_empty() || stream.writer.write_all(vec![bytes]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        stopped.recv().await;
    });
    let address = hear.recv().unwrap();
    // The same clients for both.
    let config = uring::Config { cpus: vec![CLIENT_CPU], ..uring::Config::default() };
    let clients = uring::spawn_core(CoreId(1), config, move |core| async move {
        let count = Rc::new(Cell::new(0_u64));
        for _ in 0..connections {
            let count = count.clone();
            let mut stream = core.connect(address).await.unwrap();
            core.spawn(Group::Client, "client", async move {
                let message = Bytes::from(vec![7; MESSAGE_BYTES]);
                loop {
                    stream.writer.write_all(vec![message.clone()]).await.unwrap();
                    let mut got = 0;
                    while got < MESSAGE_BYTES {
                        let bytes = stream.reader.read().await.unwrap();
                        assert!(!bytes.is_empty());
                        got += bytes.len();
                    }
                    count.set(count.get() + 1);
                }
            });
        }
        measure(&core, time, &count, |thread| thread).await
    })
    .unwrap();
    let sample = clients.join().unwrap();
    stop.try_send(()).unwrap();
    server.join().unwrap();
    sample
}

/// Operations over `time`, or longer if there were none, and the CPU of the process for them without what `spare` says
/// of the calling thread's.
async fn measure(
    core: &Core,
    time: Duration,
    count: &Cell<u64>,
    spare: impl Fn(Duration) -> Duration,
) -> Sample {
    let clocks = || (cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID), cpu_time(libc::CLOCK_THREAD_CPUTIME_ID));
    core.sleep(time / 4).await;
    let (start, (process, thread), before) = (core.now(), clocks(), count.get());
    core.sleep(time).await;
    while count.get() == before {
        core.sleep(Duration::from_millis(10)).await;
    }
    let after = clocks();
    // The clock of the process may lag a little behind those of its threads.
    let cpu = after.0.saturating_sub(process).saturating_sub(spare(after.1.saturating_sub(thread)));
    Sample { cpu, time: Duration::from_nanos(core.now().0 - start.0), ops: count.get() - before }
}

/// A file that is on the disk, not only in memory.
fn prepare_file(bytes: u64) -> PathBuf {
    let folder = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("rt-compare-{}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    let chunk: Vec<u8> = (0..1_u32 << 20).map(|place| place.wrapping_mul(2_654_435_761) as u8).collect();
    for _ in 0..bytes / chunk.len() as u64 {
        file.write_all(&chunk).unwrap();
    }
    file.sync_all().unwrap();
    path
}

/// Random blocks, `DEPTH` at a time, past the page cache.
fn read(backend: Backend, path: &Path, time: Duration) -> Sample {
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
