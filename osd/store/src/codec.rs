//! Little-endian encoding with explicit widths, shared by everything this crate writes to a device.
//!
//! Decoding never panics and never allocates beyond the input: lengths are checked before bytes are taken.

use bytes::Bytes;

/// Why bytes could not be decoded.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ends early.
    #[error("{what} at byte {at} needs {need} bytes, {have} are left")]
    Short {
        /// Field.
        what: &'static str,
        /// Offset in the input.
        at: usize,
        /// Bytes needed.
        need: usize,
        /// Bytes left.
        have: usize,
    },
    /// A field holds a value that no writer produces.
    #[error("{what} at byte {at} has the value {value}, which is not valid")]
    Value {
        /// Field.
        what: &'static str,
        /// Offset in the input.
        at: usize,
        /// What was found.
        value: u64,
    },
    /// Bytes are left after the end.
    #[error("{left} bytes are left after {what}")]
    Trailing {
        /// The structure that ended.
        what: &'static str,
        /// Bytes left.
        left: usize,
    },
}

/// Result of decoding.
pub type DecodeResult<T> = Result<T, DecodeError>;

/// Appends fields to a byte vector.
#[derive(Debug, Default)]
pub struct Encoder {
    out: Vec<u8>,
}

impl Encoder {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one with room for `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes) }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Two bytes.
    pub fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Eight bytes, two's complement.
    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A count or length as four bytes. Everything counted here is bounded far below 2³² by `limits`.
    pub fn count(&mut self, value: usize) {
        let Ok(value) = u32::try_from(value) else {
            panic!("a count of {value} exceeds the format's 32 bits")
        };
        self.u32(value);
    }

    /// A length, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.raw(value);
    }

    /// The bytes alone.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    /// Seven bits per byte, lowest first; small values are short.
    pub fn varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.u8(low & 0x7f);
                return;
            }
            self.u8(low | 0x80);
        }
    }

    /// A length as [`Self::varint`], then the bytes.
    pub fn short_bytes(&mut self, value: &[u8]) {
        self.varint(u64::try_from(value.len()).unwrap_or(u64::MAX));
        self.raw(value);
    }

    /// Overwrites four bytes at `at` that were appended before.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        self.out[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// What was appended.
    pub fn as_slice(&self) -> &[u8] {
        &self.out
    }

    /// What was appended, by value.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// What was appended, shared.
    pub fn into_bytes(self) -> Bytes {
        // Who asks for room asks for the most that there may be, and what is encoded may be kept for long.
        if self.out.len() < self.out.capacity() / 2 {
            return Bytes::copy_from_slice(&self.out);
        }
        Bytes::from(self.out)
    }
}

/// Signed numbers near 0 as small ones.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// See [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Takes fields from the front of a shared byte string; byte fields share its memory.
#[derive(Debug)]
pub struct Decoder {
    input: Bytes,
    at: usize,
}

impl Decoder {
    /// Starts at the front.
    pub fn new(input: Bytes) -> Self {
        Self { input, at: 0 }
    }

    /// Bytes not taken yet.
    pub fn left(&self) -> usize {
        self.input.len() - self.at
    }

    /// Offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next `len` bytes.
    pub fn raw(&mut self, len: usize, what: &'static str) -> DecodeResult<Bytes> {
        if len > self.left() {
            return Err(DecodeError::Short { what, at: self.at, need: len, have: self.left() });
        }
        let bytes = self.input.slice(self.at..self.at + len);
        self.at += len;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> DecodeResult<[u8; N]> {
        let short = DecodeError::Short { what, at: self.at, need: N, have: self.left() };
        let rest = self.input.get(self.at..).unwrap_or_default();
        let array = *rest.first_chunk::<N>().ok_or(short)?;
        self.at += N;
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> DecodeResult<u8> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    /// Two bytes.
    pub fn u16(&mut self, what: &'static str) -> DecodeResult<u16> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Four bytes.
    pub fn u32(&mut self, what: &'static str) -> DecodeResult<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes.
    pub fn u64(&mut self, what: &'static str) -> DecodeResult<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes, two's complement.
    pub fn i64(&mut self, what: &'static str) -> DecodeResult<i64> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    /// A count of items that take at least `item_bytes` each, so that a hostile count cannot make the caller
    /// reserve more than a multiple of the input.
    pub fn count(&mut self, item_bytes: usize, what: &'static str) -> DecodeResult<usize> {
        let at = self.at;
        let value = self.u32(what)?;
        let count = usize::try_from(value).unwrap_or(usize::MAX);
        if count.saturating_mul(item_bytes.max(1)) > self.left() {
            return Err(DecodeError::Value { what, at, value: u64::from(value) });
        }
        Ok(count)
    }

    /// A length and that many bytes.
    pub fn bytes(&mut self, what: &'static str) -> DecodeResult<Bytes> {
        let len = self.count(1, what)?;
        self.raw(len, what)
    }

    /// See [`Encoder::varint`].
    pub fn varint(&mut self, what: &'static str) -> DecodeResult<u64> {
        let at = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Value { what, at, value })
    }

    /// See [`Encoder::short_bytes`].
    pub fn short_bytes(&mut self, what: &'static str) -> DecodeResult<Bytes> {
        let len = self.varint(what)?;
        self.raw(usize::try_from(len).unwrap_or(usize::MAX), what)
    }

    /// An error for a field that began at `at`.
    pub fn invalid<T>(&self, what: &'static str, at: usize, value: u64) -> DecodeResult<T> {
        Err(DecodeError::Value { what, at, value })
    }

    /// Asserts that nothing is left.
    pub fn end(&self, what: &'static str) -> DecodeResult<()> {
        match self.left() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { what, left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_short_input() {
        let mut encoder = Encoder::new();
        encoder.u8(1);
        encoder.u16(2);
        encoder.u32(3);
        encoder.u64(4);
        encoder.i64(-5);
        encoder.bytes(b"six");
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            encoder.varint(value);
        }
        let whole = encoder.into_bytes();
        let decode = |input: Bytes| -> DecodeResult<()> {
            let mut d = Decoder::new(input);
            assert_eq!(d.u8("a").unwrap_or(1), 1);
            d.u16("b")?;
            d.u32("c")?;
            d.u64("d")?;
            assert_eq!(d.i64("e")?, -5);
            assert_eq!(d.bytes("f")?, Bytes::from_static(b"six"));
            for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
                assert_eq!(d.varint("g")?, value);
            }
            d.end("all")
        };
        assert_eq!(decode(whole.clone()), Ok(()));
        for len in 1..whole.len() {
            assert!(decode(whole.slice(..len)).is_err(), "a prefix of {len} bytes decodes");
        }
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_it_is_used() {
        let mut encoder = Encoder::new();
        encoder.u32(u32::MAX);
        let mut d = Decoder::new(encoder.into_bytes());
        assert!(matches!(d.bytes("name"), Err(DecodeError::Value { what: "name", at: 0, .. })));
    }

    #[test]
    fn a_varint_beyond_64_bits_is_refused() {
        let mut d = Decoder::new(Bytes::from_static(&[0xff; 11]));
        assert!(d.varint("v").is_err());
    }
}
