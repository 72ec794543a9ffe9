//! One run: the load, the faults, the two phases, and the verdict.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rt::sim::{RandomStream, Sim};
use rt::{Group, Nanos};

use crate::check_store;
use crate::client_life::{self, ClientState, Shared};
use crate::cluster::{Cluster, MON_HOST};
use crate::oracle::{Asked, Oracle};
use crate::report::Outcome;
use crate::requests::ask;
use crate::scenario::Scenario;
use crate::workload::{Config, Workload};

/// Virtual time between two looks at whether the phase is over.
const LOOK: Duration = Duration::from_millis(50);
/// Virtual time that the first phase may take.
const FAULTS_MAX: Duration = Duration::from_secs(3600);
/// Virtual time within which everything must be answered once faults stopped.
const LIVENESS: Duration = Duration::from_secs(300);
/// What a killed client sent is answered or gone by then.
const CLIENT_FENCE: Duration = Duration::from_secs(20);

/// Runs a scenario; writes every event to `trace` if given.
pub fn run(scenario: &Scenario, trace: Option<&Path>) -> Outcome {
    let shared = Rc::new(Shared::default());
    let sim = Sim::new(scenario.seed, scenario.network.clone());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut run = Run::new(scenario, &sim, shared.clone());
        run.faults();
        run.liveness();
        run.finish()
    }));
    let hash = match panicked {
        Ok(hash) => hash,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no text)");
            shared.fail(format!("panic: {text}"));
            sim.hash()
        }
    };
    if let Some(path) = trace
        && let Err(error) = std::fs::write(path, sim.trace_text())
    {
        shared.fail(format!("the trace cannot be written to {}: {error}", path.display()));
    }
    let mut counts = shared.counts.borrow().clone();
    counts.events = sim.events();
    let failure = shared.failure.borrow().clone();
    // After a panic the world may be unable to drop what it holds in order; the process goes on with other seeds.
    if failure.is_some() {
        std::mem::forget(sim);
    }
    Outcome { seed: scenario.seed, failure, counts, hash }
}

struct Run<'a> {
    scenario: &'a Scenario,
    sim: &'a Sim,
    cluster: Rc<Cluster>,
    clients: Vec<Rc<ClientState>>,
    shared: Rc<Shared>,
    dice: RandomStream,
}

impl<'a> Run<'a> {
    fn new(scenario: &'a Scenario, sim: &'a Sim, shared: Rc<Shared>) -> Self {
        let cluster = Rc::new(Cluster::new(scenario, shared.clone()));
        let share = scenario.operations.div_ceil(u64::from(scenario.clients));
        let clients = (0..scenario.clients)
            .map(|client| {
                let config = Config {
                    prefix: format!("client{client}"),
                    objects: scenario.objects,
                    object_bytes_max: scenario.object_bytes_max,
                };
                let dice = sim.random_stream(&format!("workload {client}"));
                Rc::new(ClientState {
                    oracle: RefCell::new(Oracle::default()),
                    workload: RefCell::new(Workload::new(config, dice)),
                    left: Cell::new(share),
                    done: Cell::new(false),
                    depth: scenario.depth,
                })
            })
            .collect();
        Self { scenario, sim, cluster, clients, shared, dice: sim.random_stream("faults") }
    }

    /// First phase: load and faults, until the load is done and there were enough crashes.
    fn faults(&mut self) {
        self.cluster.start_mon(self.sim);
        for osd in 0..self.cluster.nodes.len() {
            self.cluster.start_osd(self.sim, osd);
        }
        self.make_pool();
        for client in 0..self.clients.len() {
            self.start_client(client);
        }
        let deadline = self.sim.now().0 + nanos(FAULTS_MAX);
        while !self.failed() && self.sim.now().0 < deadline {
            let pause =
                self.dice.between(nanos(self.scenario.fault_every.0), nanos(self.scenario.fault_every.1));
            self.sim.run_until(Nanos(self.sim.now().0 + pause));
            // Between any two steps, not only where the clock stands still.
            for _ in 0..self.dice.below(200) {
                self.sim.step();
            }
            let crashes = self.shared.counts.borrow().crashes;
            if self.load_is_done() && crashes >= self.scenario.crashes {
                return;
            }
            if self.load_is_done() {
                self.more_load();
            }
            self.fault();
        }
    }

