//! The mistakes that can be planted, of whatever part: each must be found.

use std::fmt;

/// A mistake of one part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Of the engine.
    Engine(store::Planted),
    /// Of the file system below the key-value store.
    Fs(bluefs::fs::Planted),
    /// Of the daemon.
    Osd(osd::Planted),
}

impl Planted {
    /// All that can show in a cluster: no client makes clones yet, and no simulated key-value store cuts files.
    pub fn all() -> Vec<Self> {
        let engine = store::Planted::ALL.into_iter().filter(|planted| !planted.needs_clones());
        let is_used = |planted: &bluefs::fs::Planted| *planted != bluefs::fs::Planted::CutSpaceKept;
        let fs = bluefs::fs::Planted::ALL.into_iter().filter(is_used);
        let osd = osd::Planted::ALL.into_iter();
        engine.map(Self::Engine).chain(fs.map(Self::Fs)).chain(osd.map(Self::Osd)).collect()
    }

    /// The one of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|planted| planted.to_string() == name)
    }

    /// That of the engine, if it is one.
    pub fn engine(self) -> store::Fault {
        match self {
            Self::Engine(planted) => store::Fault::planted(planted),
            _ => store::Fault::default(),
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(planted) => write!(f, "{planted:?}"),
            Self::Fs(planted) => write!(f, "{planted:?}"),
            Self::Osd(planted) => write!(f, "{planted:?}"),
        }
    }
}
