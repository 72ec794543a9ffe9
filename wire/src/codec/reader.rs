//! A cursor over one buffer that cannot run past its end.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{DecodeError, DecodeResult, Wire};

/// Reads Ceph's encoding from a [`Bytes`]. Blobs come out as slices of the same buffer, without copying;
/// so a value that keeps a slice keeps the whole buffer alive. [`Reader::name`] copies, for small values that
/// live long.
///
/// After an error the position is unspecified; start again from a clone made before.
#[derive(Debug, Clone)]
pub struct Reader {
    buffer: Bytes,
    position: usize,
    /// End of the innermost envelope; never above `buffer.len()`.
    end: usize,
    what: &'static str,
}

impl Reader {
    /// Reads all of `buffer`. `what` names the thing in errors until an envelope or [`Reader::within`]
    /// gives a more precise name.
    pub fn new(what: &'static str, buffer: Bytes) -> Self {
        let end = buffer.len();
        Self { buffer, position: 0, end, what }
    }

    /// Bytes left in the innermost envelope.
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Offset of the next byte from the start of the buffer.
    pub fn offset(&self) -> usize {
        self.position
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// An error at the current place.
    pub fn error(
        &self,
        expected: impl Into<Cow<'static, str>>,
        got: impl Into<Cow<'static, str>>,
    ) -> DecodeError {
        DecodeError { what: self.what, offset: self.position, expected: expected.into(), got: got.into() }
    }

    /// Succeeds if everything was consumed.
    pub fn finish(&self) -> DecodeResult<()> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error("the end", format!("{left} more bytes"))),
        }
    }

    /// Runs `read` with `what` as the name used in errors.
    pub fn within<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> DecodeResult<T>,
    ) -> DecodeResult<T> {
        let outer = std::mem::replace(&mut self.what, what);
        let result = read(self);
        self.what = outer;
        result
    }

    /// The next `length` bytes, borrowed.
    pub fn raw(&mut self, length: usize) -> DecodeResult<&[u8]> {
        let range = self.advance(length)?;
        Ok(&self.buffer[range])
    }

    /// The next `length` bytes as a slice of the buffer, not copied.
    pub fn raw_bytes(&mut self, length: usize) -> DecodeResult<Bytes> {
        let range = self.advance(length)?;
        Ok(self.buffer.slice(range))
    }

    /// All that is left in the innermost envelope, not copied.
    pub fn rest(&mut self) -> Bytes {
        let rest = self.buffer.slice(self.position..self.end);
        self.position = self.end;
        rest
    }

    /// Skips `length` bytes.
    pub fn skip(&mut self, length: usize) -> DecodeResult<()> {
        self.advance(length).map(|_| ())
    }

    /// A fixed-size array.
    pub fn array<const N: usize>(&mut self) -> DecodeResult<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    /// Unsigned byte.
    pub fn u8(&mut self) -> DecodeResult<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Unsigned 16 bit.
    pub fn u16(&mut self) -> DecodeResult<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Unsigned 32 bit.
    pub fn u32(&mut self) -> DecodeResult<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Unsigned 64 bit.
    pub fn u64(&mut self) -> DecodeResult<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Signed byte.
    pub fn s8(&mut self) -> DecodeResult<i8> {
        Ok(i8::from_le_bytes(self.array()?))
    }

    /// Signed 16 bit.
    pub fn s16(&mut self) -> DecodeResult<i16> {
        Ok(i16::from_le_bytes(self.array()?))
    }

    /// Signed 32 bit.
    pub fn s32(&mut self) -> DecodeResult<i32> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// Signed 64 bit.
    pub fn s64(&mut self) -> DecodeResult<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// IEEE-754 single.
    pub fn f32(&mut self) -> DecodeResult<f32> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    /// IEEE-754 double.
    pub fn f64(&mut self) -> DecodeResult<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// A byte that is zero for false; Ceph takes everything else as true.
    pub fn bool(&mut self) -> DecodeResult<bool> {
        Ok(self.u8()? != 0)
    }

    /// A length-prefixed byte string, not copied.
    pub fn blob(&mut self) -> DecodeResult<Bytes> {
        let length = self.count(1)?;
        self.raw_bytes(length)
    }

    /// A length-prefixed byte string, copied out: for object names and keys, which would otherwise pin the
    /// receive buffer for as long as somebody remembers the name.
    pub fn name(&mut self) -> DecodeResult<Bytes> {
        let length = self.count(1)?;
        Ok(Bytes::copy_from_slice(self.raw(length)?))
    }

    /// A length-prefixed string that must be UTF-8.
    pub fn str(&mut self) -> DecodeResult<String> {
        let length = self.count(1)?;
        let start = self.position;
        let range = self.advance(length)?;
        match std::str::from_utf8(&self.buffer[range]) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => {
                let at = start + error.valid_up_to();
                Err(DecodeError {
                    what: self.what,
                    offset: at,
                    expected: "UTF-8 text".into(),
                    got: "other bytes".into(),
                })
            }
        }
    }

    /// A u32 count of elements of at least `element_bytes_min` bytes each; refused if that many cannot be
    /// left. With 0 the count is taken as it is, so do not reserve memory for it.
    pub fn count(&mut self, element_bytes_min: usize) -> DecodeResult<usize> {
        let count = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if count.saturating_mul(element_bytes_min) > self.remaining() {
            return Err(self.error(
                format!("at most {} bytes in elements of at least {element_bytes_min}", self.remaining()),
                format!("{count} elements"),
            ));
        }
        Ok(count)
    }

    /// A value of any [`Wire`] type.
    pub fn get<T: Wire>(&mut self) -> DecodeResult<T> {
        T::decode(self)
    }

    /// A counted list, elements read by `read`, each at least `element_bytes_min` (≥ 1) bytes.
    pub fn list_with<T>(
        &mut self,
        element_bytes_min: usize,
        mut read: impl FnMut(&mut Self) -> DecodeResult<T>,
    ) -> DecodeResult<Vec<T>> {
        let count = self.count(element_bytes_min.max(1))?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    /// A counted list.
    pub fn list<T: Wire>(&mut self) -> DecodeResult<Vec<T>> {
        self.list_with(T::BYTES_MIN, T::decode)
    }

    /// A counted set. Order and repetition in the input do not matter, as in Ceph.
    pub fn set<T: Wire + Ord>(&mut self) -> DecodeResult<BTreeSet<T>> {
        let count = self.count(T::BYTES_MIN.max(1))?;
        let mut set = BTreeSet::new();
        for _ in 0..count {
            set.insert(T::decode(self)?);
        }
        Ok(set)
    }

    /// A counted map. Order in the input does not matter; of a repeated key the last value counts.
    pub fn map<K: Wire + Ord, V: Wire>(&mut self) -> DecodeResult<BTreeMap<K, V>> {
        self.map_with(K::BYTES_MIN + V::BYTES_MIN, K::decode, V::decode)
    }

    /// A counted map with readers for keys and values, which take at least `entry_bytes_min` together.
    pub fn map_with<K: Ord, V>(
        &mut self,
        entry_bytes_min: usize,
        mut key: impl FnMut(&mut Self) -> DecodeResult<K>,
        mut value: impl FnMut(&mut Self) -> DecodeResult<V>,
    ) -> DecodeResult<BTreeMap<K, V>> {
        let count = self.count(entry_bytes_min.max(1))?;
        let mut map = BTreeMap::new();
        for _ in 0..count {
            let k = key(self)?;
            let v = value(self)?;
            map.insert(k, v);
        }
        Ok(map)
    }

    /// A presence byte, then the value.
    pub fn opt<T: Wire>(&mut self) -> DecodeResult<Option<T>> {
        if self.bool()? { Ok(Some(T::decode(self)?)) } else { Ok(None) }
    }

    /// Ceph's versioned envelope: u8 version, u8 compat, u32 length, content. Refused when `compat` is above
    /// `known`, the newest version that the caller understands. `read` gets the version and a reader that
    /// ends with the envelope; what it leaves is skipped.
    pub fn env<T>(
        &mut self,
        what: &'static str,
        known: u8,
        read: impl FnOnce(&mut Self, u8) -> DecodeResult<T>,
    ) -> DecodeResult<T> {
        let outer_what = std::mem::replace(&mut self.what, what);
        let outer_end = self.end;
        let result = self.enter(known).and_then(|version| {
            let value = read(self, version)?;
            self.position = self.end;
            Ok(value)
        });
        self.end = outer_end;
        self.what = outer_what;
        result
    }

    fn enter(&mut self, known: u8) -> DecodeResult<u8> {
        let version = self.u8()?;
        let compat = self.u8()?;
        if compat > known {
            return Err(
                self.error(format!("an encoding readable by version {known}"), format!("compat {compat}"))
            );
        }
        let length = self.count(1)?;
        self.end = self.position + length;
        Ok(version)
    }

    fn advance(&mut self, length: usize) -> DecodeResult<std::ops::Range<usize>> {
        if length > self.remaining() {
            return Err(self.error(format!("{length} bytes"), format!("{} left", self.remaining())));
        }
        let start = self.position;
        self.position += length;
        Ok(start..self.position)
    }
}
