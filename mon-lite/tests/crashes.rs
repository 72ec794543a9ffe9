//! A monitor that loses its power at any moment: what it answered stays true, ids are never given twice.

mod common;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use common::{MON, Peer, make, start, world};
use rt::sync::timeout;
use rt::{Core, Group};
use serde_json::{Value, json};

const CLIENT: u16 = 2;
const LIVES: usize = 6;

/// What a client was promised.
#[derive(Default)]
struct Promised {
    pools: BTreeSet<String>,
    asked: usize,
    ids: BTreeSet<u64>,
}

/// Makes pools and sets keys until the connection breaks, again and again.
async fn load(core: Core, promised: Rc<RefCell<Promised>>) {
    loop {
        let Ok(mut peer) = timeout(&core, Duration::from_secs(1), Peer::client(&core)).await else {
            continue;
        };
        assert!(promised.borrow_mut().ids.insert(peer.global_id()), "an id was given twice");
        loop {
            let number = promised.borrow().asked;
            promised.borrow_mut().asked += 1;
            let name = format!("p{number}");
            let create = json!({"prefix": "osd pool create", "pool": name, "pg_num": 1});
            let answer = timeout(&core, Duration::from_secs(5), peer.try_command(create)).await;
            let Ok(Some(ack)) = answer else { break };
            if ack.result == 0 {
                promised.borrow_mut().pools.insert(name);
            }
        }
    }
}

fn life_and_death(seed: u64) -> u64 {
    let (sim, disk) = world(seed);
    make(&sim, &disk);
    let promised = Rc::new(RefCell::new(Promised::default()));
    let mut random = sim.random_stream("cuts");
    for _ in 0..LIVES {
        let core = sim.core(MON);
        let (mon, own) = (start(core.clone(), disk.clone()), promised.clone());
        drop(core.spawn(Group::Client, "mon", async move { drop(mon.await.unwrap()) }));
        let client = sim.core(CLIENT);
        drop(client.spawn(Group::Client, "load", load_when_up(client.clone(), own)));
        for _ in 0..random.between(50, 1200) {
            sim.step();
        }
        sim.kill(MON);
        sim.kill(CLIENT);
        disk.crash();
    }
    let own = promised.clone();
    let core = sim.core(MON);
    drop(core.clone().spawn(Group::Client, "mon", async move { drop(start(core, disk).await.unwrap()) }));
    sim.run(CLIENT, |core| async move {
        core.sleep(Duration::from_secs(1)).await;
        let mut peer = Peer::client(&core).await;
        assert!(own.borrow_mut().ids.insert(peer.global_id()));
        let pools = peer.command(json!({"prefix": "osd pool ls", "format": "json"})).await;
        let pools: Value = serde_json::from_slice(&pools).unwrap();
        let there: BTreeSet<String> =
            pools.as_array().unwrap().iter().map(|n| n.as_str().unwrap().into()).collect();
        let missing: Vec<_> = own.borrow().pools.difference(&there).cloned().collect();
        assert!(missing.is_empty(), "promised but gone: {missing:?}");
    });
    assert!(promised.borrow().pools.len() > 3, "the load did something");
    sim.hash()
}

async fn load_when_up(core: Core, promised: Rc<RefCell<Promised>>) {
    core.sleep(Duration::from_millis(50)).await;
    load(core, promised).await;
}

#[test]
fn what_was_answered_survives_any_crash() {
    for seed in 0..8 {
        life_and_death(seed);
    }
}

#[test]
fn one_seed_is_one_history() {
    assert_eq!(life_and_death(100), life_and_death(100));
}
