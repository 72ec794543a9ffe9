//! Keys of the key-value store: byte strings whose order is the order of what they name.
//!
//! See `FORMAT.md`. Integers are big-endian with the sign bit flipped where signed; strings are escaped so that a
//! name never sorts inside another one's keys: 0x00 becomes 0x00 0xff, and 0x00 0x01 ends the string.

use bytes::Bytes;

use crate::codec::{DecodeError, DecodeResult};
use crate::types::{CollectionId, ObjectId};

const OBJECT: u8 = b'O';
const OMAP: u8 = b'M';
const COLLECTION: u8 = b'C';
const STATISTICS: u8 = b'T';
const BITMAP: u8 = b'B';
/// Where the chunks are, beside the copies of pages.
const CHUNKS: u8 = 2;
const SHARE: u8 = b'R';
const ONODE: u8 = b'o';
const SHARD: u8 = b'x';

/// Where the checkpoint record is.
pub const CHECKPOINT: Bytes = Bytes::from_static(b"Scheckpoint");
const REAP: &[u8] = b"Sreap.";

/// Key of an object's onode. Its extent map's shards and nothing else follow it directly.
pub fn onode(object: &ObjectId) -> Bytes {
    let mut key = object_prefix(object);
    key.push(ONODE);
    Bytes::from(key)
}

/// Key of a shard of the extent map.
pub fn shard(onode: &Bytes, number: u32) -> Bytes {
    let mut key = Vec::with_capacity(onode.len() + 4);
    key.extend_from_slice(onode.get(..onode.len().saturating_sub(1)).unwrap_or_default());
    key.push(SHARD);
    key.extend_from_slice(&number.to_be_bytes());
    Bytes::from(key)
}

/// The range of an onode's key and all of its shards'.
pub fn object_whole(onode: &Bytes) -> (Bytes, Bytes) {
    let mut end = onode.get(..onode.len().saturating_sub(1)).unwrap_or_default().to_vec();
    end.push(SHARD + 1);
    (onode.clone(), Bytes::from(end))
}

/// What a key under the object prefix names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectKey {
    /// An onode.
    Onode(ObjectId),
    /// A shard: its object's onode key, and its number.
    Shard(Bytes, u32),
}

/// Takes a key of the object prefix apart.
pub fn parse_object(key: &Bytes) -> DecodeResult<ObjectKey> {
    let mut cursor = Cursor { key, at: 0 };
    cursor.expect(OBJECT, "object key prefix")?;
    let pool = (u64::from_be_bytes(cursor.array("pool")?) ^ (1 << 63)).cast_signed();
    let hash = u32::from_be_bytes(cursor.array("hash")?).reverse_bits();
    let namespace = cursor.string("namespace")?;
    let effective = cursor.string("effective key")?;
    let name = cursor.string("name")?;
    let snap = u64::from_be_bytes(cursor.array("snap")?);
    let locator = cursor.string("locator key")?;
    let end = cursor.at;
    let object = ObjectId { pool, hash, namespace, key: locator, name, snap };
    if *object.effective_key() != effective {
        return Err(DecodeError::Value { what: "effective key", at: end, value: 0 });
    }
    let kind = u8::from_be_bytes(cursor.array("kind")?);
    match kind {
        ONODE => {
            cursor.end()?;
            Ok(ObjectKey::Onode(object))
        }
        SHARD => {
            let number = u32::from_be_bytes(cursor.array("shard number")?);
            cursor.end()?;
            let mut onode = key.get(..end).unwrap_or_default().to_vec();
            onode.push(ONODE);
            Ok(ObjectKey::Shard(Bytes::from(onode), number))
        }
        other => Err(DecodeError::Value { what: "kind of object key", at: end, value: other.into() }),
    }
}

/// The range `[start, end)` of the keys of a collection's objects.
pub fn collection_objects(collection: CollectionId, bits: u8) -> (Bytes, Bytes) {
    let first = collection.seed.reverse_bits();
    let width = 1u64 << (32 - u32::from(bits.min(32)));
    let start = hash_prefix(collection.pool, first);
    let end = match u32::try_from(u64::from(first) + width) {
        Ok(next) => hash_prefix(collection.pool, next),
        // Past the last hash: the first key of the next pool.
        Err(_) => match collection.pool.checked_add(1) {
            Some(pool) => hash_prefix(pool, 0),
            None => vec![OBJECT + 1],
        },
    };
    (Bytes::from(start), Bytes::from(end))
}

