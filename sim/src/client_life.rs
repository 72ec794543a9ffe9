//! One life of a simulated client: keeps requests in flight, tells the oracle what was sent before it is sent and what
//! came back, and stops when the load is done. Runs as a task of the client's host, which may be killed at any step.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use client::{Client, ClientConfig, Error, Pool};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rt::Core;

use crate::oracle::{Answer, Asked, Oracle, RequestId};
use crate::report::Counts;
use crate::requests::ask;
use crate::workload::{Step, Workload};

/// Name of the pool that the load uses.
pub const POOL: &str = "load";
/// A failed connection is tried again after this.
const RETRY: Duration = Duration::from_millis(500);

/// What outlives the client's lives.
pub struct ClientState {
    /// The model of its objects.
    pub oracle: RefCell<Oracle>,
    /// What it does next.
    pub workload: RefCell<Workload>,
    /// Requests that it has still to send.
    pub left: Cell<u64>,
    /// Everything sent was answered.
    pub done: Cell<bool>,
    /// Requests in flight.
    pub depth: usize,
}

/// What all clients and the harness share.
#[derive(Default)]
pub struct Shared {
    /// What happened.
    pub counts: RefCell<Counts>,
    /// The first thing that went wrong.
    pub failure: RefCell<Option<String>>,
}

impl Shared {
    /// Notes a failure; the first one counts.
    pub fn fail(&self, what: String) {
        self.failure.borrow_mut().get_or_insert(what);
    }
}

type InFlight = Pin<Box<dyn Future<Output = (String, RequestId, Result<Answer, Error>)>>>;

/// Runs until the load is done; sets `done` then.
pub async fn run(core: Core, monitor: SocketAddr, state: Rc<ClientState>, shared: Rc<Shared>) {
    let pool = connect(&core, monitor).await;
    let mut flying: FuturesUnordered<InFlight> = FuturesUnordered::new();
    loop {
        while flying.len() < state.depth && state.left.get() > 0 {
            state.left.set(state.left.get() - 1);
            let (object, asked) = next(&state);
            if matches!(asked, Asked::Change(_)) {
                shared.counts.borrow_mut().changes += 1;
            }
            let id = state.oracle.borrow_mut().submitted(&object, asked.clone());
            log::debug!("{} {object} {id:?}: {asked:?}", core.now().0);
            let pool = pool.clone();
            let mut request: InFlight = Box::pin(async move {
                let answer = ask(&pool, &object, &asked).await;
                (object, id, answer)
            });
            // The first poll sends it, so that requests leave in the order the oracle was told.
            match futures_util::poll!(&mut request) {
                std::task::Poll::Ready(answer) => settle(&state, &shared, answer),
                std::task::Poll::Pending => flying.push(request),
            }
        }
        match flying.next().await {
            Some(answer) => settle(&state, &shared, answer),
            None if state.left.get() == 0 => break,
            None => {}
        }
    }
    state.done.set(true);
}

/// A pool of a connected client; tries for ever, as monitors and OSDs come and go.
pub async fn connect(core: &Core, monitor: SocketAddr) -> Pool {
    loop {
        if let Ok(client) = Client::connect(core, ClientConfig::new(vec![monitor])).await
            && let Ok(pool) = client.pool(POOL).await
        {
            return pool;
        }
        core.sleep(RETRY).await;
    }
}

fn summary(answer: &Answer) -> String {
    match answer {
        Answer::Errno(errno) => format!("errno {errno}"),
        Answer::Range(bytes) => format!("{:?} bytes", bytes.as_ref().map(Vec::len)),
        Answer::Whole(state) => {
            format!("{:?} bytes in all", state.as_ref().map(|content| content.data.len()))
        }
    }
}

fn next(state: &ClientState) -> (String, Asked) {
    let oracle = state.oracle.borrow();
    match state.workload.borrow_mut().next(|object| oracle.likely(object)) {
        Step::Change { object, request } => (object, Asked::Change(request)),
        Step::Read { object, offset, len } => (object, Asked::Range { offset, len }),
        Step::Verify { object } => (object, Asked::Whole),
    }
}

fn settle(
    state: &ClientState,
    shared: &Shared,
    (object, id, answer): (String, RequestId, Result<Answer, Error>),
) {
    match answer {
        Ok(answer) => {
            log::debug!("{object} {id:?} answered: {}", summary(&answer));
            {
                let mut counts = shared.counts.borrow_mut();
                match answer {
                    Answer::Errno(_) => counts.acknowledged += 1,
                    _ => counts.reads += 1,
                }
            }
            if let Err(violation) = state.oracle.borrow_mut().answered(&object, id, answer) {
                shared.fail(violation.to_string());
            }
        }
        Err(error) => shared.fail(format!("object {object}: {error}")),
    }
}
