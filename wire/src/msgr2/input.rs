//! Bytes received and not yet understood, in the chunks they came in.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A queue of chunks read as one byte string. What lies within one chunk is handed out as a slice of it.
#[derive(Debug, Default)]
pub struct Input {
    chunks: VecDeque<Bytes>,
    length: usize,
}

impl Input {
    /// Appends a chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.length += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Copies the first bytes into `target` as far as they are there, and says how many.
    pub fn peek(&self, target: &mut [u8]) -> usize {
        let mut filled = 0;
        for chunk in &self.chunks {
            let count = chunk.len().min(target.len() - filled);
            target[filled..filled + count].copy_from_slice(&chunk[..count]);
            filled += count;
            if filled == target.len() {
                break;
            }
        }
        filled
    }

    /// Takes exactly `count` bytes, which must be there. Copies only when they lie in several chunks.
    pub fn take(&mut self, count: usize) -> Bytes {
        assert!(count <= self.length, "invariant: {count} bytes taken of {}", self.length);
        if count == 0 {
            return Bytes::new();
        }
        if self.chunks.front().is_some_and(|first| first.len() >= count) {
            return self.take_some(count);
        }
        let mut joined = BytesMut::with_capacity(count);
        while joined.len() < count {
            joined.extend_from_slice(&self.take_some(count - joined.len()));
        }
        joined.freeze()
    }

    /// Takes up to `most` bytes, all from one chunk, never copied; empty only when nothing is there.
    pub fn take_some(&mut self, most: usize) -> Bytes {
        let Some(first) = self.chunks.front_mut() else {
            return Bytes::new();
        };
        let taken = if first.len() > most {
            first.split_to(most)
        } else {
            self.chunks.pop_front().unwrap_or_default()
        };
        self.length -= taken.len();
        taken
    }

    /// Takes a small fixed-size array if all of it is there.
    pub fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.length < N {
            return None;
        }
        let mut array = [0; N];
        let mut filled = 0;
        while filled < N {
            let part = self.take_some(N - filled);
            array[filled..filled + part.len()].copy_from_slice(&part);
            filled += part.len();
        }
        Some(array)
    }
}
