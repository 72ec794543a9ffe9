//! What a repair changes, collected by a check: keys as the items of a record have them, what was repaired, and what is lost.

use bytes::Bytes;

use super::Check;
use crate::journal::item::Item;
use crate::limits;
use crate::types::ObjectId;

/// Something that a repair put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// Kind of the finding.
    pub kind: &'static str,
    /// What it was.
    pub detail: String,
}

/// Something that a repair gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Whose.
    pub object: ObjectId,
    /// What.
    pub lost: Lost,
    /// Why.
    pub reason: String,
}

/// What an object lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Itself.
    Object,
    /// Its omap.
    Omap,
    /// The bytes of `[from, to)`: they are a hole now.
    Bytes {
        /// First byte.
        from: u64,
        /// Byte after the last.
        to: u64,
    },
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fixes {
    /// What cannot be read may go.
    pub discards: bool,
    /// The changes; never two of one key.
    pub items: Vec<Item>,
    /// Bytes of these.
    pub bytes: usize,
    /// Bounded as findings are.
    pub repaired: Vec<Repaired>,
    /// All of them.
    pub lost: Vec<Loss>,
}

impl Fixes {
    pub(super) fn new(discards: bool) -> Self {
        Self { discards, ..Self::default() }
    }
}

impl Check {
    /// Whether what cannot be read may go.
    pub(super) fn discards(&self) -> bool {
        self.fixes.as_ref().is_some_and(|fixes| fixes.discards)
    }

    /// Whether a repair has nothing to change so far. What is counted is only right then: later checks begin with it.
    pub(super) fn nothing_changes(&self) -> bool {
        self.fixes.as_ref().is_some_and(|fixes| fixes.items.is_empty())
    }

    /// How a finding is repaired.
    pub(super) fn fix(&mut self, kind: &'static str, detail: String, items: impl IntoIterator<Item = Item>) {
        let Some(fixes) = &mut self.fixes else { return };
        for item in items {
            fixes.bytes += item.encoded_bytes_max();
            fixes.items.push(item);
        }
        if fixes.repaired.len() < limits::FSCK_FINDINGS_MAX {
            fixes.repaired.push(Repaired { kind, detail });
        }
    }

    /// A key gets a value, or goes, as part of a repair that was told of.
    pub(super) fn change(&mut self, key: Bytes, value: Option<Bytes>) {
        let Some(fixes) = &mut self.fixes else { return };
        let item = match value {
            Some(value) => Item::Put(key, value),
            None => Item::Delete(key),
        };
        fixes.bytes += item.encoded_bytes_max();
        fixes.items.push(item);
    }

    /// What an object loses by it.
    pub(super) fn lose(&mut self, object: &ObjectId, lost: Lost, reason: impl Into<String>) {
        if let Some(fixes) = &mut self.fixes {
            fixes.lost.push(Loss { object: object.clone(), lost, reason: reason.into() });
        }
    }
}
