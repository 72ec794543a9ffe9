//! A look at loans, at the end and now and then before it: whatever came between, what is lent is soon what the file system
//! below the key-value store has. Else space would be lost, until the next crash or for good.

use std::time::Duration;

use rt::Group;

use crate::cluster::Cluster;
use crate::node_store::Stage;
use crate::run::Run;

/// How long it may take until everything handed over is logged.
const PAUSE: Duration = Duration::from_millis(200);
const TRIES_MAX: u32 = 50;

impl Run<'_> {
    /// The same in the midst of the load, which goes on meanwhile.
    pub(crate) fn audit_loans(&self, osd: usize) {
        let node = &self.cluster.nodes[osd];
        if node.stage() == Stage::Up && !node.may_fail.get() {
            self.shared.counts.borrow_mut().loans_audited += 1;
            self.check_loans(osd);
        }
    }

    /// Has the file system ask for more: then it gets what a crash made it forget. Everything must soon be its own.
    pub(crate) fn check_loans(&self, osd: usize) {
        let node = &self.cluster.nodes[osd];
        let (Some(fs), Some(store)) = (node.fs.borrow().clone(), node.store.borrow().clone()) else { return };
        if self.failed() {
            return;
        }
        let (shared, pause) = (self.shared.clone(), PAUSE);
        let core = self.sim.core(Cluster::osd_host(osd));
        let asking = fs.clone();
        drop(core.clone().spawn(Group::Background, "loans", async move {
            let asked = async {
                let room = asking.with(|machine| Ok(machine.room_ahead()))?;
                asking.keep_room(room + 1)?;
                while asking.is_asking()? {
                    core.sleep(pause).await;
                }
                asking.sync_metadata().await
            };
            if let Err(error) = asked.await {
                shared.fail(format!("osd.{osd}: its file system takes no loan: {error}"));
            }
        }));
        let (mut lent, mut has) = (0, 0);
        for _ in 0..TRIES_MAX {
            self.sim.run_for(PAUSE);
            lent = store.lent().iter().map(|extent| extent.len).sum::<u64>();
            let space = fs.with(|machine| Ok(machine.tree().space_bytes())).unwrap_or_default();
            has = space - node.regions.fs_bytes().min(space);
            if lent == has {
                return;
            }
        }
        self.shared.fail(format!("osd.{osd}: {lent} bytes are lent, and its file system knows of {has}"));
    }
}