/// The range of all objects.
pub fn all_objects() -> (Bytes, Bytes) {
    prefix_range(OBJECT)
}

/// The range of all omap keys.
pub fn all_omaps() -> (Bytes, Bytes) {
    prefix_range(OMAP)
}

/// The range of all collections.
pub fn all_collections() -> (Bytes, Bytes) {
    prefix_range(COLLECTION)
}

/// The range of all pool statistics.
pub fn all_statistics() -> (Bytes, Bytes) {
    prefix_range(STATISTICS)
}

/// The range of bitmap pages of one copy.
pub fn all_bitmap_pages(copy: u8) -> (Bytes, Bytes) {
    (Bytes::from(vec![BITMAP, copy]), Bytes::from(vec![BITMAP, copy + 1]))
}

/// The range of chunks of the free list.
pub fn all_bitmap_chunks() -> (Bytes, Bytes) {
    all_bitmap_pages(CHUNKS)
}

/// The range of omap ids waiting to be reaped.
pub fn all_reaps() -> (Bytes, Bytes) {
    let mut end = REAP.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    (Bytes::from_static(REAP), Bytes::from(end))
}

/// Key of an omap's header.
pub fn omap_header(id: u64) -> Bytes {
    omap(id, b'-', &[])
}

/// Key of an omap entry.
pub fn omap_entry(id: u64, key: &[u8]) -> Bytes {
    omap(id, b'.', key)
}

/// The range of an omap's entries, without the header.
pub fn omap_entries(id: u64) -> (Bytes, Bytes) {
    (omap(id, b'.', &[]), omap(id, b'/', &[]))
}

/// The range of everything of an omap.
pub fn omap_whole(id: u64) -> (Bytes, Bytes) {
    (omap(id, b'-', &[]), omap(id, b'/', &[]))
}

/// The range of all keys that begin as an omap's do, whatever they are.
pub fn omap_of_id(id: u64) -> (Bytes, Bytes) {
    let prefix = omap(id, 0, &[]).slice(..9);
    let end = after_prefix(&prefix).unwrap_or_default();
    (prefix, end)
}

/// The caller's key within an entry's key.
pub fn omap_user_key(key: &Bytes) -> DecodeResult<Bytes> {
    if key.len() < 10 {
        return Err(DecodeError::Short { what: "omap key", at: 0, need: 10, have: key.len() });
    }
    Ok(key.slice(10..))
}

/// The id an omap key belongs to.
pub fn omap_id(key: &Bytes) -> DecodeResult<u64> {
    let mut cursor = Cursor { key, at: 0 };
    cursor.expect(OMAP, "omap prefix")?;
    Ok(u64::from_be_bytes(cursor.array("omap id")?))
}

/// Key that keeps an omap id until its entries are gone.
pub fn reap(id: u64) -> Bytes {
    let mut key = REAP.to_vec();
    key.extend_from_slice(&id.to_be_bytes());
    Bytes::from(key)
}

/// The id in a key of [`reap`].
pub fn parse_reap(key: &Bytes) -> DecodeResult<u64> {
    let mut cursor = Cursor { key, at: REAP.len() };
    let id = u64::from_be_bytes(cursor.array("omap id to reap")?);
    cursor.end()?;
    Ok(id)
}

/// Key of a collection.
pub fn collection(id: CollectionId) -> Bytes {
    let mut key = vec![COLLECTION];
    key.extend_from_slice(&flip(id.pool));
    key.extend_from_slice(&id.seed.to_be_bytes());
    Bytes::from(key)
}

/// The id in a collection's key.
pub fn parse_collection(key: &Bytes) -> DecodeResult<CollectionId> {
    let mut cursor = Cursor { key, at: 0 };
    cursor.expect(COLLECTION, "collection prefix")?;
    let pool = (u64::from_be_bytes(cursor.array("pool")?) ^ (1 << 63)).cast_signed();
    let seed = u32::from_be_bytes(cursor.array("seed")?);
    cursor.end()?;
    Ok(CollectionId { pool, seed })
}

