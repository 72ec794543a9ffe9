//! Bytes to send: small pieces copied together, large ones in place.

use bytes::{Bytes, BytesMut};

use crate::crc::{SEED, crc32c};
use crate::limits::{TRANSMIT_COPY_BYTES_MAX, TRANSMIT_TAIL_BYTES};
use crate::msgr2::frame::{EPILOGUE_21_BYTES, SEGMENTS_MAX};
use crate::msgr2::message::Data;
use crate::msgr2::{Preamble, Revision, Tag};

/// `late_status` of a complete frame, revision 2.1.
const COMPLETE_21: u8 = 0x0e;
/// `late_flags` of a complete frame, revision 2.0.
const COMPLETE_20: u8 = 0;

/// What is to be written to the socket, in order.
#[derive(Debug, Default)]
pub struct Transmit {
    chunks: Vec<Bytes>,
    /// Collects small pieces; comes after `chunks`.
    tail: BytesMut,
    length: usize,
}

impl Transmit {
    /// Bytes waiting.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes all that waits.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.flush_tail();
        self.length = 0;
        std::mem::take(&mut self.chunks)
    }

    /// Appends bytes that are short or not ours to share.
    pub fn copy(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.tail.reserve(bytes.len().max(TRANSMIT_TAIL_BYTES));
        }
        self.tail.extend_from_slice(bytes);
    }

    /// Appends bytes, in place unless they are few.
    pub fn push(&mut self, bytes: &Bytes) {
        if bytes.len() <= TRANSMIT_COPY_BYTES_MAX {
            return self.copy(bytes);
        }
        self.flush_tail();
        self.length += bytes.len();
        self.chunks.push(bytes.clone());
    }

    /// Appends a frame of one segment.
    pub fn control(&mut self, revision: Revision, tag: Tag, payload: &[u8]) {
        self.copy(&Preamble::new(tag, [payload.len(), 0, 0, 0]).encode());
        self.copy(payload);
        let crc = crc32c(SEED, payload);
        match revision {
            Revision::V20 => self.epilogue_20([crc, 0, 0, 0]),
            Revision::V21 if payload.is_empty() => {}
            Revision::V21 => self.copy(&crc.to_le_bytes()),
        }
    }

    /// Appends a message frame.
    pub fn message(&mut self, revision: Revision, header: &[u8], front: &Bytes, middle: &Bytes, data: &Data) {
        let lengths = [header.len(), front.len(), middle.len(), data.len()];
        let preamble = Preamble::new(Tag::MESSAGE, lengths);
        let mut crcs = [0; SEGMENTS_MAX];
        let present = [crc32c(SEED, header), crc32c(SEED, front), crc32c(SEED, middle), data.checksum()];
        crcs[..preamble.segments].copy_from_slice(&present[..preamble.segments]);

        self.copy(&preamble.encode());
        self.copy(header);
        if revision == Revision::V21 {
            self.copy(&crcs[0].to_le_bytes());
        }
        self.push(front);
        self.push(middle);
        for part in data.parts() {
            self.push(part);
        }
        match revision {
            Revision::V20 => self.epilogue_20(crcs),
            Revision::V21 if preamble.segments == 1 => {}
            Revision::V21 => {
                let mut epilogue = [COMPLETE_21; EPILOGUE_21_BYTES];
                for (index, crc) in crcs.into_iter().enumerate().skip(1) {
                    epilogue[4 * index - 3..4 * index + 1].copy_from_slice(&crc.to_le_bytes());
                }
                self.copy(&epilogue);
            }
        }
    }

    fn epilogue_20(&mut self, crcs: [u32; SEGMENTS_MAX]) {
        self.copy(&[COMPLETE_20]);
        for crc in crcs {
            self.copy(&crc.to_le_bytes());
        }
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(self.tail.split().freeze());
        }
    }
}
