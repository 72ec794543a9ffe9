//! Little-endian reading and writing of log records and superblocks. Every read is bounded; none panics.

use allocator::Extent;

use crate::fs::error::{FsError, FsResult};

/// Appends fixed-width fields.
#[derive(Default)]
pub(crate) struct Encoder {
    pub(crate) bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn extent(&mut self, extent: Extent) {
        self.u64(extent.start);
        self.u64(extent.len);
    }

    /// At most 255 bytes, checked where names are accepted.
    pub(crate) fn name(&mut self, name: &str) {
        let Ok(len) = u8::try_from(name.len()) else { panic!("a name of {} bytes was accepted", name.len()) };
        self.u8(len);
        self.bytes.extend(name.as_bytes());
    }

    pub(crate) fn extents(&mut self, extents: &[Extent]) {
        let Ok(count) = u32::try_from(extents.len()) else { panic!("{} extents in a record", extents.len()) };
        self.u32(count);
        extents.iter().for_each(|extent| self.extent(*extent));
    }
}

/// Takes fixed-width fields off the front.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> FsResult<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(FsError::corrupt(format!("a record ends {} bytes early", len - self.rest.len())));
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> FsResult<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> FsResult<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> FsResult<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> FsResult<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn u128(&mut self) -> FsResult<u128> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    pub(crate) fn extent(&mut self) -> FsResult<Extent> {
        let (start, len) = (self.u64()?, self.u64()?);
        Extent::checked(start, len)
            .filter(|extent| extent.len > 0)
            .ok_or_else(|| FsError::corrupt(format!("an extent of {len} bytes at {start:#x}")))
    }

    pub(crate) fn name(&mut self) -> FsResult<String> {
        let len = usize::from(self.u8()?);
        let bytes = self.take(len)?.to_vec();
        String::from_utf8(bytes).map_err(|_| FsError::corrupt("a name that is not UTF-8"))
    }

    pub(crate) fn extents(&mut self, most: usize) -> FsResult<Vec<Extent>> {
        let count = self.u32()? as usize;
        if count > most || count > self.rest.len() / 16 {
            return Err(FsError::corrupt(format!("a list of {count} extents")));
        }
        (0..count).map(|_| self.extent()).collect()
    }
}
