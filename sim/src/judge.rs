//! Whether an answer fits a state of an object, and what the state is afterwards. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::operation::{Change, Content, Outcome, State, apply};

/// No space.
pub const ENOSPC: i32 = 28;
/// Input/output error.
pub const EIO: i32 = 5;
/// Bytes of a block, the unit in which data goes bad.
pub const BLOCK: usize = 4096;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A change, all or nothing.
    Change(Vec<Change>),
    /// The bytes of a range.
    Range {
        /// First byte.
        offset: usize,
        /// Bytes, fewer at the end.
        len: usize,
    },
    /// The bytes of a range, without holes at the end.
    Sparse {
        /// First byte.
        offset: usize,
        /// Bytes, fewer at the end.
        len: usize,
    },
    /// The size.
    Size,
    /// Some entries of the omap.
    OmapPage {
        /// Entries after this key.
        after: Bytes,
        /// Most entries.
        max: usize,
    },
    /// Everything but the bytes.
    Meta,
    /// Everything.
    Whole,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a change: 0 or an errno. To a read: an errno, and not that the object is missing.
    Errno(i32),
    /// To a range: the bytes, or none if the object is missing.
    Range(Option<Vec<u8>>),
    /// To a question for the size.
    Size(Option<usize>),
    /// To an omap page: entries, and whether there are more.
    OmapPage(Option<(BTreeMap<Bytes, Bytes>, bool)>),
    /// To the whole, or everything but the bytes.
    Whole(State),
}

/// What an object's requests may be refused for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leniency {
    /// Changes for want of space.
    pub full: bool,
    /// Blocks, by offset, that may be unreadable; and the number of the request from which on.
    pub damaged: BTreeMap<usize, u64>,
}

impl Leniency {
    /// Whether a change may be refused with this errno, or with any if none is given.
    pub fn refuses(&self, request: &[Change], errno: Option<i32>) -> bool {
        // What only removes works on a full device, and on a damaged one too.
        let harmless = |change: &Change| {
            matches!(change, Change::Remove | Change::AssertExists | Change::CompareXattr { .. })
        };
        let full = self.full && errno.is_none_or(|errno| errno == ENOSPC);
        let damaged = !self.damaged.is_empty() && errno.is_none_or(|errno| errno == EIO);
        (full || damaged) && !request.iter().all(harmless)
    }

    fn reaches(&self, offset: usize, len: usize) -> bool {
        self.damaged.keys().any(|block| *block < offset.saturating_add(len) && offset < block + BLOCK)
    }
}

/// The state after an answer, if it fits the state before.
pub fn judge(state: &State, asked: &Asked, answer: &Answer, leniency: &Leniency) -> Result<State, String> {
    let same = || Ok(state.clone());
    match (asked, answer) {
        (Asked::Change(request), Answer::Errno(errno)) => {
            let (after, outcome) = apply(state, request);
            let expected = match outcome {
                Outcome::Done => 0,
                Outcome::Fails(code) => code,
            };
            if *errno == expected {
                return Ok(after);
            }
            if leniency.refuses(request, Some(*errno)) {
                return same();
            }
            Err(format!("{request:?} was answered with errno {errno}, but the model says {expected}"))
        }
        (Asked::Range { offset, len } | Asked::Sparse { offset, len }, Answer::Errno(EIO))
            if state.is_some() && leniency.reaches(*offset, *len) =>
        {
            same()
        }
        (Asked::Whole, Answer::Errno(EIO)) if state.is_some() && !leniency.damaged.is_empty() => same(),
        (Asked::Range { offset, len }, Answer::Range(seen)) => {
            let expected = range(state, *offset, *len);
            if expected == seen.as_deref() {
                same()
            } else {
                Err(range_differs(*offset, *len, expected, seen))
            }
        }
        (Asked::Sparse { offset, len }, Answer::Range(seen)) => {
            let expected = range(state, *offset, *len);
            let fits = match (expected, seen) {
                (Some(expected), Some(seen)) => {
                    expected.get(..seen.len()) == Some(seen)
                        && expected[seen.len()..].iter().all(|byte| *byte == 0)
                }
                (None, None) => true,
                _ => false,
            };
            if fits {
                same()
            } else {
                Err(format!("sparse: {}", range_differs(*offset, *len, expected, seen)))
            }
        }
        (Asked::Size, Answer::Size(seen)) => {
            let expected = state.as_ref().map(|content| content.data.len());
            if expected == *seen {
                same()
            } else {
                Err(format!("its size is {seen:?}, but the model says {expected:?}"))
            }
        }
        (Asked::OmapPage { after, max }, Answer::OmapPage(seen)) => {
            let expected = state.as_ref().map(|content| page(content, after, *max));
            if expected == *seen {
                return same();
            }
            let keys = |page: &Option<(BTreeMap<Bytes, Bytes>, bool)>| {
                page.as_ref().map(|(entries, more)| (entries.keys().cloned().collect::<Vec<_>>(), *more))
            };
            Err(format!(
                "{max} omap entries after {after:?} are {:?}, but the model says {:?}",
                keys(seen),
                keys(&expected)
            ))
        }
        (Asked::Meta, Answer::Whole(seen)) => {
            let bare = state.as_ref().map(|content| Content { data: Vec::new(), ..content.clone() });
            if bare == *seen { same() } else { Err(describe_difference(&bare, seen)) }
        }
        (Asked::Whole, Answer::Whole(seen)) => {
            if state == seen {
                same()
            } else {
                Err(describe_difference(state, seen))
            }
        }
        (asked, answer) => Err(format!("{asked:?} was answered with {answer:?}")),
    }
}

