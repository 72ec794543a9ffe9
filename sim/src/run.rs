//! One run: the stores are made, the load and the faults, the two phases, and the verdict.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rt::sim::{RandomStream, Sim};
use rt::{Group, Nanos};

use crate::admin;
use crate::client_life::{self, ClientState, Shared};
use crate::cluster::{Cluster, Node};
use crate::inspect::Planned;
use crate::make;
use crate::oracle::Oracle;
use crate::pool::{self, Placed};
use crate::report::Outcome;
use crate::scenario::Scenario;
use crate::verify;
use crate::workload::{Config, Workload};

/// Virtual time between two looks at whether the phase is over.
const LOOK: Duration = Duration::from_millis(50);
/// Virtual time that the first phase may take.
const FAULTS_MAX: Duration = Duration::from_secs(4 * 3600);
/// Virtual time within which everything must be answered once faults stopped.
const LIVENESS: Duration = Duration::from_secs(300);
/// Host of the administrator.
const ADMIN_HOST: u16 = 50;
/// After each so many crashes faults become rarer.
const CRASHES_DENSE: u64 = 20;
/// Part of the requests that is sent at a time once the floor is reached and others are not.
const MORE: u64 = 10;

thread_local! {
    /// Where the thread's last panic was, if [`catch_panics`] was called.
    static PANICKED_AT: Cell<Option<String>> = const { Cell::new(None) };
}

/// Keeps panics from being printed by this process: each is its run's failure, which says where it was.
pub fn catch_panics() {
    panic::set_hook(Box::new(|panic| PANICKED_AT.set(panic.location().map(ToString::to_string))));
}

/// Runs a scenario; writes every event to `trace` if given.
pub fn run(scenario: &Scenario, trace: Option<&Path>) -> Outcome {
    let shared = Rc::new(Shared::default());
    let sim = Sim::new(scenario.seed, scenario.network.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        if let Some(mut run) = Run::new(scenario, &sim, shared.clone()) {
            run.faults();
            run.liveness();
            run.finish();
        }
    }));
    if let Err(panic) = panicked {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)");
        let place = PANICKED_AT.take().map_or(String::new(), |place| format!(" at {place}"));
        shared.fail(format!("panic: {text}{place}"));
    }
    if let Some(path) = trace
        && let Err(error) = std::fs::write(path, sim.trace_text())
    {
        shared.fail(format!("the trace cannot be written to {}: {error}", path.display()));
    }
    let mut counts = shared.counts.borrow().clone();
    counts.events = sim.events();
    let (failure, hash) = (shared.failure.borrow().clone(), sim.hash());
    // After a panic the world may be unable to drop what it holds in order; the process goes on with other seeds.
    if failure.is_some() {
        std::mem::forget(sim);
    }
    Outcome { seed: scenario.seed, failure, counts, hash }
}

/// The run while it runs.
pub struct Run<'a> {
    pub scenario: Rc<Scenario>,
    pub sim: &'a Sim,
    pub cluster: Rc<Cluster>,
    pub clients: Vec<Rc<ClientState>>,
    pub shared: Rc<Shared>,
    /// The pool of the load.
    pub pool_id: i64,
    /// Decides about faults.
    pub dice: RandomStream,
    /// A block of data that is to go bad.
    pub planned: Option<Planned>,
}

impl<'a> Run<'a> {
    /// Makes and starts the cluster; none if that failed.
    fn new(scenario: &Scenario, sim: &'a Sim, shared: Rc<Shared>) -> Option<Self> {
        let scenario = Rc::new(scenario.clone());
        shared.counts.borrow_mut().note_devices(&scenario);
        let mut dice = sim.random_stream("faults");
        let cluster = match Cluster::new(&scenario, shared.clone()) {
            Ok(cluster) => Rc::new(cluster),
            Err(error) => {
                shared.fail(error);
                return None;
            }
        };
        make::make(sim, &cluster, &scenario, &shared, &mut dice);
        if shared.has_failed() {
            return None;
        }
        cluster.start_mon(sim);
        (0..cluster.nodes.len()).for_each(|osd| cluster.start_osd(sim, osd));
        let placed = pool::make(sim, &cluster, &scenario);
        let clients =
            (0..scenario.clients).map(|client| new_client(&scenario, sim, &placed, client)).collect();
        Some(Self { scenario, sim, cluster, clients, shared, pool_id: placed.id, dice, planned: None })
    }

    /// First phase: load and faults, until everything was done often enough.
    fn faults(&mut self) {
        for client in 0..self.clients.len() {
            self.start_client(client);
        }
        self.start_admin();
        let deadline = self.sim.now().0 + nanos(FAULTS_MAX);
        while !self.failed() {
            let (least, most) = self.scenario.fault_every;
            // Where everything is slow there would be nothing but faults.
            let rarer = 1 + self.shared.counts.borrow().crashes / CRASHES_DENSE;
            let pause = self.dice.between(nanos(least), nanos(most)).saturating_mul(rarer);
            self.sim.run_until(Nanos(self.sim.now().0 + pause));
            // Between any two steps, not only where the clock stands still.
            for _ in 0..self.dice.below(200) {
                self.sim.step();
            }
            let missing = self.missing();
            if self.load_is_done() {
                let Some(missing) = missing else { return };
                let sent = self.shared.counts.borrow().operations;
                if sent >= self.scenario.floors.operations_max || self.sim.now().0 >= deadline {
                    return self
                        .shared
                        .fail(format!("did not reach its floors within {sent} requests: {missing}"));
                }
                self.more_load();
            }
            self.fault();
        }
    }