/// Key of a pool's statistics.
pub fn statistics(pool: i64) -> Bytes {
    let mut key = vec![STATISTICS];
    key.extend_from_slice(&flip(pool));
    Bytes::from(key)
}

/// The pool in a key of [`statistics`].
pub fn parse_statistics(key: &Bytes) -> DecodeResult<i64> {
    let mut cursor = Cursor { key, at: 0 };
    cursor.expect(STATISTICS, "statistics prefix")?;
    let pool = (u64::from_be_bytes(cursor.array("pool")?) ^ (1 << 63)).cast_signed();
    cursor.end()?;
    Ok(pool)
}

/// Length of a key of [`share`].
pub const SHARE_BYTES: usize = 17;

/// Key of a [`crate::share::Share`]: what was one blob, from its birth and address.
pub fn share(birth: u64, address: u64) -> Bytes {
    let mut key = vec![SHARE];
    key.extend_from_slice(&birth.to_be_bytes());
    key.extend_from_slice(&address.to_be_bytes());
    Bytes::from(key)
}

/// Birth and address in a key of [`share`].
pub fn parse_share(key: &Bytes) -> DecodeResult<(u64, u64)> {
    let mut cursor = Cursor { key, at: 0 };
    cursor.expect(SHARE, "prefix of a share")?;
    let birth = u64::from_be_bytes(cursor.array("birth")?);
    let address = u64::from_be_bytes(cursor.array("address")?);
    cursor.end()?;
    Ok((birth, address))
}

/// The range of all shares.
pub fn all_shares() -> (Bytes, Bytes) {
    prefix_range(SHARE)
}

/// Key of one copy of a bitmap page.
pub fn bitmap_page(copy: u8, page: u64) -> Bytes {
    let mut key = vec![BITMAP, copy];
    key.extend_from_slice(&page.to_be_bytes());
    Bytes::from(key)
}

/// Key of a chunk of the free list.
pub fn bitmap_chunk(chunk: u64) -> Bytes {
    bitmap_page(CHUNKS, chunk)
}

/// The number in a key of [`bitmap_page`] or [`bitmap_chunk`].
pub fn parse_bitmap_page(key: &Bytes) -> DecodeResult<u64> {
    let mut cursor = Cursor { key, at: 2 };
    let page = u64::from_be_bytes(cursor.array("bitmap page")?);
    cursor.end()?;
    Ok(page)
}

/// The smallest key after `key`.
pub fn after(key: &Bytes) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

/// The smallest key after all that begin with `prefix`; none if there is no such key.
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(Bytes::from(end));
        }
        end.pop();
    }
    None
}

fn prefix_range(prefix: u8) -> (Bytes, Bytes) {
    (Bytes::from(vec![prefix]), Bytes::from(vec![prefix + 1]))
}

fn omap(id: u64, separator: u8, rest: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(10 + rest.len());
    key.push(OMAP);
    key.extend_from_slice(&id.to_be_bytes());
    key.push(separator);
    key.extend_from_slice(rest);
    Bytes::from(key)
}

fn flip(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn hash_prefix(pool: i64, reversed: u32) -> Vec<u8> {
    let mut key = Vec::new();
    push_hash_prefix(&mut key, pool, reversed);
    key
}

fn push_hash_prefix(key: &mut Vec<u8>, pool: i64, reversed: u32) {
    key.push(OBJECT);
    key.extend_from_slice(&flip(pool));
    key.extend_from_slice(&reversed.to_be_bytes());
}

fn object_prefix(object: &ObjectId) -> Vec<u8> {
    // Enough unless there are zero bytes to escape; one more for the kind.
    let names = object.namespace.len() + 2 * object.name.len() + 2 * object.key.len();
    let mut key = Vec::with_capacity(names + 13 + 8 + 8 + 1);
    push_hash_prefix(&mut key, object.pool, object.hash.reverse_bits());
    escape(&mut key, &object.namespace);
    escape(&mut key, object.effective_key());
    escape(&mut key, &object.name);
    key.extend_from_slice(&object.snap.to_be_bytes());
    escape(&mut key, &object.key);
    key
}

fn escape(key: &mut Vec<u8>, text: &[u8]) {
    for (number, part) in text.split(|byte| *byte == 0).enumerate() {
        if number > 0 {
            key.extend_from_slice(&[0, 0xff]);
        }
        key.extend_from_slice(part);
    }
    key.extend_from_slice(&[0, 1]);
}

struct Cursor<'a> {
    key: &'a Bytes,
    at: usize,
}

