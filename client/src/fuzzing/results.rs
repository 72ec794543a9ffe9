//! Outputs of ops, as an OSD sends them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::codec::{Writer, encode_to_bytes};
use wire::msg::PgListReply;
use wire::types::{HObject, UTime};

use crate::operation::{OmapPage, OpResult, SparseRead, Stat};

/// Every decoder takes the same bytes.
pub(super) fn all(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let carried = |sizes: &mut dyn Iterator<Item = usize>| assert!(sizes.sum::<usize>() <= input.len());
    assert_eq!(Bytes::decode(&bytes).as_ref(), Ok(&bytes));
    if let Ok(list) = PgListReply::decode(&bytes) {
        carried(
            &mut list
                .objects
                .iter()
                .map(|object| object.nspace.len() + object.object.len() + object.key.len()),
        );
    }
    if let Ok(map) = BTreeMap::<Bytes, Bytes>::decode(&bytes) {
        carried(&mut map.iter().map(|(key, value)| key.len() + value.len()));
    }
    if let Ok(stat) = Stat::decode(&bytes) {
        assert!(bytes.starts_with(&stat.size.to_le_bytes()));
    }
    if let Ok(read) = SparseRead::decode(&bytes) {
        carried(&mut [16 * read.extents.len(), read.data.len()].into_iter());
        assert_eq!(read.extents.values().copied().map(u128::from).sum::<u128>(), read.data.len() as u128);
    }
    if let Ok(keys) = OmapPage::<BTreeSet<Bytes>>::decode(&bytes) {
        carried(&mut keys.entries.iter().map(Bytes::len));
    }
    if let Ok(values) = OmapPage::<BTreeMap<Bytes, Bytes>>::decode(&bytes) {
        carried(&mut values.entries.iter().map(|(key, value)| key.len() + value.len()));
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
    let object = wire::msg::ListedObject { nspace: Bytes::new(), object: key.clone(), key: Bytes::new() };
    let write = |write: &dyn Fn(&mut Writer)| {
        let mut w = Writer::new();
        write(&mut w);
        w.finish().to_vec()
    };
    vec![
        encode_to_bytes(&PgListReply { handle: HObject::maximum(), objects: vec![object] }).to_vec(),
        write(&|w| w.map(&BTreeMap::from([(key.clone(), value.clone())]))),
        write(&|w| {
            w.u64(4096);
            w.put(&UTime { seconds: 5, nanoseconds: 6 });
        }),
        write(&|w| {
            w.map(&BTreeMap::from([(0u64, 2u64), (9, 3)]));
            w.blob(&value);
        }),
        write(&|w| {
            w.set(&BTreeSet::from([key.clone(), value.clone()]));
            w.u8(1);
        }),
        write(&|w| {
            w.map(&BTreeMap::from([(key.clone(), value.clone())]));
            w.u8(0);
        }),
    ]
}
