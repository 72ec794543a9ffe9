//! The trait that ties a value to its encoding, and the encodings of the basic types.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

use super::{DecodeResult, Reader, Writer};

/// A value with one encoding. `decode(encode(x)) == x`, and `encode` after `decode` reproduces the bytes of
/// every peer that encodes as Ceph 16.2 does.
pub trait Wire: Sized {
    /// Fewest bytes that any value encodes to; bounds counts before memory is reserved. Must not be
    /// overstated.
    const BYTES_MIN: usize = 1;

    /// Appends the encoding.
    fn encode(&self, w: &mut Writer);

    /// Reads one value.
    fn decode(r: &mut Reader) -> DecodeResult<Self>;
}

/// Encodes one value into a buffer of its own.
pub fn encode_to_bytes<T: Wire>(value: &T) -> Bytes {
    let mut w = Writer::new();
    value.encode(&mut w);
    w.finish()
}

/// Decodes one value that must take up all of `bytes`.
pub fn decode_exact<T: Wire>(what: &'static str, bytes: Bytes) -> DecodeResult<T> {
    let mut r = Reader::new(what, bytes);
    let value = T::decode(&mut r)?;
    r.finish()?;
    Ok(value)
}

macro_rules! number {
    ($($type:ty => $method:ident),*) => {$(
        impl Wire for $type {
            const BYTES_MIN: usize = size_of::<$type>();
            fn encode(&self, w: &mut Writer) {
                w.$method(*self);
            }
            fn decode(r: &mut Reader) -> DecodeResult<Self> {
                r.$method()
            }
        }
    )*};
}

number!(u8 => u8, u16 => u16, u32 => u32, u64 => u64, i8 => s8, i16 => s16, i32 => s32, i64 => s64,
    f32 => f32, f64 => f64, bool => bool);

impl Wire for String {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.str(self);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.str()
    }
}

/// A blob; decoding gives a slice of the input.
impl Wire for Bytes {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.blob(self);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.blob()
    }
}

/// 16 bytes in textual order.
impl Wire for Uuid {
    const BYTES_MIN: usize = 16;
    fn encode(&self, w: &mut Writer) {
        w.raw(self.as_bytes());
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok(Uuid::from_bytes(r.array()?))
    }
}

impl<T: Wire> Wire for Vec<T> {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.list(self);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.list()
    }
}

impl<T: Wire + Ord> Wire for BTreeSet<T> {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.set(self);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.set()
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    const BYTES_MIN: usize = 4;
    fn encode(&self, w: &mut Writer) {
        w.map(self);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.map()
    }
}

impl<T: Wire> Wire for Option<T> {
    const BYTES_MIN: usize = 1;
    fn encode(&self, w: &mut Writer) {
        w.opt(self.as_ref());
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        r.opt()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    const BYTES_MIN: usize = A::BYTES_MIN + B::BYTES_MIN;
    fn encode(&self, w: &mut Writer) {
        self.0.encode(w);
        self.1.encode(w);
    }
    fn decode(r: &mut Reader) -> DecodeResult<Self> {
        Ok((A::decode(r)?, B::decode(r)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader {
        Reader::new("test", Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn count_beyond_the_input_is_refused_before_allocating() {
        let error = reader(&[0xff, 0xff, 0xff, 0xff, 1, 2]).list::<u64>().unwrap_err();
        assert_eq!(error.offset, 4);
        assert!(error.got.contains("4294967295"), "{error}");
        assert!(reader(&[0xff, 0xff, 0xff, 0x7f]).blob().is_err());
        assert!(reader(&[2, 0, 0, 0, 1, 1]).set::<u16>().is_err());
    }

    #[test]
    fn envelope_bounds_its_content_and_skips_what_is_newer() {
        let mut w = Writer::new();
        w.env(3, 1, |w| {
            w.u32(7);
            w.u64(99);
        });
        w.u8(0x55);
        let mut r = Reader::new("test", w.finish());
        assert_eq!(r.env("inner", 1, |r, v| Ok((v, r.u32()?))), Ok((3, 7)));
        assert_eq!(r.u8(), Ok(0x55));
        assert!(r.is_empty());

        // A field that reaches over the envelope's end is an error although bytes follow.
        let mut r = reader(&[1, 1, 2, 0, 0, 0, 9, 9, 9, 9]);
        let error = r.env("inner", 1, |r, _| r.u32()).unwrap_err();
        assert_eq!((error.what, error.offset), ("inner", 6));

        let error = reader(&[9, 8, 0, 0, 0, 0]).env("inner", 7, |_, _| Ok(())).unwrap_err();
        assert!(error.got.contains("compat 8"), "{error}");
    }

    #[test]
    fn blobs_are_slices_and_names_are_copies() {
        let buffer = Bytes::from(vec![2, 0, 0, 0, b'a', b'b', 1, 0, 0, 0, b'c']);
        let mut r = Reader::new("test", buffer.clone());
        let blob = r.blob().unwrap();
        assert_eq!(blob.as_ptr(), buffer[4..].as_ptr());
        let name = r.name().unwrap();
        assert_ne!(name.as_ptr(), buffer[10..].as_ptr());
        assert_eq!(name, "c");
        r.finish().unwrap();
    }

    #[test]
    fn text_must_be_utf8() {
        let error = reader(&[2, 0, 0, 0, b'a', 0xff]).str().unwrap_err();
        assert_eq!((error.offset, &*error.expected), (5, "UTF-8 text"));
    }

    #[test]
    fn maps_and_options_round_trip() {
        let value: BTreeMap<String, Option<(u32, Vec<i16>)>> =
            [("b".into(), None), ("a".into(), Some((1, vec![-1, 2])))].into();
        let bytes = encode_to_bytes(&value);
        assert_eq!(decode_exact::<BTreeMap<String, Option<(u32, Vec<i16>)>>>("m", bytes.clone()), Ok(value));
        assert!(decode_exact::<u8>("short", bytes).is_err());
    }
}