    /// Second phase: everything up, no faults; what was sent is answered, and all is as the oracle says.
    fn liveness(&mut self) {
        if self.failed() {
            return;
        }
        self.sim.heal();
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
        self.verify();
    }

    /// Last: every store is checked once more as it is after power loss, and the books are closed.
    fn finish(&mut self) -> u64 {
        for osd in 0..self.cluster.nodes.len() {
            self.cluster.crash_osd(self.sim, osd, true);
            self.fsck(osd);
            let node = &self.cluster.nodes[osd];
            let past = node.past.borrow();
            let count = |name: &str| past.get(name).copied().unwrap_or(0);
            let mut counts = self.shared.counts.borrow_mut();
            counts.journal_wraps += count("journal_bytes_written") / self.scenario.journal_bytes;
            counts.space_turnover_permille += count("data_bytes_written") * 1000 / self.scenario.disk_bytes;
        }
        let disks = self.cluster.nodes.iter().fold(0, |hash, node| hash ^ node.disk.hash().rotate_left(17));
        self.sim.hash() ^ disks
    }

    fn fault(&mut self) {
        let osd = usize::try_from(self.dice.below(self.cluster.nodes.len() as u64)).unwrap_or(0);
        match self.dice.below(20) {
            0..=11 => self.crash_osd(osd),
            12 => {
                self.cluster.crash_mon(self.sim);
                self.shared.counts.borrow_mut().mon_crashes += 1;
                self.cluster.start_mon(self.sim);
            }
            13 => self.kill_client(),
            14..=16 => {
                let client = usize::try_from(self.dice.below(self.clients.len() as u64)).unwrap_or(0);
                self.sim.reset_connections(Cluster::client_host(client), Cluster::osd_host(osd));
                self.shared.counts.borrow_mut().resets += 1;
            }
            17 => {
                self.sim.reset_connections(Cluster::osd_host(osd), MON_HOST);
                self.shared.counts.borrow_mut().resets += 1;
            }
            _ => {
                let client = usize::try_from(self.dice.below(self.clients.len() as u64)).unwrap_or(0);
                self.sim.cut(Cluster::client_host(client), Cluster::osd_host(osd));
                self.sim.at(Nanos(self.sim.now().0 + self.dice.below(3_000_000_000)), Sim::heal);
            }
        }
    }

    /// Crashes an OSD, checks what is on its disk, and starts it again, sometimes to crash it while it replays.
    fn crash_osd(&mut self, osd: usize) {
        loop {
            let power = !self.dice.one_in(4);
            let replaying = self.cluster.crash_osd(self.sim, osd, power);
            {
                let mut counts = self.shared.counts.borrow_mut();
                counts.crashes += 1;
                counts.crashes_in_replay += u64::from(replaying);
            }
            self.fsck(osd);
            if self.failed() {
                return;
            }
            self.sim.run_for(Duration::from_micros(self.dice.below(50_000)));
            self.cluster.start_osd(self.sim, osd);
            if !self.dice.one_in(3) {
                return;
            }
            for _ in 0..self.dice.below(3_000) {
                self.sim.step();
                if !self.cluster.nodes[osd].opening.get() && self.dice.one_in(50) {
                    break;
                }
            }
        }
    }

    fn fsck(&self, osd: usize) {
        if self.failed() {
            return;
        }
        self.shared.counts.borrow_mut().fscks += 1;
        if let Err(problem) = check_store::check(self.scenario, &self.cluster.nodes[osd]) {
            self.shared.fail(format!("osd.{osd} after a crash: {problem}"));
        }
    }

    fn kill_client(&mut self) {
        let client = usize::try_from(self.dice.below(self.clients.len() as u64)).unwrap_or(0);
        let host = Cluster::client_host(client);
        if self.clients[client].done.get() || !self.sim.is_alive(host) {
            return;
        }
        self.sim.kill(host);
        // What is on its way may still take effect; the next life starts when that is over.
        self.sim.heal();
        self.sim.run_for(CLIENT_FENCE);
        self.clients[client].oracle.borrow_mut().client_died();
        let mut counts = self.shared.counts.borrow_mut();
        counts.client_kills += 1;
        counts.unknown = counts.changes - counts.acknowledged;
        drop(counts);
        self.start_client(client);
    }

