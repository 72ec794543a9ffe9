//! What a session wants to be told, and what it was told already.
//!
//! Invariant: a subscriber sees consecutive versions, or the newest whole map; a request for one answer is kept until
//! there is one.

use std::collections::BTreeMap;

use wire::codec::encode_to_bytes;
use wire::msg::{
    Body, ConfigMessage, Log, LogEntry, LogPriority, MgrMap, MonMapMessage, OsdMapMessage, Subscription,
};
use wire::msgr2::Peer;
use wire::types::Epoch;

use super::shared::Shared;
use crate::limits::{LOG_ENTRIES_PER_MESSAGE_MAX, OSD_INCREMENTALS_PER_MESSAGE, SUBSCRIPTIONS_MAX};
use crate::state::{OsdMaps, State, cluster_log};

/// The manager map never changes: there is no manager.
const MGR_MAP_EPOCH: u64 = 1;

/// What one session wants, by name.
#[derive(Default)]
pub struct Subscriptions {
    wanted: BTreeMap<String, Subscription>,
    /// Options sent last.
    config: Option<BTreeMap<String, String>>,
}

impl Subscriptions {
    /// Adds to what is wanted, in place of earlier wishes of the same names.
    pub fn add(&mut self, what: BTreeMap<String, Subscription>) {
        for (name, subscription) in what {
            if name == "config" {
                // Asking is asking to be told now.
                self.config = None;
            }
            if self.wanted.len() < SUBSCRIPTIONS_MAX || self.wanted.contains_key(&name) {
                self.wanted.insert(name, subscription);
            }
        }
    }

    /// The next message that the subscriber is due, if any.
    pub fn next_message(&mut self, shared: &Shared, peer: Option<&Peer>) -> Option<Body> {
        let state = shared.state.borrow();
        let names: Vec<String> = self.wanted.keys().cloned().collect();
        names.iter().find_map(|name| self.message_for(name, &state, peer))
    }

    fn message_for(&mut self, name: &str, state: &State, peer: Option<&Peer>) -> Option<Body> {
        let Subscription { start, once } = *self.wanted.get(name)?;
        let (body, next) = match name {
            "config" => (self.config_news(state, peer)?, start),
            "monmap" => {
                let map = state.mon_map.as_ref().filter(|map| u64::from(map.epoch.0) >= start)?;
                (MonMapMessage::new(map).into(), u64::from(map.epoch.0) + 1)
            }
            "mgrmap" if start <= MGR_MAP_EPOCH => (MgrMap::none(Epoch(1)).into(), MGR_MAP_EPOCH + 1),
            "osdmap" => {
                let message = osd_map_since(state, start)?;
                let last = message.incrementals.keys().chain(message.full.keys()).max().copied()?;
                (message.into(), u64::from(last.0) + 1)
            }
            other => {
                let (level, channel) = log_level(other)?;
                if start == 0 {
                    // A new watcher is told what happens from now on.
                    let next = Subscription { start: state.cluster_log.version() + 1, once };
                    self.wanted.insert(name.to_owned(), next);
                    return None;
                }
                let (log, next) = log_since(state, start, level, channel)?;
                (log.into(), next)
            }
        };
        if once {
            self.wanted.remove(name);
        } else if let Some(subscription) = self.wanted.get_mut(name) {
            subscription.start = next;
        }
        Some(body)
    }

    /// The options that apply to the peer, if they differ from what it was sent.
    fn config_news(&mut self, state: &State, peer: Option<&Peer>) -> Option<Body> {
        let who = peer.and_then(|peer| peer.name.clone()).unwrap_or_default();
        let effective = state.config.effective(&who);
        let options: BTreeMap<String, String> =
            effective.into_iter().map(|(name, (_, value))| (name, value)).collect();
        if self.config.as_ref() == Some(&options) {
            return None;
        }
        self.config = Some(options.clone());
        Some(ConfigMessage { options }.into())
    }
}

/// What a subscriber from `start` on is to be sent; none if there is nothing yet.
fn osd_map_since(state: &State, start: u64) -> Option<OsdMapMessage> {
    let maps = &state.osd_maps;
    if start > u64::from(maps.epoch().0) {
        return None;
    }
    let from = u32::try_from(start).ok().map(Epoch).filter(|from| *from > maps.oldest_epoch());
    Some(match from {
        Some(from) => message(state, increments(maps, from), BTreeMap::new()),
        None => full_map(state),
    })
}

fn increments(maps: &OsdMaps, from: Epoch) -> BTreeMap<Epoch, bytes::Bytes> {
    let epochs = (from.0..=maps.epoch().0).take(OSD_INCREMENTALS_PER_MESSAGE).map(Epoch);
    epochs.map_while(|epoch| Some((epoch, maps.incremental(epoch)?.clone()))).collect()
}

/// A message with the newest map as a whole.
pub fn full_map(state: &State) -> OsdMapMessage {
    let map = state.osd_maps.newest();
    message(state, BTreeMap::new(), [(map.epoch, encode_to_bytes(&**map))].into())
}

fn message(
    state: &State,
    incrementals: BTreeMap<Epoch, bytes::Bytes>,
    full: BTreeMap<Epoch, bytes::Bytes>,
) -> OsdMapMessage {
    OsdMapMessage {
        fsid: state.fsid,
        incrementals,
        full,
        oldest: state.osd_maps.oldest_epoch(),
        newest: state.osd_maps.epoch(),
        trim_lower_bound: Epoch(0),
    }
}

/// `log-info` and `log-info-audit`: the least priority, and the channel if only one is wanted.
fn log_level(name: &str) -> Option<(LogPriority, Option<&str>)> {
    let rest = name.strip_prefix("log-")?;
    let (level, channel) =
        rest.split_once('-').map_or((rest, None), |(level, channel)| (level, Some(channel)));
    Some((cluster_log::priority_named(level)?, channel))
}

/// Entries from version `start` on.
fn log_since(state: &State, start: u64, level: LogPriority, channel: Option<&str>) -> Option<(Log, u64)> {
    let log = &state.cluster_log;
    let fits =
        |entry: &LogEntry| entry.priority >= level && channel.is_none_or(|channel| channel == entry.channel);
    let new = log.iter().filter(|(version, entry)| *version >= start && fits(entry));
    let entries: Vec<(u64, LogEntry)> =
        new.take(LOG_ENTRIES_PER_MESSAGE_MAX).map(|(version, entry)| (version, entry.clone())).collect();
    let next = entries.last()?.0 + 1;
    let entries = entries.into_iter().map(|(_, entry)| entry).collect();
    Some((Log { version: log.version(), fsid: state.fsid, entries }, next))
}
