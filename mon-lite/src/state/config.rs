//! The configuration database: options by section, as `ceph config` edits them.
//!
//! Invariant: names are normalised, sections are valid. Cluster view; pure.

use std::collections::BTreeMap;
use std::fmt;

use wire::codec::{DecodeResult, Reader, Wire, Writer};
use wire::types::{AuthName, EntityKind};

use crate::limits::CONFIG_VALUE_BYTES_MAX;

/// Who an option is for, from the most general to the most specific; the order of the variants is that of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// Everybody.
    Global,
    /// All of a kind, such as `osd`.
    Kind(String),
    /// One entity, such as `osd.3` or `client.admin`.
    Entity(String),
}

const KINDS: [(&str, EntityKind); 5] = [
    ("mon", EntityKind::MON),
    ("mgr", EntityKind::MGR),
    ("osd", EntityKind::OSD),
    ("mds", EntityKind::MDS),
    ("client", EntityKind::CLIENT),
];

impl Section {
    /// Reads `global`, a kind, or an entity. Masks (`osd/class:ssd`) are not understood and give none.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "global" {
            return Some(Self::Global);
        }
        let (kind, id) = text.split_once('.').map_or((text, None), |(kind, id)| (kind, Some(id)));
        let known = KINDS.iter().any(|(name, _)| *name == kind);
        let sound = text.len() <= CONFIG_VALUE_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        match id {
            None if known => Some(Self::Kind(kind.to_owned())),
            Some(id) if known && sound && !id.is_empty() => Some(Self::Entity(text.to_owned())),
            _ => None,
        }
    }

    /// The sections that apply to `who`, most general first.
    fn applying_to(who: &AuthName) -> [Self; 3] {
        let kind = who.kind.to_string();
        [Self::Global, Self::Kind(kind.clone()), Self::Entity(format!("{kind}.{}", who.id))]
    }
}

/// Reads `osd.3` and the like; a bare kind gives an empty id.
pub fn parse_entity(text: &str) -> Option<AuthName> {
    let (kind, id) = text.split_once('.').unwrap_or((text, ""));
    let (_, kind) = KINDS.iter().find(|(name, _)| *name == kind)?;
    Some(AuthName { kind: *kind, id: id.to_owned() })
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Kind(name) | Self::Entity(name) => f.write_str(name),
        }
    }
}

impl Wire for Section {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.str(&self.to_string());
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        let text = r.str()?;
        Self::parse(&text).ok_or_else(|| r.error("a configuration section", text))
    }
}

/// Values by section and option.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDb {
    values: BTreeMap<(Section, String), String>,
    /// Counts changes.
    version: u64,
}

impl ConfigDb {
    /// Option names are the same with blanks, dashes and underscores.
    pub fn normalise(name: &str) -> String {
        name.replace([' ', '-'], "_")
    }

    /// Counts changes, so that a subscriber is told when there is news.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All values: section, option, value.
    pub fn iter(&self) -> impl Iterator<Item = (&Section, &str, &str)> {
        self.values.iter().map(|((section, name), value)| (section, name.as_str(), value.as_str()))
    }

    /// Bytes of all values with their names.
    pub fn bytes(&self) -> usize {
        self.iter().map(|(section, name, value)| Self::bytes_of(section, name, value)).sum()
    }

    /// Bytes of one value with its names, as they are stored.
    pub fn bytes_of(section: &Section, name: &str, value: &str) -> usize {
        section.to_string().len() + name.len() + value.len() + 3 * size_of::<u32>()
    }

    /// How many values there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What is set in exactly this section.
    pub fn get(&self, section: &Section, name: &str) -> Option<&str> {
        self.values.get(&(section.clone(), name.to_owned())).map(String::as_str)
    }

    /// The options that apply to `who`, with the section that won.
    pub fn effective(&self, who: &AuthName) -> BTreeMap<String, (Section, String)> {
        let mut effective = BTreeMap::new();
        for section in Section::applying_to(who) {
            let own = self.values.iter().filter(|((other, _), _)| *other == section);
            effective.extend(own.map(|((_, name), value)| (name.clone(), (section.clone(), value.clone()))));
        }
        effective
    }

    pub(super) fn set(&mut self, section: Section, name: String, value: Option<String>) {
        match value {
            Some(value) => self.values.insert((section, name), value),
            None => self.values.remove(&(section, name)),
        };
        self.version += 1;
    }
}

impl Wire for ConfigDb {
    const BYTES_MIN: usize = 12;
    fn encode(&self, w: &mut Writer) {
        w.u64(self.version);
        w.map(&self.values);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Self { version: r.u64()?, values: r.map()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_section_wins() {
        let mut config = ConfigDb::default();
        let admin = AuthName { kind: EntityKind::CLIENT, id: "admin".into() };
        for (section, value) in [("client.admin", "3"), ("global", "1"), ("client", "2"), ("osd", "4")] {
            let section = Section::parse(section).unwrap();
            config.set(section, "x".into(), Some(value.into()));
        }
        assert_eq!(config.effective(&admin)["x"].1, "3");
        config.set(Section::Entity("client.admin".into()), "x".into(), None);
        assert_eq!(config.effective(&admin)["x"], (Section::Kind("client".into()), "2".into()));
        assert_eq!(config.version(), 5);
    }

    #[test]
    fn sections_are_checked() {
        for bad in ["", "foo", "osd.", "osd/class:ssd", "client.a b", "global.x"] {
            assert_eq!(Section::parse(bad), None, "{bad}");
        }
        assert_eq!(Section::parse("osd.3").map(|s| s.to_string()), Some("osd.3".into()));
    }
}