    fn start_client(&self, client: usize) {
        let core = self.sim.core(Cluster::client_host(client));
        let life = client_life::run(
            core.clone(),
            self.cluster.monitor(),
            self.clients[client].clone(),
            self.shared.clone(),
        );
        drop(core.spawn(Group::Client, "client", life));
    }

    fn make_pool(&self) {
        let monitor = self.cluster.monitor();
        let pg_num = self.scenario.pg_num;
        self.sim.run(Cluster::client_host(self.clients.len()), |core| async move {
            loop {
                let config = client::ClientConfig::new(vec![monitor]);
                if let Ok(cluster) = client::Client::connect(&core, config).await {
                    let command = serde_json::json!({
                        "prefix": "osd pool create", "pool": client_life::POOL, "pg_num": pg_num,
                    });
                    if cluster.mon_command(&command.to_string(), bytes::Bytes::new()).await.is_ok() {
                        return;
                    }
                }
                core.sleep(Duration::from_millis(100)).await;
            }
        });
    }

    /// More requests, until there were enough crashes.
    fn more_load(&self) {
        for (client, state) in self.clients.iter().enumerate() {
            state.left.set(self.scenario.operations / 10 + 1);
            state.done.set(false);
            self.sim.kill(Cluster::client_host(client));
            self.start_client(client);
        }
    }

    /// Reads every object and the list of all, and compares.
    fn verify(&self) {
        for (client, state) in self.clients.iter().enumerate() {
            if self.failed() {
                return;
            }
            let (monitor, state, shared) = (self.cluster.monitor(), state.clone(), self.shared.clone());
            let done = Rc::new(Cell::new(false));
            let core = self.sim.core(Cluster::client_host(client) + 1000);
            let told = done.clone();
            drop(core.spawn(Group::Client, "verify", {
                let core = core.clone();
                async move {
                    verify_objects(core, monitor, &state, &shared, client).await;
                    told.set(true);
                }
            }));
            let deadline = self.sim.now().0 + nanos(LIVENESS);
            while !done.get() && !self.failed() && self.sim.now().0 < deadline {
                self.sim.run_for(LOOK);
            }
            if !done.get() {
                self.shared.fail(format!("the final comparison did not end within {LIVENESS:?}"));
            }
        }
    }

    fn load_is_done(&self) -> bool {
        self.clients.iter().all(|client| client.done.get())
    }

    fn failed(&self) -> bool {
        self.shared.failure.borrow().is_some()
    }
}

async fn verify_objects(
    core: rt::Core,
    monitor: std::net::SocketAddr,
    state: &ClientState,
    shared: &Shared,
    client: usize,
) {
    let pool = client_life::connect(&core, monitor).await;
    let names = state.oracle.borrow().names();
    for name in names {
        let id = state.oracle.borrow_mut().submitted(&name, Asked::Whole);
        let judged = match ask(&pool, &name, &Asked::Whole).await {
            Ok(answer) => {
                state.oracle.borrow_mut().answered(&name, id, answer).map_err(|error| error.to_string())
            }
            Err(error) => Err(format!("object {name}: {error}")),
        };
        if let Err(error) = judged {
            return shared.fail(format!("at the end, {error}"));
        }
    }
    let prefix = format!("client{client}");
    let (expected, _) = state.oracle.borrow().existing();
    match pool.list().collect().await {
        Ok(listed) => {
            let mut listed: Vec<String> = listed
                .iter()
                .map(|object| String::from_utf8_lossy(&object.object).into_owned())
                .filter(|name| name.starts_with(&prefix))
                .collect();
            listed.sort();
            if listed != expected {
                let missing = expected.iter().find(|name| !listed.contains(name));
                let extra = listed.iter().find(|name| !expected.contains(name));
                shared.fail(format!(
                    "the list of objects lacks {missing:?}, and has {extra:?} which is not there"
                ));
            }
        }
        Err(error) => shared.fail(format!("listing: {error}")),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
