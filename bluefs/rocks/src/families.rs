//! Which column family holds a key, by its prefix. Pure.
//!
//! Object nodes and omap are the bulk and behave differently (point reads against scans and range deletes), so each
//! has a family with memtables and files of its own; the rest shares one. Families are flushed together, atomically.

use bytes::Bytes;

/// A family, and the part of the key space that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) family: &'static str,
    /// First key; the segment ends where the next begins.
    pub(crate) start: &'static [u8],
}

/// Everything that is neither an object node nor omap.
pub(crate) const REST: &str = "default";
/// Omap: prefix `M`.
pub(crate) const OMAP: &str = "M";
/// Object nodes: prefix `O`.
pub(crate) const NODES: &str = "O";

/// All families.
pub(crate) const FAMILIES: [&str; 3] = [REST, OMAP, NODES];

/// The key space in order, without gaps.
pub(crate) const SEGMENTS: [Segment; 5] = [
    Segment { family: REST, start: b"" },
    Segment { family: OMAP, start: b"M" },
    Segment { family: REST, start: b"N" },
    Segment { family: NODES, start: b"O" },
    Segment { family: REST, start: b"P" },
];

/// The family of a key.
pub(crate) fn family_of(key: &[u8]) -> &'static str {
    let after = SEGMENTS.partition_point(|segment| segment.start <= key);
    SEGMENTS[after - 1].family
}

/// Cuts `[start, end)` at the borders of segments; an empty `end` has no bound. Empty pieces are left out.
pub(crate) fn cut(start: &Bytes, end: &Bytes) -> Vec<(&'static str, Bytes, Bytes)> {
    let mut pieces = Vec::new();
    for (index, segment) in SEGMENTS.iter().enumerate() {
        let next = SEGMENTS.get(index + 1).map(|next| Bytes::from_static(next.start)).unwrap_or_default();
        let from = start.clone().max(Bytes::from_static(segment.start));
        let to = match (end.is_empty(), next.is_empty()) {
            (true, _) => next,
            (false, true) => end.clone(),
            (false, false) => end.clone().min(next),
        };
        if to.is_empty() || from < to {
            pieces.push((segment.family, from, to));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(start: &'static str, end: &'static str) -> Vec<(&'static str, Bytes, Bytes)> {
        cut(&Bytes::from_static(start.as_bytes()), &Bytes::from_static(end.as_bytes()))
    }

    #[test]
    fn every_key_has_one_family() {
        for (key, family) in [("", REST), ("B1", REST), ("L", REST), ("M", OMAP), ("Mzz", OMAP), ("N", REST)]
        {
            assert_eq!(family_of(key.as_bytes()), family);
        }
        assert_eq!((family_of(b"O\xff"), family_of(b"P"), family_of(b"\xff")), (NODES, REST, REST));
    }

    #[test]
    fn ranges_are_cut_where_families_change() {
        let text = |start, end| {
            let piece = |(family, from, to): (&str, Bytes, Bytes)| {
                format!("{family}:{}..{}", String::from_utf8_lossy(&from), String::from_utf8_lossy(&to))
            };
            pieces(start, end).into_iter().map(piece).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text("Ma", "Mb"), "M:Ma..Mb");
        assert_eq!(text("L", "Oa"), "default:L..M M:M..N default:N..O O:O..Oa");
        assert_eq!(text("", ""), "default:..M M:M..N default:N..O O:O..P default:P..");
        assert_eq!(text("T", "U"), "default:T..U");
        assert_eq!(text("Mb", "Ma"), "");
        assert_eq!(text("Ma", "Ma"), "");
    }
}