impl Cursor<'_> {
    fn array<const N: usize>(&mut self, what: &'static str) -> DecodeResult<[u8; N]> {
        let rest = self.key.get(self.at..).unwrap_or_default();
        let short = DecodeError::Short { what, at: self.at, need: N, have: rest.len() };
        let array = *rest.first_chunk::<N>().ok_or(short)?;
        self.at += N;
        Ok(array)
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> DecodeResult<()> {
        let [found] = self.array(what)?;
        if found == byte {
            return Ok(());
        }
        Err(DecodeError::Value { what, at: self.at - 1, value: found.into() })
    }

    fn string(&mut self, what: &'static str) -> DecodeResult<Bytes> {
        let mut text = Vec::new();
        loop {
            let [byte] = self.array(what)?;
            if byte != 0 {
                text.push(byte);
                continue;
            }
            match self.array(what)? {
                [1] => return Ok(Bytes::from(text)),
                [0xff] => text.push(0),
                [other] => return Err(DecodeError::Value { what, at: self.at - 1, value: other.into() }),
            }
        }
    }

    fn end(&self) -> DecodeResult<()> {
        match self.key.len() - self.at {
            0 => Ok(()),
            left => Err(DecodeError::Trailing { what: "key", left }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), Just(b'a'), any::<u8>()], 0..6)
            .prop_map(Bytes::from)
    }

    prop_compose! {
        fn object()(
            pool in prop_oneof![Just(-1i64), Just(0), Just(i64::MAX), any::<i64>()],
            hash in prop_oneof![0u32..4, any::<u32>()],
            namespace in text(),
            key in text(),
            name in text(),
            snap in prop_oneof![Just(ObjectId::HEAD), any::<u64>()],
        ) -> ObjectId {
            ObjectId { pool, hash, namespace, key, name, snap }
        }
    }

    proptest! {
        #[test]
        fn keys_sort_as_objects_do(a in object(), b in object()) {
            prop_assert_eq!(onode(&a).cmp(&onode(&b)), a.cmp(&b));
            prop_assert_eq!(parse_object(&onode(&a)), Ok(ObjectKey::Onode(a.clone())));
            let third = shard(&onode(&a), 3);
            prop_assert_eq!(parse_object(&third), Ok(ObjectKey::Shard(onode(&a), 3)));
            prop_assert!(third > onode(&a));
            if a < b {
                prop_assert!(third < onode(&b), "shards stay with their onode");
            }
        }

        #[test]
        fn a_collection_is_a_contiguous_range(a in object(), bits in 0u8..=32, seed: u32) {
            let seed = seed & crate::check::mask(bits);
            let id = CollectionId { pool: a.pool, seed };
            let (start, end) = collection_objects(id, bits);
            let inside = onode(&a) >= start && onode(&a) < end;
            prop_assert_eq!(inside, crate::check::check_member(id, bits, &a).is_ok());
        }

        #[test]
        fn garbage_is_refused_without_panic(key in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut key = key;
            key.insert(0, OBJECT);
            let key = Bytes::from(key);
            if let Ok(ObjectKey::Onode(object)) = parse_object(&key) {
                prop_assert_eq!(onode(&object), key);
            }
        }
    }

    #[test]
    fn omap_header_and_entries_are_apart() {
        let (start, end) = omap_entries(7);
        assert!(omap_header(7) < start && omap_entry(7, b"") >= start && omap_entry(7, &[0xff; 9]) < end);
        assert_eq!(omap_user_key(&omap_entry(7, b"key")), Ok(Bytes::from_static(b"key")));
        assert_eq!(omap_id(&omap_header(9)), Ok(9));
        assert_eq!(parse_reap(&reap(5)), Ok(5));
        assert_eq!(parse_share(&share(7, 4096)), Ok((7, 4096)));
        assert_eq!(after_prefix(b"a\xff"), Some(Bytes::from_static(b"b")));
        assert_eq!(after_prefix(b"\xff"), None);
    }
}
