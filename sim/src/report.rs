//! What a run did, so that nobody takes an idle simulator for a passing one, and how it ended.

use std::fmt;

use serde_json::{Map, Value, json};
use store::FreeList;

use crate::judge::{Answer, EIO, ENOSPC};
use crate::scenario::Scenario;

macro_rules! counts {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// What happened in a run.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counts {
            /// Name and value of each.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)+]
            }

            /// The counts of two runs as one, count by count.
            pub fn combine(&self, other: &Self, with: impl Fn(u64, u64) -> u64) -> Self {
                Self { $($name: with(self.$name, other.$name),)+ }
            }
        }
    };
}

counts! {
    /// Runs whose OSDs have a disk for keys; of all counts of runs, 0 or 1 in each.
    seeds_with_db,
    /// Runs whose OSDs have a disk for the journal.
    seeds_with_wal,
    /// Runs whose OSDs have both.
    seeds_with_db_and_wal,
    /// Runs in which keys spilled from their disk to the main one.
    seeds_that_spilled,
    /// Runs in which some of them moved back.
    seeds_that_moved_back,
    /// Runs whose stores merge changes into the free list.
    seeds_with_merged_free_list,
    /// Requests sent.
    operations,
    /// Of those, changes.
    changes,
    /// Of those, answered.
    acknowledged,
    /// Of those, refused for want of space.
    refused_full,
    /// Of those, refused because a block cannot be read.
    refused_damaged,
    /// Of those, with an outcome nobody knows (the client was killed).
    unknown,
    /// Reads answered and compared.
    reads,
    /// Of those, told that a block cannot be read.
    reads_damaged,
    /// Listings compared while objects came and went.
    listings,
    /// Commands of the administrator.
    commands,
    /// OSD crashes: power loss of the disk included, or only the process killed.
    crashes,
    /// Of those, while a journal that is not empty was being replayed.
    crashes_in_replay,
    /// Of those, while label, BlueFS and key-value store were being opened.
    crashes_in_open,
    /// Of those, within a checkpoint.
    crashes_in_checkpoint,
    /// Of those, while a write to a region chosen before was not durable.
    crashes_at_write,
    /// Of those, right after a store overwrote, freed or lent something, or a client was told something.
    crashes_at_event,
    /// Of those, while the daemon stopped in good order.
    crashes_in_close,
    /// Crashes while a store was being made.
    crashes_in_make,
    /// Stops in good order that ended.
    clean_stops,
    /// Monitor crashes.
    mon_crashes,
    /// Clients killed.
    client_kills,
    /// Connections reset by fault injection.
    resets,
    /// Times that connections were reset right after a store refused something.
    resets_at_refusal,
    /// Looks at whether what is lent is what the file system below the key-value store has.
    loans_audited,
    /// Disks told to fail a flush or writes.
    disk_failures,
    /// Copies of superblocks made unreadable or wrong by power loss while they were written.
    copies_garbled,
    /// Checks of a store after a crash.
    fscks,
    /// Objects whose whole content was compared on the disk after a crash.
    objects_compared,
    /// Times a journal wrapped around: of the OSD where it was least.
    journal_wraps,
    /// Bytes of data written to space that had held data before, in thousandths of the space for data: of the OSD
    /// where it was least.
    reuse_permille,
    /// Bytes that key-value stores borrowed, of all OSDs.
    lent_bytes,
    /// Bytes that came back from them.
    returned_bytes,
    /// Bytes of theirs that had spilled to the main disk and moved back.
    moved_back_bytes,
    /// Overwrites that took the short way that stores have for usual ones.
    overwrites_short,
    /// Blocks of data flipped or made unreadable on a disk in use.
    blocks_damaged,
    /// Objects that OSDs scrubbed.
    objects_scrubbed,
    /// Checks of stores beside their clients.
    stores_checked,
    /// What these found of the damage that was done to data.
    damage_found,
    /// Bytes that moved to be in fewer pieces.
    defragmented_bytes,
    /// Bytes that moved so that free space is in longer runs.
    cleared_moved_bytes,
    /// Blocks of data damaged on copies, each of which a check and reads of everything must notice.
    copies_damaged,
    /// Bits of metadata flipped on copies, which must be noticed or change nothing.
    metadata_flips,
    /// Of those, noticed: the store does not open, or does not give everything.
    metadata_flips_noticed,
    /// Events that the hash covers.
    events,
}

impl Counts {
    /// Notes which devices a run has.
    pub fn note_devices(&mut self, scenario: &Scenario) {
        let (db, wal) = (scenario.db_bytes.is_some(), scenario.wal_bytes.is_some());
        self.seeds_with_db = db.into();
        self.seeds_with_wal = wal.into();
        self.seeds_with_db_and_wal = (db && wal).into();
        self.seeds_with_merged_free_list = (scenario.free_list == FreeList::Merge).into();
    }

    /// Counts an answer.
    pub fn add_answer(&mut self, answer: &Answer, change: bool) {
        let errno = match answer {
            Answer::Errno(errno) => *errno,
            _ => 0,
        };
        if change {
            self.acknowledged += 1;
            self.refused_full += u64::from(errno == ENOSPC);
            self.refused_damaged += u64::from(errno == EIO);
        } else {
            self.reads += 1;
            self.reads_damaged += u64::from(errno == EIO);
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What went wrong, if anything did.
    pub failure: Option<String>,
    /// What happened.
    pub counts: Counts,
    /// Hash over every message, poll and device write.
    pub hash: u64,
}

impl Outcome {
    /// As JSON.
    pub fn json(&self) -> Value {
        let counts: Map<String, Value> =
            self.counts.list().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        json!({
            "seed": self.seed, "failure": self.failure, "hash": format!("{:016x}", self.hash), "counts": counts,
        })
    }
}

/// Counts of many runs.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    runs: u64,
    total: Counts,
    least: Option<Counts>,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, counts: &Counts) {
        self.runs += 1;
        self.total = self.total.combine(counts, |a, b| a + b);
        let least =
            self.least.as_ref().map_or_else(|| counts.clone(), |least| least.combine(counts, u64::min));
        self.least = Some(least);
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24}{:>16}{:>14}", "count", "all seeds", "least in one")?;
        let least = self.least.clone().unwrap_or_default();
        for ((name, total), (_, least)) in self.total.list().into_iter().zip(least.list()) {
            writeln!(f, "{name:<24}{total:>16}{least:>14}")?;
        }
        Ok(())
    }
}
