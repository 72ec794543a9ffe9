//! Tests of the real reactor itself; what every world must do is in [`crate::suite`].

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use io_uring::{opcode, types};

use super::*;
use crate::core::{Core, CoreId, Group, Lane};
use crate::mailbox::mailbox;
use crate::suite;

fn in_world<T: 'static, F: Future<Output = T> + 'static>(config: &Config, main: impl FnOnce(Core) -> F) -> T {
    run(CoreId(0), config, main).unwrap()
}

fn ring(core: &Core) -> Ring {
    core.world().downcast_ref::<UringCore>().unwrap().ring().clone()
}

#[test]
fn suite_as_usual() {
    suite::run_all(|test| in_world(&Config::default(), test));
}

#[test]
fn suite_without_receive_buffers() {
    suite::run_all(|test| in_world(&Config { recv_buffers: 0, ..Config::default() }, test));
}

#[test]
fn suite_as_on_an_old_kernel() {
    suite::run_all(|test| in_world(&Config { basic: true, ..Config::default() }, test));
}

#[test]
fn suite_with_few_small_receive_buffers() {
    let config = Config { recv_buffers: 4, recv_buffer_bytes: 4096, ..Config::default() };
    suite::run_all(|test| in_world(&config, test));
}

#[test]
fn suite_spinning() {
    suite::run_all(|test| in_world(&Config { spin: Duration::from_millis(1), ..Config::default() }, test));
}

#[test]
fn mailboxes_and_foreign_work_cross_threads() {
    let bridge = crate::alien::Bridge::start(&BridgeConfig::default()).unwrap();
    let config = Config { bridge: Some(bridge), ..Config::default() };
    let (to_pong, mut pong) = mailbox::<u64>(2);
    let (to_ping, mut ping) = mailbox::<u64>(2);
    let other = spawn_core(CoreId(1), config.clone(), move |core| async move {
        let mut last = 0;
        while let Some(number) = pong.recv().await {
            last = core.alien(Lane::Read, move || number + 1).await;
            to_ping.send(last).await.unwrap();
        }
        last
    })
    .unwrap();
    let sum = in_world(&config, |_| async move {
        let mut number = 0;
        for _ in 0..500 {
            to_pong.send(number).await.unwrap();
            number = ping.recv().await.unwrap();
        }
        number
    });
    assert_eq!(sum, 500);
    assert_eq!(other.join().unwrap(), 500);
}

/// What a buffer on the heap looks like to the tests.
type Memory = Vec<u8>;

#[expect(unsafe_code, reason = "the kernel gets pointers")]
fn read(ring: &Ring, file: Rc<File>, offset: u64, len: usize) -> Op<(Rc<File>, Memory)> {
    let fd = types::Fd(file.as_raw_fd());
    // SAFETY: memory on the heap and descriptor belong to the operation.
    unsafe {
        ring.submit((file, vec![0; len]), |(_, memory)| {
            opcode::Read::new(fd, memory.as_mut_ptr(), memory.len() as u32).offset(offset).build()
        })
    }
}

fn file(content: &[u8]) -> Rc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Rc::new(file)
}

#[test]
fn operations_on_files() {
    in_world(&Config::default(), |core| async move {
        let ring = ring(&core);
        let content: Vec<u8> = (0..100_000_u32).map(|place| (place / 7) as u8).collect();
        let file = file(&content);
        // More than the submission queue holds, all submitted before the first is waited for.
        let reads: Vec<_> = (0..3000).map(|number| read(&ring, file.clone(), number * 30, 64)).collect();
        for (number, op) in reads.into_iter().enumerate() {
            let (result, (_, memory)) = op.await;
            assert_eq!(result.unwrap(), 64);
            assert!(memory == content[number * 30..number * 30 + 64]);
        }
        let (result, _) = read(&ring, file.clone(), 1 << 40, 64).await;
        assert_eq!(result.unwrap(), 0);
        let closed = Rc::new(File::open("/").unwrap());
        let (result, _) = read(&ring, closed, 0, 64).await;
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EISDIR));
    });
}

#[test]
fn registered_files_and_buffers() {
    in_world(&Config::default(), |core| async move {
        let ring = ring(&core);
        let file = file(b"registered");
        for _ in 0..3 {
            let registered = Rc::new(ring.register_file(file.as_raw_fd()).unwrap());
            let mut memory = vec![0_u8; 4096];
            #[expect(unsafe_code, reason = "the kernel gets pointers")]
            // SAFETY: the memory outlives the registration, which the operation owns and which ends first below.
            let buffer = Rc::new(unsafe { ring.register_buffer(memory.as_mut_ptr(), memory.len()).unwrap() });
            let (fixed, index) = (registered.fixed(), buffer.index());
            #[expect(unsafe_code, reason = "the kernel gets pointers")]
            // SAFETY: registrations and memory belong to the operation.
            let op = unsafe {
                ring.submit((registered, buffer, memory), |(_, _, memory)| {
                    opcode::ReadFixed::new(fixed, memory.as_mut_ptr(), 4096, index).build()
                })
            };
            let (result, (_, _, memory)) = op.await;
            assert_eq!(result.unwrap(), 10);
            assert_eq!(&memory[..10], b"registered");
        }
    });
}

