//! [`Image`]: the bytes of a device in memory, sparse, with snapshots that cost little.
//!
//! Pages never written read as zeroes and take no memory. A clone shares every page until one side writes it,
//! so a test may keep an image for every cut of a recording. Belongs to whoever holds it; no core of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::{IMAGE_CHUNK_PAGES, IMAGE_PAGE_BYTES};

type Page = [u8; IMAGE_PAGE_BYTES];

#[derive(Clone)]
struct Chunk {
    pages: Vec<Option<Arc<Page>>>,
}

impl Chunk {
    fn new() -> Self {
        Self { pages: vec![None; IMAGE_CHUNK_PAGES] }
    }
}

/// A sparse array of bytes, 2^64 long, zero at first.
#[derive(Clone, Default)]
pub struct Image {
    chunks: BTreeMap<u64, Arc<Chunk>>,
    pages: u64,
}

/// One page's part of a byte range.
struct Span {
    chunk: u64,
    page: usize,
    start: usize,
    len: usize,
}

/// Cuts `offset..offset + len` at page boundaries.
fn spans(offset: u64, len: u64) -> impl Iterator<Item = Span> {
    let page_bytes = IMAGE_PAGE_BYTES as u64;
    let mut at = offset;
    let end = offset.checked_add(len).filter(|&end| end <= u64::MAX - page_bytes);
    let end = end.unwrap_or_else(|| panic!("{len} bytes at {offset:#x} end beyond any image"));
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let page = at / page_bytes;
        let start = at % page_bytes;
        let part = (page_bytes - start).min(end - at);
        at += part;
        Some(Span {
            chunk: page / IMAGE_CHUNK_PAGES as u64,
            page: (page % IMAGE_CHUNK_PAGES as u64) as usize,
            start: start as usize,
            len: part as usize,
        })
    })
}

impl Image {
    /// All zeroes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills `buf` with the bytes from `offset` on.
    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        let mut rest = buf;
        for span in spans(offset, rest.len() as u64) {
            let (part, tail) = rest.split_at_mut(span.len);
            rest = tail;
            match self.chunks.get(&span.chunk).and_then(|chunk| chunk.pages[span.page].as_ref()) {
                Some(page) => part.copy_from_slice(&page[span.start..span.start + span.len]),
                None => part.fill(0),
            }
        }
    }

    /// Stores `bytes` from `offset` on.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for span in spans(offset, bytes.len() as u64) {
            let (part, tail) = rest.split_at(span.len);
            rest = tail;
            let chunk =
                Arc::make_mut(self.chunks.entry(span.chunk).or_insert_with(|| Arc::new(Chunk::new())));
            let page = &mut chunk.pages[span.page];
            self.pages += u64::from(page.is_none());
            if let Some(own) = page.as_mut().and_then(Arc::get_mut) {
                own[span.start..span.start + span.len].copy_from_slice(part);
            } else if let Ok(whole) = Page::try_from(part) {
                // Neither zeroes nor another image's bytes are copied to be replaced at once.
                *page = Some(Arc::new(whole));
            } else {
                let page = page.get_or_insert_with(|| Arc::new([0; IMAGE_PAGE_BYTES]));
                Arc::make_mut(page)[span.start..span.start + span.len].copy_from_slice(part);
            }
        }
    }

    /// Makes the range read as zeroes and gives back the memory of whole pages.
    pub fn clear(&mut self, offset: u64, len: u64) {
        for span in spans(offset, len) {
            let Some(chunk) = self.chunks.get_mut(&span.chunk) else { continue };
            if chunk.pages[span.page].is_none() {
                continue;
            }
            let page = &mut Arc::make_mut(chunk).pages[span.page];
            if span.len == IMAGE_PAGE_BYTES {
                *page = None;
                self.pages -= 1;
            } else if let Some(page) = page {
                Arc::make_mut(page)[span.start..span.start + span.len].fill(0);
            }
        }
    }

    /// Bytes of memory that written pages take, in whole pages.
    pub fn allocated(&self) -> u64 {
        self.pages * IMAGE_PAGE_BYTES as u64
    }

    /// Bytes that a write of the range would add to [`Image::allocated`].
    pub fn would_allocate(&self, offset: u64, len: u64) -> u64 {
        let absent = spans(offset, len)
            .filter(|span| self.chunks.get(&span.chunk).is_none_or(|chunk| chunk.pages[span.page].is_none()));
        absent.count() as u64 * IMAGE_PAGE_BYTES as u64
    }

    /// Offset of the first byte below `size` in which two images differ.
    pub fn first_difference(&self, other: &Self, size: u64) -> Option<u64> {
        let keys: std::collections::BTreeSet<u64> =
            self.chunks.keys().chain(other.chunks.keys()).copied().collect();
        let blank = Chunk::new();
        for key in keys {
            let ours = self.chunks.get(&key).map_or(&blank, |chunk| chunk);
            let theirs = other.chunks.get(&key).map_or(&blank, |chunk| chunk);
            for (index, (a, b)) in ours.pages.iter().zip(&theirs.pages).enumerate() {
                let zero: &Page = &[0; IMAGE_PAGE_BYTES];
                let (a, b) = (a.as_deref().unwrap_or(zero), b.as_deref().unwrap_or(zero));
                let Some(byte) = a.iter().zip(b).position(|(a, b)| a != b) else { continue };
                let page = key * IMAGE_CHUNK_PAGES as u64 + index as u64;
                let at = page * IMAGE_PAGE_BYTES as u64 + byte as u64;
                return (at < size).then_some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_across_pages_and_chunks() {
        let mut image = Image::new();
        let edge = (IMAGE_PAGE_BYTES * IMAGE_CHUNK_PAGES) as u64;
        let bytes: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8 + 1).collect();
        image.write(edge - 5_000, &bytes);
        let mut back = vec![9; 10_002];
        image.read(edge - 5_001, &mut back);
        assert_eq!(back[0], 0);
        assert_eq!(&back[1..10_001], &bytes[..]);
        assert_eq!(back[10_001], 0);
        assert_eq!(image.allocated(), 4 * 4096);
    }

    #[test]
    fn a_snapshot_does_not_see_later_writes() {
        let mut image = Image::new();
        image.write(0, &[1; 4096]);
        let snapshot = image.clone();
        image.write(100, &[2; 8]);
        let mut byte = [0];
        snapshot.read(100, &mut byte);
        assert_eq!(byte, [1]);
        assert_eq!(image.first_difference(&snapshot, 1 << 20), Some(100));
        assert_eq!(image.first_difference(&snapshot, 100), None);
    }

    #[test]
    fn clearing_frees_whole_pages_and_zeroes_parts() {
        let mut image = Image::new();
        image.write(0, &[7; 8192]);
        image.clear(512, 4096 + 3584);
        let mut back = [9; 8192];
        image.read(0, &mut back);
        assert_eq!(&back[..512], &[7; 512]);
        assert!(back[512..].iter().all(|&byte| byte == 0));
        assert_eq!(image.allocated(), 4096);
        assert_eq!(image.would_allocate(0, 8192), 4096);
    }
}
