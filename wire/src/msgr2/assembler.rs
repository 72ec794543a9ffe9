//! Turns received bytes into checked frames.
//!
//! Invariant: memory is spent only on bytes that have come (and at most as much again while a long segment
//! grows), and only for frames whose tag is expected and whose lengths are within bounds. Data beyond them is, for who
//! wants that, checked and dropped as it comes. A segment within one chunk is a slice of it.

use bytes::{Bytes, BytesMut};

use crate::crc::{BlockChecksums, BlockHasher, SEED, crc32c};
use crate::limits::{MESSAGE_DATA_BYTES_MAX, SEGMENT_AT_ONCE_BYTES_MAX};
use crate::msgr2::frame::{DATA_SEGMENT, EPILOGUE_20_BYTES, EPILOGUE_21_BYTES, PREAMBLE_BYTES, SEGMENTS_MAX};
use crate::msgr2::input::Input;
use crate::msgr2::{LongData, Preamble, ProtocolError, Revision, Tag};

/// A whole frame, all checksums verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub tag: Tag,
    /// Its segments; absent ones are empty.
    pub segments: [Bytes; SEGMENTS_MAX],
    /// Checksums of the last segment's blocks, by-product of checking it.
    pub data_checksums: BlockChecksums,
    /// Bytes of its data that were dropped: all, or 0.
    pub dropped: usize,
}

/// Builds one frame after the other from [`Input`].
#[derive(Debug)]
pub struct Assembler {
    revision: Revision,
    long_data: LongData,
    step: Step,
    /// The frame being built; means nothing before its preamble came. It stays in its place, being large.
    partial: Partial,
}

/// What comes next.
#[derive(Debug)]
enum Step {
    Preamble,
    Segment,
    FirstCrc,
    Epilogue,
}

#[derive(Debug)]
struct Partial {
    preamble: Preamble,
    segments: [Bytes; SEGMENTS_MAX],
    crcs: [u32; SEGMENTS_MAX],
    data_checksums: BlockChecksums,
    index: usize,
    /// The part that came of a segment too long to wait for.
    growing: Option<(BytesMut, BlockHasher)>,
    /// Bytes of data too long to keep that came.
    dropped: usize,
}

impl Assembler {
    /// At the start of a frame.
    pub fn new(revision: Revision, long_data: LongData) -> Self {
        let nothing = Preamble { tag: Tag::MESSAGE, segments: 1, lengths: [0; SEGMENTS_MAX] };
        Self { revision, long_data, step: Step::Preamble, partial: Partial::new(nothing) }
    }

    /// The next whole frame, or `None` until more bytes come. `check` sees each preamble before the frame
    /// costs memory. Aborted frames are dropped.
    pub fn poll(
        &mut self,
        input: &mut Input,
        check: impl Fn(&Preamble) -> Result<(), ProtocolError>,
    ) -> Result<Option<Frame>, ProtocolError> {
        loop {
            match self.step {
                Step::Preamble => {
                    let Some(bytes) = input.take_array::<PREAMBLE_BYTES>() else {
                        return Ok(None);
                    };
                    let preamble = Preamble::decode(&bytes, self.long_data)?;
                    check(&preamble)?;
                    self.partial = Partial::new(preamble);
                    self.step = Step::Segment;
                }
                Step::Segment => {
                    if !self.partial.take_segment(input) {
                        return Ok(None);
                    }
                    if self.is_whole() {
                        return Ok(Some(self.finish()));
                    }
                    self.after_segment();
                }
                Step::FirstCrc => {
                    let Some(crc) = input.take_array() else {
                        return Ok(None);
                    };
                    self.partial.check_crc(0, u32::from_le_bytes(crc))?;
                    if self.partial.preamble.segments == 1 {
                        return Ok(Some(self.finish()));
                    }
                    self.partial.index = 1;
                    self.step = Step::Segment;
                }
                Step::Epilogue => {
                    let Some(epilogue) = self.take_epilogue(input)? else {
                        return Ok(None);
                    };
                    if epilogue.aborted {
                        self.finish();
                        continue;
                    }
                    let first = usize::from(self.revision == Revision::V21);
                    for (index, crc) in epilogue.crcs.into_iter().enumerate().skip(first) {
                        self.partial.check_crc(index, crc)?;
                    }
                    return Ok(Some(self.finish()));
                }
            }
        }
    }

    /// Memory held for the frame that is being built.
    pub fn buffered_bytes(&self) -> usize {
        let whole: usize = self.partial.segments.iter().map(Bytes::len).sum();
        whole + self.partial.growing.as_ref().map_or(0, |(buffer, _)| buffer.capacity())
    }

    /// Whether nothing follows the current segment, not even a checksum.
    fn is_whole(&self) -> bool {
        let Preamble { segments, lengths, .. } = self.partial.preamble;
        self.revision == Revision::V21 && segments == 1 && lengths[0] == 0
    }

