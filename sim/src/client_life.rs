//! One life of a simulated client: keeps requests in flight, tells the oracle what was sent before it is sent and what
//! came back, and stops when the load is done. Runs as a task of the client's host, which may be killed at any step.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use client::{Client, ClientConfig, Error, Pool};
use futures_util::stream::{FuturesUnordered, StreamExt};
use rt::Core;

use crate::judge::{Answer, Asked};
use crate::oracle::{Oracle, RequestId};
use crate::report::Counts;
use crate::requests::ask;
use crate::workload::{Step, Workload};

/// A failed connection is tried again after this.
const RETRY: Duration = Duration::from_millis(500);

/// What outlives the client's lives.
pub struct ClientState {
    /// Name of the pool that the load uses.
    pub pool: String,
    /// How the names of its objects begin, and nobody else's.
    pub prefix: String,
    /// Names it uses, and which OSD has them.
    pub names: Vec<(String, usize)>,
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

/// What clients were told of an OSD's objects, in numbers that only grow: for faults aimed at such a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Changes acknowledged.
    pub acknowledged: u64,
    /// Answers that show changes which nobody acknowledged yet.
    pub ahead: u64,
}

/// What all clients and the harness share.
#[derive(Default)]
pub struct Shared {
    /// By OSD.
    pub told: RefCell<BTreeMap<usize, Told>>,
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

    /// What clients were told of an OSD's objects.
    pub fn told(&self, osd: usize) -> Told {
        self.told.borrow().get(&osd).copied().unwrap_or_default()
    }

    /// Whether something did.
    pub fn has_failed(&self) -> bool {
        self.failure.borrow().is_some()
    }
}

/// What came of a request.
enum Done {
    Answer { object: String, id: RequestId, change: bool, answer: Result<(Answer, u64), Error> },
    Listed(Result<Vec<String>, Error>),
}

type InFlight = Pin<Box<dyn Future<Output = Done>>>;

/// Runs until the load is done; sets `done` then.
pub async fn run(core: Core, monitor: SocketAddr, state: Rc<ClientState>, shared: Rc<Shared>) {
    let pool = connect(&core, monitor, &state.pool).await;
    let mut flying: FuturesUnordered<InFlight> = FuturesUnordered::new();
    let mut listing = false;
    loop {
        while flying.len() < state.depth && state.left.get() > 0 {
            state.left.set(state.left.get() - 1);
            shared.counts.borrow_mut().operations += 1;
            let mut request: InFlight = match next(&state) {
                Step::List if listing => continue,
                Step::List => {
                    listing = true;
                    state.oracle.borrow_mut().listing_begins();
                    let (pool, prefix) = (pool.clone(), state.prefix.clone());
                    Box::pin(async move { Done::Listed(list(&pool, &prefix).await) })
                }
                Step::Ask { object, asked } => {
                    shared.counts.borrow_mut().changes += u64::from(matches!(asked, Asked::Change(_)));
                    let id = state.oracle.borrow_mut().submitted(&object, asked.clone());
                    log::debug!("{} {object} {id:?}: {asked:?}", core.now().0);
                    let pool = pool.clone();
                    Box::pin(async move {
                        let answer = ask(&pool, &object, &asked).await;
                        let change = matches!(asked, Asked::Change(_));
                        Done::Answer { object, id, change, answer }
                    })
                }
            };
            // The first poll sends it, so that requests leave in the order the oracle was told.
            match futures_util::poll!(&mut request) {
                std::task::Poll::Ready(done) => settle(&state, &shared, done),
                std::task::Poll::Pending => flying.push(request),
            }
        }
        match flying.next().await {
            Some(done) => {
                listing &= !matches!(done, Done::Listed(_));
                settle(&state, &shared, done);
            }
            None if state.left.get() == 0 => break,
            None => {}
        }
    }
    state.done.set(true);
}

/// The names of all objects that begin with `prefix`.
pub async fn list(pool: &Pool, prefix: &str) -> Result<Vec<String>, Error> {
    let objects = pool.list().collect().await?;
    let names = objects.iter().map(|object| String::from_utf8_lossy(&object.object).into_owned());
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}

/// A pool of a connected client; tries for ever, as monitors and OSDs come and go.
pub async fn connect(core: &Core, monitor: SocketAddr, pool: &str) -> Pool {
    loop {
        if let Ok(client) = Client::connect(core, ClientConfig::new(vec![monitor])).await
            && let Ok(pool) = client.pool(pool).await
        {
            return pool;
        }
        core.sleep(RETRY).await;
    }
}

fn next(state: &ClientState) -> Step {
    let oracle = state.oracle.borrow();
    state.workload.borrow_mut().next(|object| oracle.likely(object))
}

fn settle(state: &ClientState, shared: &Shared, done: Done) {
    let judged = match done {
        Done::Answer { object, answer: Err(error), .. } => {
            return shared.fail(format!("object {object}: {error}"));
        }
        Done::Listed(Err(error)) => return shared.fail(format!("listing: {error}")),
        Done::Answer { object, id, change, answer: Ok((answer, version)) } => {
            log::debug!("{object} {id:?} answered");
            shared.counts.borrow_mut().add_answer(&answer, change);
            let mut oracle = state.oracle.borrow_mut();
            let ahead = !change && oracle.is_ahead(&object, id);
            state.note_told(shared, &object, Told { acknowledged: change.into(), ahead: ahead.into() });
            oracle.told_version(&object, id, version);
            oracle.answered(&object, id, answer)
        }
        Done::Listed(Ok(names)) => {
            shared.counts.borrow_mut().listings += 1;
            let listed = state.oracle.borrow_mut().listing_ended(&names);
            listed.map(|ahead| {
                for object in ahead {
                    state.note_told(shared, &object, Told { ahead: 1, ..Told::default() });
                }
            })
        }
    };
    if let Err(violation) = judged {
        shared.fail(violation.to_string());
    }
}

impl ClientState {
    fn note_told(&self, shared: &Shared, object: &str, more: Told) {
        let Some((_, osd)) = self.names.iter().find(|(name, _)| name == object) else { return };
        let mut all = shared.told.borrow_mut();
        let told = all.entry(*osd).or_default();
        told.acknowledged += more.acknowledged;
        told.ahead += more.ahead;
    }
}