fn range(state: &State, offset: usize, len: usize) -> Option<&[u8]> {
    state.as_ref().map(|content| {
        let size = content.data.len();
        &content.data[offset.min(size)..(offset + len).min(size)]
    })
}

fn page(content: &Content, after: &Bytes, max: usize) -> (BTreeMap<Bytes, Bytes>, bool) {
    let mut all = content.omap.iter().filter(|(key, _)| *key > after);
    let entries = all.by_ref().take(max).map(|(key, value)| (key.clone(), value.clone())).collect();
    (entries, all.next().is_some())
}

fn range_differs(offset: usize, len: usize, expected: Option<&[u8]>, seen: &Option<Vec<u8>>) -> String {
    let say =
        |bytes: Option<&[u8]>| bytes.map_or("nothing".to_owned(), |bytes| format!("{} bytes", bytes.len()));
    let at = expected.zip(seen.as_deref()).and_then(|(a, b)| a.iter().zip(b).position(|(a, b)| a != b));
    format!(
        "a read of {len} bytes at {offset} gave {}, but the model says {}{}",
        say(seen.as_deref()),
        say(expected),
        at.map_or(String::new(), |at| format!("; they differ from byte {}", offset + at))
    )
}

/// In what two states differ.
pub fn describe_difference(expected: &State, seen: &State) -> String {
    match (expected, seen) {
        (None, Some(content)) => {
            format!("it exists with {} bytes, but the model says absent", content.data.len())
        }
        (Some(content), None) => format!("it is missing, but the model has {} bytes", content.data.len()),
        (Some(expected), Some(seen)) => describe_content(expected, seen),
        (None, None) => "absent in both".to_owned(),
    }
}

fn describe_content(expected: &Content, seen: &Content) -> String {
    if expected.data.len() != seen.data.len() {
        return format!("its size is {}, but the model says {}", seen.data.len(), expected.data.len());
    }
    let differs = |(a, b): (&u8, &u8)| a != b;
    if let Some(first) = expected.data.iter().zip(&seen.data).position(differs) {
        let last = expected.data.iter().zip(&seen.data).rposition(differs).unwrap_or(first);
        return format!("its bytes {first} to {last} of {} are not what was written", seen.data.len());
    }
    if expected.xattrs != seen.xattrs {
        return format!("its xattrs are {:?}, but the model says {:?}", seen.xattrs, expected.xattrs);
    }
    if expected.omap != seen.omap {
        let key = expected.omap.iter().chain(&seen.omap).map(|(key, _)| key);
        let key = key.into_iter().find(|key| expected.omap.get(*key) != seen.omap.get(*key));
        return format!(
            "its omap ({} keys, expected {}) differs at {key:?}",
            seen.omap.len(),
            expected.omap.len()
        );
    }
    format!("its omap header is {:?}, but the model says {:?}", seen.header, expected.header)
}