    /// Goes on to what follows a complete segment.
    fn after_segment(&mut self) {
        let Preamble { segments, lengths, .. } = self.partial.preamble;
        if self.revision == Revision::V21 && self.partial.index == 0 && lengths[0] != 0 {
            self.step = Step::FirstCrc;
            return;
        }
        self.partial.index += 1;
        self.step = if self.partial.index < segments { Step::Segment } else { Step::Epilogue };
    }

    /// Takes the frame out; another one begins.
    fn finish(&mut self) -> Frame {
        self.step = Step::Preamble;
        Frame {
            tag: self.partial.preamble.tag,
            segments: std::mem::take(&mut self.partial.segments),
            data_checksums: std::mem::take(&mut self.partial.data_checksums),
            dropped: self.partial.dropped,
        }
    }

    fn take_epilogue(&self, input: &mut Input) -> Result<Option<Epilogue>, ProtocolError> {
        Ok(match self.revision {
            Revision::V20 => input.take_array::<EPILOGUE_20_BYTES>().map(|bytes| Epilogue {
                aborted: bytes[0] & 1 != 0,
                crcs: std::array::from_fn(|index| crc_at(&bytes, 1 + 4 * index)),
            }),
            Revision::V21 => input.take_array::<EPILOGUE_21_BYTES>().map(|bytes| Epilogue {
                aborted: bytes[0] & 0xf == 1,
                crcs: std::array::from_fn(|index| if index == 0 { 0 } else { crc_at(&bytes, 4 * index - 3) }),
            }),
        })
    }
}

struct Epilogue {
    aborted: bool,
    crcs: [u32; SEGMENTS_MAX],
}

fn crc_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

impl Partial {
    fn new(preamble: Preamble) -> Self {
        Self {
            preamble,
            segments: Default::default(),
            crcs: [SEED; SEGMENTS_MAX],
            data_checksums: BlockChecksums::new(),
            index: 0,
            growing: None,
            dropped: 0,
        }
    }

    /// Takes the current segment out of the input; false until all of it came.
    fn take_segment(&mut self, input: &mut Input) -> bool {
        let length = self.preamble.lengths[self.index];
        if self.index == DATA_SEGMENT && length > MESSAGE_DATA_BYTES_MAX {
            return self.drop_segment(input, length);
        }
        if self.growing.is_none() {
            if input.len() >= length {
                let segment = input.take(length);
                if self.index == DATA_SEGMENT {
                    let mut hasher = BlockHasher::new();
                    hasher.update(&segment);
                    self.set(segment, hasher);
                } else {
                    self.crcs[self.index] = crc32c(SEED, &segment);
                    self.segments[self.index] = segment;
                }
                return true;
            }
            if length <= SEGMENT_AT_ONCE_BYTES_MAX {
                return false;
            }
        }
        let (mut buffer, mut hasher) = self.growing.take().unwrap_or_default();
        while buffer.len() < length {
            let part = input.take_some(length - buffer.len());
            if part.is_empty() {
                self.growing = Some((buffer, hasher));
                return false;
            }
            if buffer.capacity() - buffer.len() < part.len() {
                // At most double what came, so that a claimed length costs nothing by itself.
                let grow = buffer.len().max(SEGMENT_AT_ONCE_BYTES_MAX).max(part.len());
                buffer.reserve(grow.min(length - buffer.len()));
            }
            hasher.update(&part);
            buffer.extend_from_slice(&part);
        }
        self.set(buffer.freeze(), hasher);
        true
    }

    /// Drops what came of the current segment; false until all of it came.
    fn drop_segment(&mut self, input: &mut Input, length: usize) -> bool {
        while self.dropped < length {
            let part = input.take_some(length - self.dropped);
            if part.is_empty() {
                return false;
            }
            self.crcs[self.index] = crc32c(self.crcs[self.index], &part);
            self.dropped += part.len();
        }
        true
    }

    fn set(&mut self, segment: Bytes, hasher: BlockHasher) {
        let (blocks, crc) = hasher.finish();
        self.crcs[self.index] = crc;
        self.segments[self.index] = segment;
        if self.index == DATA_SEGMENT {
            self.data_checksums = blocks;
        }
    }

    fn check_crc(&self, index: usize, expected: u32) -> Result<(), ProtocolError> {
        const NAMES: [&str; SEGMENTS_MAX] = ["segment 0", "segment 1", "segment 2", "segment 3"];
        //= ceph 16.2 msgr2: the checksum of an absent segment is 0, of an empty one the seed
        let got = if index < self.preamble.segments { self.crcs[index] } else { 0 };
        if got == expected {
            return Ok(());
        }
        Err(ProtocolError::Checksum { what: NAMES[index], tag: self.preamble.tag.byte(), expected, got })
    }
}
