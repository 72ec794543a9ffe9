//! Checking a device after a cut: it mounts, every collection is in a state that it may be in, and the check of the
//! whole store finds nothing.

use std::rc::Rc;
use std::sync::Arc;

use rt::Core;
use store::{Engine, FsckLevel, ObjectStore, Unwatched};

use crate::dump::{difference, dump};
use crate::life::FORMATTED;
use crate::plan::Plan;
use crate::stack::{MountError, Setup, mount};
use crate::views::Views;

/// What was promised before a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The format was reported as done.
    pub formatted: bool,
    /// For each track, transactions that were acknowledged.
    pub at_least: Vec<usize>,
}

/// What a device shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, and it says so.
    NotFormatted,
    /// The number of each track's state.
    States(Vec<usize>),
}

impl Expectation {
    /// From the marks before a cut.
    pub fn new(plan: &Plan, marks: &[u64]) -> Self {
        let mut this = Self { formatted: !plan.formats, at_least: vec![0; plan.tracks.len()] };
        for mark in marks {
            if *mark == FORMATTED {
                this.formatted = true;
                continue;
            }
            let (track, count) = ((mark >> 32) as usize, (mark & 0xffff_ffff) as usize);
            let least = &mut this.at_least[track];
            *least = count.max(*least);
        }
        this
    }

    /// Exactly the last state of each track.
    pub fn all(plan: &Plan) -> Self {
        let at_least = plan.tracks.iter().map(|track| track.transactions.len()).collect();
        Self { formatted: true, at_least }
    }
}

/// Mounts and looks; closes the store if told to, else leaves it as a killed process would.
pub async fn check(
    core: Core,
    setup: Arc<Setup>,
    views: Rc<Views>,
    plan: Arc<Plan>,
    expect: Expectation,
    close: bool,
) -> Result<Found, String> {
    let store = match mount(&core, &setup, &views).await {
        Ok(mounted) => mounted.engine,
        Err(MountError::NotFormatted(_)) if !expect.formatted => return Ok(Found::NotFormatted),
        Err(error) => return Err(error.to_string()),
    };
    let looked = look(&store, &plan, &expect).await;
    if close {
        let closed = store.close().await.map_err(|error| format!("close: {error}"));
        return looked.and_then(|found| closed.map(|()| Found::States(found)));
    }
    looked.map(Found::States)
}

async fn look(store: &Engine, plan: &Plan, expect: &Expectation) -> Result<Vec<usize>, String> {
    let mut states = Vec::new();
    for (index, track) in plan.tracks.iter().enumerate() {
        let mut found = Vec::new();
        for id in &track.ids {
            found.push(dump(store, *id).await?);
        }
        let least = expect.at_least[index];
        let shown = track.states.iter().rposition(|state| *state == found);
        match shown {
            Some(shown) if shown >= least => states.push(shown),
            Some(shown) => {
                return Err(format!("{:?} shows state {shown}, acknowledged {least}", track.ids));
            }
            None => {
                let both = found.iter().zip(&track.states[least]);
                let differing = both.into_iter().find(|(found, expected)| found != expected);
                let near = differing.map_or_else(String::new, |(found, expected)| {
                    difference(found.as_ref(), expected.as_ref())
                });
                return Err(format!(
                    "{:?} shows a state that never was, acknowledged {least}, from which it differs: {near}",
                    track.ids
                ));
            }
        }
    }
    let known = |id| plan.tracks.iter().any(|track| track.ids.contains(&id));
    let collections = store.collections().await.map_err(|error| error.to_string())?;
    if let Some((id, ..)) = collections.iter().find(|(id, ..)| !known(*id)) {
        return Err(format!("there is a collection {id:?} that nobody made"));
    }
    let report = store.fsck(FsckLevel::Deep, Rc::new(Unwatched)).await;
    let report = report.map_err(|error| format!("fsck: {error}"))?;
    match report.findings.first() {
        None => Ok(states),
        Some(first) => Err(format!("fsck: {} findings, the first {first:?}", report.findings.len())),
    }
}
