//! What a transaction has to know of an omap that is in the store: entries that ops name one by one, and how many others there
//! are in the ranges that ops remove, which may be any number. Pure.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

/// Entries, and the bytes of their keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Entries.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Entries {
    /// One of so many bytes, or none.
    pub fn of(bytes: Option<u64>) -> Self {
        Self { keys: bytes.is_some().into(), bytes: bytes.unwrap_or(0) }
    }

    /// One more.
    pub fn add(&mut self, bytes: u64) {
        *self = Self { keys: self.keys + 1, bytes: self.bytes + bytes };
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct KnownOmap {
    named: BTreeMap<Bytes, u64>,
    /// By first key: the end, and what there is beside the entries that are named. They do not overlap.
    sections: BTreeMap<Bytes, (Bytes, Entries)>,
}

/// The ranges that ops remove, cut at each other's ends: `[first, end)` ascending, none overlapping. Each range is some of these.
pub fn sections(ranges: &[(Bytes, Bytes)]) -> Vec<(Bytes, Bytes)> {
    // At each end of a range, how many more begin there than end.
    let mut steps: BTreeMap<&Bytes, i64> = BTreeMap::new();
    for (first, end) in ranges.iter().filter(|(first, end)| first < end) {
        *steps.entry(first).or_default() += 1;
        *steps.entry(end).or_default() -= 1;
    }
    let mut out = Vec::new();
    let mut open = 0;
    for ((from, step), (to, _)) in steps.iter().zip(steps.iter().skip(1)) {
        open += step;
        if open > 0 {
            out.push((Bytes::clone(from), Bytes::clone(to)));
        }
    }
    out
}

impl KnownOmap {
    /// An entry that ops name is there.
    pub fn add_named(&mut self, key: Bytes, bytes: u64) {
        self.named.insert(key, bytes);
    }

    /// What there is in a section beside entries that ops name.
    pub fn add_section(&mut self, first: Bytes, end: Bytes, entries: Entries) {
        self.sections.insert(first, (end, entries));
    }

    /// Bytes of an entry that ops name, if it is there.
    pub fn named(&self, key: &Bytes) -> Option<u64> {
        self.named.get(key).copied()
    }

    /// An entry that ops name counts no more.
    pub fn forget(&mut self, key: &Bytes) {
        self.named.remove(key);
    }

    /// Removes what is in a range that an op removes; tells what that was.
    pub fn remove_range(&mut self, first: &Bytes, end: &Bytes) -> Entries {
        let mut gone = Entries::default();
        if first >= end {
            return gone;
        }
        let range = || (Bound::Included(first.clone()), Bound::Excluded(end.clone()));
        for (_, bytes) in self.named.extract_if(range(), |_, _| true) {
            gone.add(bytes);
        }
        for (_, (section_end, entries)) in self.sections.extract_if(range(), |_, _| true) {
            debug_assert!(section_end <= *end, "ranges consist of whole sections");
            gone.keys += entries.keys;
            gone.bytes += entries.bytes;
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn cut(ranges: &[(&'static str, &'static str)]) -> Vec<(Bytes, Bytes)> {
        sections(&ranges.iter().map(|(first, end)| (text(first), text(end))).collect::<Vec<_>>())
    }

    #[test]
    fn ranges_are_cut_at_each_others_ends() {
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&[("b", "a"), ("c", "c")]), []);
        assert_eq!(
            cut(&[("a", "d"), ("b", "c")]),
            [(text("a"), text("b")), (text("b"), text("c")), (text("c"), text("d"))]
        );
        assert_eq!(cut(&[("x", "z"), ("a", "b")]), [(text("a"), text("b")), (text("x"), text("z"))]);
        assert_eq!(cut(&[("a", "c"), ("b", "d")]).len(), 3);
    }

    #[test]
    fn what_is_removed_counts_once() {
        let mut known = KnownOmap::default();
        known.add_named(text("b"), 10);
        known.add_named(text("y"), 5);
        let entries = |keys, bytes| Entries { keys, bytes };
        known.add_section(text("a"), text("c"), entries(1000, 20_000));
        known.add_section(text("c"), text("d"), entries(3, 30));
        assert_eq!(known.named(&text("b")), Some(10));
        assert_eq!(known.remove_range(&text("a"), &text("c")), entries(1001, 20_010));
        assert_eq!(known.named(&text("b")), None);
        assert_eq!(known.remove_range(&text("a"), &text("d")), entries(3, 30));
        assert_eq!(known.remove_range(&text("a"), &text("d")), entries(0, 0));
        assert_eq!(known.remove_range(&text("z"), &text("a")), entries(0, 0));
        assert_eq!(known.named(&text("y")), Some(5));
    }
}
