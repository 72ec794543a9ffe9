//! What an OSD is told when it starts, and options that may change while it runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use uuid::Uuid;

/// What an OSD is told when it starts.
#[derive(Clone, Debug)]
pub struct OsdConfig {
    /// Its id.
    pub whoami: i32,
    /// The cluster.
    pub fsid: Uuid,
    /// Identity of its store; a store of another identity is refused.
    pub osd_uuid: Uuid,
    /// Monitors.
    pub monitors: Vec<SocketAddr>,
    /// Where to listen for clients; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What `osd metadata` tells: host, device, slice, core, backend.
    pub metadata: BTreeMap<String, String>,
    /// OSDs in this process, which share its memory by the same option.
    pub memory_sharers: u64,
    /// Options given on the command line or in a file.
    pub options: BTreeMap<String, String>,
}

/// Where an option's value comes from; later ones win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptionSource {
    /// Built in.
    Default,
    /// Command line or file.
    Start,
    /// The monitor's configuration.
    Monitor,
    /// `config set` on this daemon.
    Override,
}

impl OptionSource {
    /// As commands print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Start => "file",
            Self::Monitor => "mon",
            Self::Override => "override",
        }
    }
}

/// Options this daemon acts upon, with their defaults.
pub const KNOWN_OPTIONS: &[(&str, &str)] = &[
    ("debug_osd", "1/5"),
    ("osd_client_message_cap", "256"),
    ("osd_client_message_size_cap", "524288000"),
    ("osd_deep_scrub_interval", "604800"),
    ("osd_failsafe_full_ratio", "0.97"),
    ("osd_max_object_size", "134217728"),
    ("osd_max_write_size", "90"),
    ("osd_memory_target", "0"),
    ("osd_op_history_size", "20"),
];

/// Option by option, the value of each source.
#[derive(Default)]
pub struct Options {
    values: RefCell<BTreeMap<String, BTreeMap<OptionSource, String>>>,
}

impl Options {
    /// Defaults, and what was given at start.
    pub fn new(start: &BTreeMap<String, String>) -> Self {
        let options = Self::default();
        for (name, value) in KNOWN_OPTIONS {
            options.set(OptionSource::Default, name, value);
        }
        for (name, value) in start {
            options.set(OptionSource::Start, name, value);
        }
        options
    }

    /// Sets the value of one source.
    pub fn set(&self, source: OptionSource, name: &str, value: &str) {
        let mut values = self.values.borrow_mut();
        values.entry(name.to_owned()).or_default().insert(source, value.to_owned());
    }

    /// Removes the value of one source. False if there was none.
    pub fn unset(&self, source: OptionSource, name: &str) -> bool {
        let mut values = self.values.borrow_mut();
        let Some(of_name) = values.get_mut(name) else { return false };
        let removed = of_name.remove(&source).is_some();
        if of_name.is_empty() {
            values.remove(name);
        }
        removed
    }

    /// The monitor's configuration is this, as a whole.
    pub fn replace_monitors(&self, options: &BTreeMap<String, String>) {
        self.values.borrow_mut().retain(|_, of_name| {
            of_name.remove(&OptionSource::Monitor);
            !of_name.is_empty()
        });
        for (name, value) in options {
            self.set(OptionSource::Monitor, name, value);
        }
    }

    /// The value of one source.
    pub fn of(&self, source: OptionSource, name: &str) -> Option<String> {
        self.values.borrow().get(name).and_then(|of_name| of_name.get(&source)).cloned()
    }

    /// The value that counts.
    pub fn get(&self, name: &str) -> Option<String> {
        let values = self.values.borrow();
        values.get(name).and_then(|of_name| of_name.values().next_back()).cloned()
    }

    /// All values that count, with their sources, ascending by name.
    pub fn all(&self) -> Vec<(String, String, OptionSource)> {
        let values = self.values.borrow();
        let newest = |(name, of_name): (&String, &BTreeMap<OptionSource, String>)| {
            let (source, value) = of_name.last_key_value()?;
            Some((name.clone(), value.clone(), *source))
        };
        values.iter().filter_map(newest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_source_wins() {
        let options = Options::new(&BTreeMap::from([("a".into(), "start".into())]));
        assert_eq!(options.get("osd_max_write_size").as_deref(), Some("90"));
        options.replace_monitors(&BTreeMap::from([("a".into(), "mon".into()), ("b".into(), "mon".into())]));
        assert_eq!(options.get("a").as_deref(), Some("mon"));
        options.set(OptionSource::Override, "a", "here");
        options.replace_monitors(&BTreeMap::new());
        assert_eq!((options.get("a").as_deref(), options.get("b")), (Some("here"), None));
        assert!(options.unset(OptionSource::Override, "a"));
        assert!(!options.unset(OptionSource::Override, "a"));
        assert_eq!(options.get("a").as_deref(), Some("start"));
    }
}