/// Tells when it is dropped.
struct Owned(Memory, Rc<Cell<u32>>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn resources_stay_until_the_kernel_is_done() {
    let drops = Rc::new(Cell::new(0));
    let count = drops.clone();
    in_world(&Config::default(), |core| async move {
        let ring = ring(&core);
        let (reading, mut writing) = std::io::pipe().unwrap();
        let reading = Rc::new(reading);
        let fd = types::Fd(reading.as_raw_fd());
        let submit = || {
            let resources = (Owned(vec![0; 16], count.clone()), reading.clone());
            #[expect(unsafe_code, reason = "the kernel gets pointers")]
            // SAFETY: memory on the heap and descriptor belong to the operation.
            unsafe {
                ring.submit(resources, |(owned, _)| opcode::Read::new(fd, owned.0.as_mut_ptr(), 16).build())
            }
        };
        let before = ring.in_flight();
        // Dropped: runs on, and eats the bytes.
        drop(submit());
        core.sleep(Duration::from_millis(5)).await;
        assert_eq!((count.get(), ring.in_flight()), (0, before + 1));
        writing.write_all(b"0123456789abcdef").unwrap();
        core.sleep(Duration::from_millis(5)).await;
        assert_eq!((count.get(), ring.in_flight()), (1, before));
        // Dropped and cancelled: ends without a byte.
        drop(submit().cancel_on_drop());
        core.sleep(Duration::from_millis(5)).await;
        assert_eq!((count.get(), ring.in_flight()), (2, before));
        // Submitted at the call, not at the first poll; still in flight when the world ends.
        drop(submit());
        let waiting = submit();
        core.spawn(Group::Client, "waits for ever", async move { drop(waiting.await) });
    });
    assert_eq!(drops.get(), 4);
}

#[test]
fn stalls_are_named() {
    let stalls = in_world(&Config::default(), |core| async move {
        let own = core.clone();
        core.spawn(Group::Client, "staller", async move {
            let start = own.now();
            while own.now().0 - start.0 < 2_000_000 {}
        });
        core.sleep(Duration::from_millis(5)).await;
        core.world().downcast_ref::<UringCore>().unwrap().stalls()
    });
    assert!(stalls.by_name()["staller"].longest >= Duration::from_millis(2));
}

#[test]
fn idle_cores_sleep_and_bells_wake_them() {
    let (sender, mut receiver) = mailbox::<u32>(1);
    let core = spawn_core(CoreId(0), Config::default(), |_| async move { receiver.recv().await }).unwrap();
    // From a thread that is no core.
    std::thread::spawn(move || sender.try_send(7).unwrap()).join().unwrap();
    assert_eq!(core.join().unwrap(), Some(7));
}

#[test]
fn a_panicking_task_ends_its_world() {
    let result = std::panic::catch_unwind(|| {
        in_world(&Config::default(), |core| async move {
            core.spawn(Group::Client, "panics", async { panic!("on purpose") });
            std::future::pending::<()>().await;
        })
    });
    assert!(result.is_err());
    in_world(&Config::default(), |core| async move { core.yield_now().await });
}

#[test]
fn more_operations_than_the_rings_have_room_for() {
    in_world(&Config::default(), |core| async move {
        let ring = ring(&core);
        #[expect(unsafe_code, reason = "submitting is")]
        // SAFETY: nothing is pointed to.
        let submit = |number: u32| unsafe { ring.submit(number, |_| opcode::Nop::new().build()) };
        let ops: Vec<_> = (0..30_000).map(submit).collect();
        for (number, op) in ops.into_iter().enumerate() {
            let (result, resources) = op.await;
            assert_eq!((result.unwrap(), resources), (0, number as u32));
        }
        let too_many: Vec<_> = (0..crate::limits::RING_OPS_MAX as u32).map(submit).collect();
        let mut refused = 0;
        for op in too_many {
            if let (Err(error), _) = op.await {
                assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
                refused += 1;
            }
        }
        // The bell is the one operation that was in flight before.
        assert_eq!(refused, 1);
    });
}

#[test]
fn an_abort_resets() {
    in_world(&Config::default(), |core| async move {
        let mut listener = core.listen(([127, 0, 0, 1], 0).into()).unwrap();
        let mut client = core.connect(listener.local_addr()).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        // A read is under way, which keeps the descriptor open for a while.
        assert!(crate::sync::timeout(&core, Duration::from_millis(2), client.reader.read()).await.is_err());
        client.writer.abort();
        let error = server.reader.read().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn no_descriptor_leaks() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let count = || {
        in_world(&Config::default(), move |core| async move {
            let mut listener = core.listen(([127, 0, 0, 1], 0).into()).unwrap();
            let before = open();
            for round in 0..50 {
                let mut client = core.connect(listener.local_addr()).await.unwrap();
                let server = listener.accept().await.unwrap();
                assert!(crate::sync::timeout(&core, Duration::ZERO, client.reader.read()).await.is_err());
                match round % 3 {
                    0 => client.writer.abort(),
                    1 => drop(server),
                    _ => {}
                }
            }
            core.sleep(Duration::from_millis(20)).await;
            (before, open())
        })
    };
    // Other tests open and close descriptors meanwhile: one undisturbed round of many is proof enough.
    assert!((0..20).any(|_| matches!(count(), (before, after) if after <= before)));
}
