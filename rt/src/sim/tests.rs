//! Tests of the simulated world itself; what every world must do is in [`crate::suite`].

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::core::Lane;
use crate::net::Stream;

fn sim(seed: u64) -> Sim {
    Sim::new(seed, Config { trace: true, ..Config::default() })
}

const PORT: u16 = 6800;

#[test]
fn suite_in_many_worlds() {
    for seed in 0..6 {
        crate::suite::run_all(|test| sim(seed).run(0, test));
    }
}

/// Host 0 serves echo for ever; host 1 sends `count` messages on each of four connections and checks the answers.
fn echo(sim: &Sim, count: usize) -> Rc<Cell<usize>> {
    let server = sim.core(0);
    let accepting = server.clone();
    server.spawn(Group::Client, "accept", async move {
        let mut listener = accepting.listen(address(0, PORT)).unwrap();
        while let Ok(mut stream) = listener.accept().await {
            accepting.spawn(Group::Client, "serve", async move {
                while let Ok(bytes) = stream.reader.read().await {
                    if bytes.is_empty() || stream.writer.write_all(vec![bytes]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    let client = sim.core(1);
    let done = Rc::new(Cell::new(0));
    for connection in 0..4_u8 {
        let (core, done) = (client.clone(), done.clone());
        client.spawn(Group::Client, "client", async move {
            let Ok(mut stream) = connect(&core).await else { return };
            for number in 0..count {
                let message = vec![connection ^ number as u8; 1 + number * 37 % 9000];
                if exchange(&mut stream, message).await.is_err() {
                    return;
                }
            }
            done.set(done.get() + 1);
        });
    }
    done
}

/// Tries until somebody listens.
async fn connect(core: &Core) -> io::Result<Stream> {
    loop {
        match core.connect(address(0, PORT)).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                core.sleep(Duration::from_millis(1)).await;
            }
            other => return other,
        }
    }
}

async fn exchange(stream: &mut Stream, message: Vec<u8>) -> io::Result<()> {
    stream.writer.write_all(vec![Bytes::from(message.clone())]).await?;
    let mut got = Vec::new();
    while got.len() < message.len() {
        let bytes = stream.reader.read().await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        got.extend_from_slice(&bytes);
    }
    assert!(got == message, "an echo came back changed");
    Ok(())
}

#[test]
fn one_seed_runs_the_same_twice_and_others_differ() {
    let run = |seed| {
        let sim = sim(seed);
        let done = echo(&sim, 20);
        sim.run_until_idle();
        assert_eq!(done.get(), 4);
        (sim.hash(), sim.trace_text())
    };
    let (first, second, third) = (run(3), run(3), run(4));
    assert!(first == second, "the runs of one seed differ");
    assert_ne!(first.0, third.0);
}

#[test]
fn worlds_side_by_side_do_not_touch() {
    let alone = sim(3);
    echo(&alone, 10);
    alone.run_until_idle();
    let (a, b) = (sim(3), sim(5));
    echo(&a, 10);
    echo(&b, 10);
    while a.step() | b.step() {}
    assert_eq!(a.hash(), alone.hash());
}

#[test]
fn kill_between_any_two_steps() {
    let mut steps = 0;
    loop {
        let sim = sim(9);
        let done = echo(&sim, 10);
        let killed = (0..steps).all(|_| sim.step());
        let alive = sim.core(0);
        sim.kill(0);
        assert!(!sim.is_alive(0) && alive.listen(address(0, 1)).is_err());
        alive.spawn(Group::Client, "late", async { unreachable!("a killed host runs nothing") });
        // Peers learn of it: their tasks end instead of waiting for ever (a connect may wait for its time-out).
        sim.run_for(Duration::from_secs(30));
        assert_eq!(sim.tasks(1), 0, "after {steps} steps");
        if !killed {
            assert_eq!(done.get(), 4);
            break;
        }
        steps += 7;
    }
    assert!(steps > 100);
}

#[test]
fn a_host_lives_again() {
    let sim = sim(2);
    let before = echo(&sim, 1000);
    sim.run_for(Duration::from_millis(20));
    sim.kill(0);
    sim.kill(1);
    assert_eq!((sim.tasks(0), sim.tasks(1), before.get()), (0, 0, 0));
    let after = echo(&sim, 10);
    sim.run_until_idle();
    assert_eq!(after.get(), 4);
}

#[test]
fn silent_death_leaves_peers_half_open_until_the_next_life() {
    let sim = sim(8);
    echo(&sim, 100_000);
    sim.run_for(Duration::from_millis(20));
    sim.kill_silently(0);
    sim.run_for(Duration::from_secs(600));
    assert_eq!(sim.tasks(1), 4, "clients notice nothing");
    sim.core(0);
    sim.run_for(Duration::from_secs(1));
    assert_eq!(sim.tasks(1), 0, "resets tell them");
}

#[test]
fn a_cut_holds_back_and_healing_goes_on() {
    let sim = sim(8);
    let done = echo(&sim, 200);
    sim.run_for(Duration::from_millis(10));
    sim.partition(&[0], &[1]);
    sim.run_for(Duration::from_secs(60));
    assert_eq!((done.get(), sim.tasks(1)), (0, 4));
    sim.heal();
    sim.run_until_idle();
    assert_eq!(done.get(), 4);
}

#[test]
fn connecting_fails_as_it_should() {
    let sim = sim(1);
    sim.core(0);
    let refused = sim.run(1, |core| async move { core.connect(address(0, 9)).await.err().map(|e| e.kind()) });
    assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    let absent = sim.run(1, |core| async move { core.connect(address(77, 9)).await.err().map(|e| e.kind()) });
    assert_eq!(absent, Some(io::ErrorKind::TimedOut));
    let taken = sim.run(1, |core| async move {
        let _listener = core.listen(address(1, PORT)).unwrap();
        core.listen(address(1, PORT)).err().map(|e| e.kind())
    });
    assert_eq!(taken, Some(io::ErrorKind::AddrInUse));
    let foreign = sim.run(1, |core| async move { core.listen(address(2, PORT)).err().map(|e| e.kind()) });
    assert_eq!(foreign, Some(io::ErrorKind::AddrNotAvailable));
}

#[test]
fn resets_come_from_the_seed() {
    let mut config = Config::default();
    config.link.reset_ppm = 20_000;
    let sim = Sim::new(4, config);
    let done = echo(&sim, 100);
    sim.run_until_idle();
    assert!(done.get() < 4 && sim.tasks(1) == 0);
}

#[test]
fn connections_overtake_each_other() {
    let orders: std::collections::BTreeSet<Vec<usize>> = (0..20)
        .map(|seed| {
            let sim = sim(seed);
            let order = Rc::new(RefCell::new(Vec::new()));
            let server = sim.core(0);
            let (accepting, log) = (server.clone(), order.clone());
            server.spawn(Group::Client, "accept", async move {
                let mut listener = accepting.listen(address(0, PORT)).unwrap();
                for _ in 0..3 {
                    let mut stream = listener.accept().await.unwrap();
                    let log = log.clone();
                    accepting.spawn(Group::Client, "serve", async move {
                        let bytes = stream.reader.read().await.unwrap();
                        log.borrow_mut().push(bytes[0] as usize);
                    });
                }
            });
            sim.run(1, |core| async move {
                let mut streams = Vec::new();
                for _ in 0..3 {
                    streams.push(connect(&core).await.unwrap());
                }
                for (number, stream) in streams.iter_mut().enumerate() {
                    stream.writer.write_all(vec![Bytes::from(vec![number as u8])]).await.unwrap();
                }
                core.sleep(Duration::from_secs(1)).await;
            });
            order.take()
        })
        .collect();
    assert!(orders.len() >= 4, "{orders:?}");
}

#[test]
fn foreign_work_ends_with_its_host() {
    let sim = sim(6);
    let ran = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let submit = |core: &Core| {
        let ran = ran.clone();
        // Dropping the future does not undo the work.
        drop(core.alien(Lane::Read, move || ran.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
    };
    submit(&sim.core(0));
    sim.run_until_idle();
    assert_eq!(ran.load(std::sync::atomic::Ordering::Relaxed), 1);
    submit(&sim.core(0));
    sim.kill(0);
    sim.run_until_idle();
    assert_eq!(ran.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn wall_clocks_jump_and_the_monotonic_clock_does_not() {
    let config = Config { wall_clock_jump_every: Duration::from_secs(1), ..Config::default() };
    let sim = Sim::new(1, config);
    let (core, mut back) = (sim.core(0), 0);
    let mut last = (core.now(), core.wall_clock());
    for _ in 0..50 {
        sim.run_for(Duration::from_secs(1));
        let next = (core.now(), core.wall_clock());
        assert!(next.0 > last.0);
        back += usize::from(next.1 < last.1);
        last = next;
    }
    assert!(back > 5, "{back}");
    let before = core.wall_clock().0;
    sim.set_wall_clock_offset(0, -5_000_000_000);
    assert_eq!(core.wall_clock().0, before - 5_000_000_000);
}

#[test]
fn a_spinning_task_does_not_stop_time() {
    let sim = sim(1);
    sim.run(0, |core| async move {
        while core.now() < Nanos(1_000_000) {
            core.yield_now().await;
        }
    });
}

#[test]
fn calls_happen_at_their_time() {
    let sim = sim(1);
    let seen = Rc::new(Cell::new(Nanos(0)));
    let set = seen.clone();
    sim.at(Nanos(5_000), move |sim| set.set(sim.now()));
    sim.run_until(Nanos(10_000));
    assert_eq!((seen.get(), sim.now()), (Nanos(5_000), Nanos(10_000)));
}

#[test]
fn a_limit_on_virtual_time_holds() {
    let sim = sim(1);
    let forever = |core: Core| async move {
        loop {
            core.sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(sim.run_within::<(), _>(0, Duration::from_secs(1), forever), None);
    assert!(sim.now().0 >= 1_000_000_000 && sim.steps() > 1000);
    assert_eq!(sim.run_within(0, Duration::from_secs(1), |_| async { 5 }), Some(5));
}

/// A stream that is a pattern, through everything that can happen: what arrives is a prefix of it, and all of it if
/// the reader sees an orderly end.
#[test]
fn under_faults_streams_arrive_in_order() {
    const TOTAL: usize = 400_000;
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..60 {
        let mut config = Config::default();
        config.link.reset_ppm = 300;
        config.link.slow_ppm = 50_000;
        config.window_bytes = 20_000;
        let sim = Sim::new(seed, config);
        let mut faults = sim.random_stream("test/faults");
        for _ in 0..6 {
            let time = Nanos(faults.below(60_000_000));
            let kind = faults.below(8);
            sim.at(time, move |sim| match kind {
                0 => sim.kill(1),
                1 => sim.kill_silently(0),
                2 => sim.reset_connections(0, 1),
                3 | 4 => sim.cut(0, 1),
                5 => sim.cut(1, 0),
                _ => sim.heal(),
            });
        }
        let ends = Rc::new(RefCell::new(Vec::new()));
        let (log, server) = (ends.clone(), sim.core(0));
        let accepting = server.clone();
        server.spawn(Group::Client, "accept", async move {
            let mut listener = accepting.listen(address(0, PORT)).unwrap();
            loop {
                let mut stream = listener.accept().await.unwrap();
                let log = log.clone();
                accepting.spawn(Group::Client, "read", async move {
                    let mut place = 0;
                    loop {
                        match stream.reader.read().await {
                            Ok(bytes) if bytes.is_empty() => break log.borrow_mut().push((place, true)),
                            Ok(bytes) => {
                                assert!(bytes.iter().all(|&byte| {
                                    place += 1;
                                    byte == pattern(place - 1)
                                }));
                            }
                            Err(_) => break log.borrow_mut().push((place, false)),
                        }
                    }
                });
            }
        });
        for _ in 0..3 {
            let core = sim.core(1);
            core.clone().spawn(Group::Client, "write", async move {
                let Ok(mut stream) = connect(&core).await else { return };
                for start in (0..TOTAL).step_by(10_000) {
                    let chunk: Bytes = (start..start + 10_000).map(pattern).collect();
                    if stream.writer.write_all(vec![chunk]).await.is_err() {
                        return;
                    }
                }
                // Dropping the reader, too, could reset what is still on its way.
                stream.writer.shutdown();
                let _ = stream.reader.read().await;
            });
        }
        sim.run_for(Duration::from_secs(2));
        sim.heal();
        sim.run_for(Duration::from_secs(60));
        for &(len, orderly) in ends.borrow().iter() {
            assert!(len == TOTAL || !orderly, "seed {seed}: an orderly end after {len} bytes");
            whole += usize::from(orderly);
            broken += usize::from(!orderly);
        }
    }
    assert!(whole > 20 && broken > 20, "{whole} whole, {broken} broken");
}

fn pattern(place: usize) -> u8 {
    (place ^ (place >> 8) ^ (place >> 16)) as u8
}
