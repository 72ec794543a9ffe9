//! What happens by itself, once a second: silent OSDs go down, blocks run out, quotas are watched, changes of the
//! health go to the cluster log.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rt::sync::{Either, select};
use wire::msg::{LogPriority, Severity};
use wire::osdmap::PoolFlags;
use wire::types::{Addr, PoolId};

use super::osd_sessions;
use super::shared::Shared;
use crate::health::Health;
use crate::view::View;

const PERIOD: Duration = Duration::from_secs(1);

pub async fn run(shared: Rc<Shared>) {
    let Some(pass) = shared.gate.enter() else { return };
    let mut last = BTreeMap::new();
    while matches!(select(pass.closing(), shared.core.sleep(PERIOD)).await, Either::Right(())) {
        osd_sessions::expire(&shared).await;
        unblock(&shared).await;
        watch_quotas(&shared).await;
        log_health(&shared, &mut last).await;
    }
}

/// Takes blocks that ran out off the list.
async fn unblock(shared: &Shared) {
    let over = |view: &View<'_>| -> Vec<Addr> {
        let blocks = view.osd_map().blocklist.0.iter();
        blocks.filter(|(_, until)| **until <= view.now).map(|(addr, _)| *addr).collect()
    };
    if shared.view(over).is_empty() {
        return;
    }
    let decided = shared.propose(move |view| {
        let over = over(view);
        let change = view.state.osd_maps.edit_within(view.now, |map| {
            map.blocklist.0.retain(|addr, _| !over.contains(addr));
        });
        (vec![change], ())
    });
    if decided.await.is_err() {
        log::debug!("stopping while blocks ran out");
    }
}

/// Pools whose flags do not say what their use and quota say, with the flags that would.
fn quota_changes(view: &View<'_>) -> BTreeMap<PoolId, PoolFlags> {
    const FULL: PoolFlags = PoolFlags(PoolFlags::FULL.0 | PoolFlags::FULL_QUOTA.0);
    let mut changes = BTreeMap::new();
    for (id, pool) in &view.osd_map().pools {
        let used = view.live.reports.pool(*id);
        let full = (pool.quota_max_bytes > 0 && used.bytes >= pool.quota_max_bytes)
            || (pool.quota_max_objects > 0 && used.objects >= pool.quota_max_objects);
        let flags = if full { pool.flags.with(FULL) } else { pool.flags.without(FULL) };
        if flags != pool.flags {
            changes.insert(*id, flags);
        }
    }
    changes
}

async fn watch_quotas(shared: &Shared) {
    if shared.view(quota_changes).is_empty() {
        return;
    }
    let decided = shared.propose(|view| {
        let wanted = quota_changes(view);
        if wanted.is_empty() {
            return (Vec::new(), ());
        }
        let change = view.state.osd_maps.edit_within(view.now, |map| {
            for (id, flags) in wanted {
                map.pools.entry(id).and_modify(|pool| pool.flags = flags);
            }
        });
        (vec![change], ())
    });
    if decided.await.is_err() {
        log::debug!("stopping while quotas were watched");
    }
}

/// Writes a line for every check that appeared, changed or went.
async fn log_health(shared: &Shared, last: &mut BTreeMap<String, (Severity, String)>) {
    shared.refresh_pg_map().await;
    let checks: BTreeMap<String, (Severity, String)> = shared.view(|view| {
        let health = Health::of(view);
        health
            .checks()
            .map(|(code, check)| (code.to_owned(), (check.severity, check.summary.clone())))
            .collect()
    });
    let mut lines = Vec::new();
    for (code, (severity, summary)) in &checks {
        let verb = match last.get(code) {
            None => "failed",
            Some((_, before)) if before != summary => "update",
            Some(_) => continue,
        };
        let priority = if *severity == Severity::Error { LogPriority::ERROR } else { LogPriority::WARNING };
        lines.push((priority, format!("Health check {verb}: {summary} ({code})")));
    }
    for (code, (_, summary)) in last.iter().filter(|(code, _)| !checks.contains_key(*code)) {
        lines.push((LogPriority::INFO, format!("Health check cleared: {code} (was: {summary})")));
    }
    if checks.is_empty() && !last.is_empty() {
        lines.push((LogPriority::INFO, "Cluster is now healthy".to_owned()));
    }
    *last = checks;
    for (priority, line) in lines {
        shared.log(priority, line).await;
    }
}
