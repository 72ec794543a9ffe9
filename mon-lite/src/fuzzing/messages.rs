//! Messages that lead to decisions: whatever decodes is refused, or decides something that applies.

use bytes::Bytes;
use wire::codec::Reader;
use wire::msg::{Log, OsdBoot, OsdStats, Payload, PoolOp};
use wire::msgr2::{Data, Message, MessageHeader};

use super::cluster::{NOW, apply, live, small_cluster};
use super::commands::look_around;
use crate::commands::pool_op as decisions;
use crate::limits::LOG_ENTRIES_PER_MESSAGE_MAX;
use crate::live::OsdReport;
use crate::osd_life;
use crate::state::{Change, cluster_log};
use crate::view::View;

/// The front of a message of one type in its newest version.
fn decode<P: Payload>(front: &[u8]) -> Option<P> {
    let header = MessageHeader {
        tid: 7,
        kind: P::KIND,
        priority: 1,
        version: P::VERSION,
        compat_version: P::COMPAT,
        data_offset: 0,
    };
    let front = Bytes::copy_from_slice(front);
    P::from_message(&Message { header, front, middle: Bytes::new(), data: Data::new() }).ok()
}

/// A change of a pool that librados asks for.
pub(super) fn pool_op(input: &[u8]) {
    let Some(request) = decode::<PoolOp>(input) else {
        return;
    };
    let mut state = small_cluster();
    // Twice, because the second time what the first made is there.
    for _ in 0..2 {
        let decided = decisions::decide(&View { state: &state, live: &live(&state), now: NOW }, &request);
        if let Ok(changes) = decided {
            apply(&mut state, changes);
        }
    }
}

/// An OSD that starts.
pub(super) fn osd_boot(input: &[u8]) {
    let Some(boot) = decode::<OsdBoot>(input) else {
        return;
    };
    let mut state = small_cluster();
    if let Ok(changes) = osd_life::boot(&state, NOW, &boot) {
        apply(&mut state, changes);
        let again = osd_life::boot(&state, NOW, &boot).map(|changes| changes.len());
        assert_eq!(again, Ok(0), "a boot that is repeated says nothing new");
        look_around(&state, &live(&state), input);
    }
}

/// Reports of OSDs, one after the other, and what is said of them.
pub(super) fn osd_stats(input: &[u8]) {
    let state = small_cluster();
    let mut live = live(&state);
    let mut r = Reader::new("fuzz", Bytes::copy_from_slice(input));
    while let Ok(stats) = r.get::<OsdStats>() {
        live.reports.accept(stats.osd.rem_euclid(3), OsdReport::new(stats, NOW));
    }
    look_around(&state, &live, input);
}

/// Lines for the cluster log.
pub(super) fn log(input: &[u8]) {
    if let Some(message) = decode::<Log>(input) {
        let mut state = small_cluster();
        let entries = message.entries.into_iter().take(LOG_ENTRIES_PER_MESSAGE_MAX);
        let changes = entries.map(|entry| Change::Log(cluster_log::bounded(entry))).collect();
        apply(&mut state, changes);
        look_around(&state, &live(&state), input);
    }
}
