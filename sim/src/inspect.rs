//! What is looked at after each crash of an OSD: its store against the clients' oracles, damaged copies of it, and the
//! choice of a block that goes bad later, while the OSD runs.

use std::time::Duration;

use crate::check_store::{self, Found};
use crate::cluster::Cluster;
use crate::damage::{self, Noticed, Place};
use crate::node_store::Stage;
use crate::run::Run;

/// Virtual time within which a running store says where an object lies.
const LIMIT: Duration = Duration::from_secs(1);
const BLOCK: u64 = 4096;

/// A block that is to go bad once nothing replays what wrote it.
pub struct Planned {
    osd: usize,
    place: Place,
}

impl Run<'_> {
    /// Checks what is on an OSD's disks; gives how many groups of its journal its next mount will replay.
    pub fn check(&mut self, osd: usize) -> u64 {
        if self.failed() {
            return 0;
        }
        for (role, disk) in self.cluster.nodes[osd].parts.disks.all() {
            let (reads, writes) = (disk.counters().racing_reads, disk.counters().racing_writes);
            if reads + writes > 0 {
                let what = format!("{reads} reads and {writes} writes overlapped writes in flight");
                self.shared.fail(format!("osd.{osd}, {}: {what}", role.name()));
                return 0;
            }
        }
        let found = check_store::check(&self.cluster.nodes[osd]);
        let checked = found.and_then(|found| {
            self.compare(osd, &found)?;
            self.damage_copies(osd, &found)?;
            Ok(found)
        });
        match checked {
            Ok(mut found) => {
                self.shared.counts.borrow_mut().fscks += 1;
                if self.planned.is_none() && self.scenario.disks_go_bad && !found.places.is_empty() {
                    let index = self.any(found.places.len());
                    self.planned = Some(Planned { osd, place: found.places.swap_remove(index) });
                }
                found.replayed_groups
            }
            Err(problem) => {
                self.shared.fail(format!("osd.{osd} after a crash: {problem}"));
                0
            }
        }
    }

    /// What the store holds against what clients may know.
    fn compare(&self, osd: usize, found: &Found) -> Result<(), String> {
        found.content.check_logs(self.pool_id)?;
        let mut compared = 0;
        for client in &self.clients {
            let oracle = client.oracle.borrow();
            for name in client.names.iter().filter(|(_, at)| *at == osd).map(|(name, _)| name) {
                let stored = found.content.object(name.as_bytes()).and_then(|stored| stored.as_ref().ok());
                let unreadable = stored.map_or(&[][..], |stored| &stored.unreadable);
                let content = stored.map(|stored| stored.content.clone());
                oracle.check_stored(name, &content, unreadable).map_err(|violation| violation.to_string())?;
                let version = stored.map(|stored| stored.version()).transpose()?;
                if let Some(version) = version.filter(|version| *version < oracle.shown(name)) {
                    let shown = oracle.shown(name);
                    return Err(format!("{name} is of version {version}, and a client was shown {shown}"));
                }
                compared += 1;
            }
        }
        self.shared.counts.borrow_mut().objects_compared += compared;
        Ok(())
    }

    /// Damages copies, now and then.
    fn damage_copies(&mut self, osd: usize, found: &Found) -> Result<(), String> {
        if !self.dice.one_in(4) {
            return Ok(());
        }
        let node = &self.cluster.nodes[osd];
        let noticed =
            damage::check_metadata(node, &found.content, found.replayed_groups, self.dice.next_u64())?;
        let mut counts = self.shared.counts.borrow_mut();
        counts.metadata_flips += 1;
        counts.metadata_flips_noticed += u64::from(noticed == Noticed::Yes);
        drop(counts);
        if node.damaged.borrow().is_empty() {
            let damaged = damage::check_data(node, &found.content, self.dice.next_u64())?;
            self.shared.counts.borrow_mut().copies_damaged += damaged;
        }
        Ok(())
    }

    /// Damages the planned block if it is still where it was and the journal knows nothing of it any more: replay
    /// takes a block that is not what a record says for one that was never written.
    pub fn damage(&mut self) {
        let Some(planned) = self.planned.take() else { return };
        let (id, object, place) = planned.place.clone();
        let cluster = self.cluster.clone();
        let node = &cluster.nodes[planned.osd];
        let store = node.store.borrow().clone();
        let (Some(store), Stage::Up) = (store, node.stage()) else {
            self.planned = Some(planned);
            return;
        };
        if node.checkpoints() == 0 {
            self.planned = Some(planned);
            return;
        }
        let places = store.block_places(id, &object);
        let found = self.sim.run_within(Cluster::osd_host(planned.osd), LIMIT, |_| places);
        if !found.is_some_and(|found| found.is_ok_and(|places| places.contains(&place))) {
            return;
        }
        let name = String::from_utf8_lossy(&object.name).into_owned();
        let Some(client) = self.clients.iter().find(|client| name.starts_with(&client.prefix)) else {
            return;
        };
        let (disk, at) = (node.parts.disks.main(), node.regions.window.start + place.address);
        if self.dice.one_in(2) {
            disk.break_blocks(at..at + BLOCK);
        } else {
            disk.corrupt(at + self.dice.below(BLOCK), 1 << self.dice.below(8));
        }
        node.damaged.borrow_mut().insert(place.address);
        self.shared.counts.borrow_mut().blocks_damaged += 1;
        let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
        client.oracle.borrow_mut().damaged(&name, offset);
    }
}
