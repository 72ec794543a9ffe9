//! The last look: every object and the list of all, through the cluster, against the oracle.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use client::Pool;
use rt::Group;
use rt::sim::Sim;

use crate::client_life::{self, ClientState, Shared};
use crate::cluster::Cluster;
use crate::judge::{Asked, BLOCK};
use crate::requests::ask;

/// Host of the one who looks, above a client's.
const ABOVE: u16 = 1000;
const LOOK: Duration = Duration::from_millis(50);

/// Compares everything of one client.
pub fn verify(
    sim: &Sim,
    cluster: &Cluster,
    state: &Rc<ClientState>,
    shared: &Rc<Shared>,
    client: usize,
    limit: Duration,
) {
    let (monitor, state, shared) = (cluster.monitor(), state.clone(), shared.clone());
    let done = Rc::new(Cell::new(false));
    let core = sim.core(Cluster::client_host(client) + ABOVE);
    let (told, failures) = (done.clone(), shared.clone());
    drop(core.clone().spawn(Group::Client, "verify", async move {
        let pool = client_life::connect(&core, monitor, &state.pool).await;
        if let Err(problem) = everything(&pool, &state, &failures).await {
            failures.fail(format!("at the end, {problem}"));
        }
        told.set(true);
    }));
    let deadline = sim.now().0 + crate::run::nanos(limit);
    while !done.get() && !shared.has_failed() && sim.now().0 < deadline {
        sim.run_for(LOOK);
    }
    if !done.get() {
        shared.fail(format!("the final comparison did not end within {limit:?}"));
    }
}

async fn everything(pool: &Pool, state: &ClientState, shared: &Shared) -> Result<(), String> {
    for (name, _) in &state.names {
        one(pool, state, shared, name, Asked::Whole).await?;
        let (damaged, size) = {
            let oracle = state.oracle.borrow();
            (!oracle.damage(name).is_empty(), oracle.likely(name).map_or(0, |content| content.data.len()))
        };
        if damaged {
            // Everything but the damaged blocks is there.
            one(pool, state, shared, name, Asked::Meta).await?;
            for offset in (0..size).step_by(BLOCK) {
                one(pool, state, shared, name, Asked::Range { offset, len: BLOCK }).await?;
            }
        }
    }
    state.oracle.borrow_mut().listing_begins();
    let listed = client_life::list(pool, &state.prefix).await.map_err(|error| format!("listing: {error}"))?;
    state.oracle.borrow_mut().listing_ended(&listed).map(drop).map_err(|violation| violation.to_string())
}

async fn one(
    pool: &Pool,
    state: &ClientState,
    shared: &Shared,
    name: &str,
    asked: Asked,
) -> Result<(), String> {
    let id = state.oracle.borrow_mut().submitted(name, asked.clone());
    let (answer, _) = ask(pool, name, &asked).await.map_err(|error| format!("object {name}: {error}"))?;
    shared.counts.borrow_mut().add_answer(&answer, false);
    state.oracle.borrow_mut().answered(name, id, answer).map_err(|violation| violation.to_string())
}