    /// What is still to be done, if something is.
    fn missing(&self) -> Option<String> {
        let floors = self.scenario.floors;
        let counts = &mut *self.shared.counts.borrow_mut();
        let nodes = &self.cluster.nodes;
        counts.journal_wraps = nodes.iter().map(|node| node.journal_wraps()).min().unwrap_or(0);
        counts.reuse_permille = nodes.iter().map(|node| node.reuse_permille()).min().unwrap_or(0);
        counts.returned_bytes = nodes.iter().map(|node| node.counter("returned_bytes")).sum();
        counts.lent_bytes = nodes.iter().map(|node| node.counter("lent_bytes")).sum();
        counts.moved_back_bytes = nodes.iter().map(|node| node.counter("moved_back_bytes")).sum();
        counts.overwrites_short = nodes.iter().map(|node| node.counter("overwrites_short")).sum();
        counts.seeds_that_moved_back = u64::from(counts.moved_back_bytes > 0);
        counts.seeds_that_spilled |= u64::from(nodes.iter().any(Node::has_spilled));
        let reached = [
            ("operations", counts.operations, floors.operations),
            ("crashes", counts.crashes, floors.crashes),
            ("crashes in replay", counts.crashes_in_replay, floors.crashes_in_replay),
            ("journal wraps", counts.journal_wraps, floors.journal_wraps),
            ("space reused, permille", counts.reuse_permille, floors.reuse_permille),
        ];
        let (what, is, floor) = reached.into_iter().find(|(_, is, floor)| is < floor)?;
        Some(format!("{is} {what} of {floor}"))
    }

    /// Second phase: everything up, no faults; what was sent is answered, and all is as the oracle says.
    fn liveness(&mut self) {
        if self.failed() {
            return;
        }
        self.sim.heal();
        self.revive();
        let deadline = self.sim.now().0 + nanos(LIVENESS);
        while !self.failed() && !self.load_is_done() && self.sim.now().0 < deadline {
            self.sim.run_for(LOOK);
        }
        if !self.failed() && !self.load_is_done() {
            let left: u64 = self.clients.iter().map(|client| client.left.get()).sum();
            self.shared.fail(format!(
                "requests are not answered {LIVENESS:?} after the last fault ({left} not sent)"
            ));
        }
        for client in 0..self.clients.len() {
            if !self.failed() {
                verify::verify(
                    self.sim,
                    &self.cluster,
                    &self.clients[client],
                    &self.shared,
                    client,
                    LIVENESS,
                );
            }
        }
    }

    /// Last: every store is checked once more as it is after power loss, and the books are closed.
    fn finish(&mut self) {
        for osd in 0..self.cluster.nodes.len() {
            self.check_loans(osd);
            self.cluster.crash_osd(self.sim, osd, true);
            self.check(osd);
        }
        drop(self.missing());
        let nodes = self.cluster.nodes.iter();
        let disks = nodes.flat_map(|node| node.parts.disks.all().map(|(_, disk)| disk));
        disks.chain([&self.cluster.mon_disk]).for_each(|disk| self.sim.note("disk", &[disk.hash()], &[]));
    }

    fn start_admin(&self) {
        let core = self.sim.core(ADMIN_HOST);
        let dice = self.sim.random_stream("administrator");
        let life = admin::run(core.clone(), self.cluster.monitor(), dice, self.shared.clone());
        drop(core.spawn(Group::Client, "administrator", life));
    }

    /// A client begins another life.
    pub fn start_client(&self, client: usize) {
        let core = self.sim.core(Cluster::client_host(client));
        let state = self.clients[client].clone();
        let life = client_life::run(core.clone(), self.cluster.monitor(), state, self.shared.clone());
        drop(core.spawn(Group::Client, "client", life));
    }

    /// More requests, until everything was done often enough.
    fn more_load(&self) {
        for (client, state) in self.clients.iter().enumerate() {
            state.left.set(self.scenario.floors.operations / MORE + 1);
            state.done.set(false);
            self.sim.kill(Cluster::client_host(client));
            self.start_client(client);
        }
    }

    fn load_is_done(&self) -> bool {
        self.clients.iter().all(|client| client.done.get())
    }

    /// Whether something went wrong.
    pub fn failed(&self) -> bool {
        self.shared.has_failed()
    }
}

fn new_client(scenario: &Scenario, sim: &Sim, placed: &Placed, client: u16) -> Rc<ClientState> {
    let names = placed.names(client, scenario.objects, scenario.osds);
    let config = Config {
        names: names.iter().map(|(name, _)| name.clone()).collect(),
        object_bytes_max: scenario.object_bytes_max,
        tides: scenario.tight,
    };
    let dice = sim.random_stream(&format!("workload {client}"));
    Rc::new(ClientState {
        pool: placed.pool.clone(),
        prefix: format!("client{client}"),
        names,
        oracle: RefCell::new(Oracle::new(scenario.tight)),
        workload: RefCell::new(Workload::new(config, dice)),
        left: Cell::new(scenario.floors.operations.div_ceil(u64::from(scenario.clients))),
        done: Cell::new(false),
        depth: scenario.depth,
    })
}

/// Saturating nanoseconds.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
