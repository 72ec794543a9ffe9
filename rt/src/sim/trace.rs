//! The running hash of everything that happens, and its text if wanted. Pure.
//!
//! Invariant: the hash covers every event in order, with virtual time and content; two runs of one seed that differ
//! anywhere differ in their hash.

use std::collections::VecDeque;
use std::fmt;

use crate::core::Nanos;
use crate::limits::SIM_TRACE_LINES_MAX;

/// Hash and text.
pub(super) struct Trace {
    lanes: [u64; 2],
    events: u64,
    lines: Option<VecDeque<String>>,
}

impl Trace {
    pub fn new(seed: u64, text: bool) -> Self {
        Self {
            lanes: [seed ^ 0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344],
            events: 0,
            lines: text.then(VecDeque::new),
        }
    }

    /// Notes one event: when, what, where, how much, and its content.
    pub fn note(&mut self, now: Nanos, what: &str, numbers: &[u64], content: &[u8]) {
        self.events += 1;
        self.mix(now.0);
        self.mix_bytes(what.as_bytes());
        for &number in numbers {
            self.mix(number);
        }
        self.mix_bytes(content);
        let hash = self.hash();
        if let Some(lines) = &mut self.lines {
            if lines.len() == SIM_TRACE_LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(format!("{:>14} {what} {numbers:?} +{} #{hash:016x}", now.0, content.len()));
        }
    }

    pub fn hash(&self) -> u64 {
        fold(self.lanes[0] ^ 0xa409_3822_299f_31d0, self.lanes[1])
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    fn mix(&mut self, word: u64) {
        self.lanes[0] = fold(self.lanes[0] ^ word, 0x9e37_79b9_7f4a_7c15);
        self.lanes[1] = self.lanes[1].rotate_left(23).wrapping_add(word).wrapping_mul(0xd6e8_feb8_6659_fd93);
    }

    fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(bytes.len() as u64);
        // Four chains of their own, since one waits for its multiplication at each word.
        let mut chains = [1, 2, 3, 4];
        let mut blocks = bytes.chunks_exact(32);
        for block in &mut blocks {
            for (chain, word) in chains.iter_mut().zip(block.chunks_exact(8)) {
                *chain = fold(*chain ^ word_of(word), 0x9e37_79b9_7f4a_7c15);
            }
        }
        if bytes.len() >= 32 {
            chains.into_iter().for_each(|chain| self.mix(chain));
        }
        blocks.remainder().chunks(8).for_each(|word| self.mix(word_of(word)));
    }
}

/// At most eight bytes as a number; the length is hashed on its own.
fn word_of(bytes: &[u8]) -> u64 {
    let mut buffer = [0; 8];
    buffer[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(buffer)
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.lines.iter().flatten() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// Folded multiplication; the additions keep a zero factor from swallowing the other.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64).wrapping_add(a.rotate_left(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(events: &[(&str, &[u64], &[u8])]) -> u64 {
        let mut trace = Trace::new(1, false);
        for (what, numbers, content) in events {
            trace.note(Nanos(5), what, numbers, content);
        }
        trace.hash()
    }

    #[test]
    fn order_and_content_matter() {
        assert_eq!(hash(&[("a", &[1], b"x")]), hash(&[("a", &[1], b"x")]));
        let all = [
            hash(&[]),
            hash(&[("a", &[1], b"x")]),
            hash(&[("a", &[1], b"y")]),
            hash(&[("a", &[2], b"x")]),
            hash(&[("b", &[1], b"x")]),
            hash(&[("a", &[1], b"x"), ("b", &[1], b"x")]),
            hash(&[("b", &[1], b"x"), ("a", &[1], b"x")]),
            hash(&[("a", &[1], b"xxxxxxxx")]),
            hash(&[("a", &[1], b"xxxxxxxxx")]),
            hash(&[("a", &[1], &[0; 32])]),
            hash(&[("a", &[1], &[0; 33])]),
            hash(&[("a", &[1], &[0; 64])]),
            hash(&[("a", &[1], &[[0; 40], [1; 40]].concat())]),
            hash(&[("a", &[1], &[[1; 40], [0; 40]].concat())]),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
