//! [`Manifest`]: which runs make up the store. Replaced as a whole: written aside, synced, renamed.

use bytes::{Buf, BufMut, BytesMut};

use crate::fs::{FsError, LocalBlueFs};
use crate::kv::sim::fs_error;
use crate::kv::{KvError, KvResult};

const MAGIC: u64 = u64::from_le_bytes(*b"spSimMan");
/// Most runs a manifest may name; bounds what is read.
pub(super) const RUNS_MAX: usize = 1024;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Numbers of the runs, newest first.
    pub(super) runs: Vec<u64>,
    pub(super) next_run: u64,
    pub(super) last_seq: u64,
}

fn path(dir: &str) -> String {
    format!("{dir}/manifest")
}

impl Manifest {
    /// The manifest of `dir`, or an empty one if there is none yet.
    pub(super) async fn read(fs: &LocalBlueFs, dir: &str) -> KvResult<Self> {
        match fs.with(|machine| machine.size(&path(dir))) {
            Ok(_) => Self::read_from(fs, &path(dir)).await,
            Err(FsError::NotFound { .. }) => Ok(Self { next_run: 1, ..Self::default() }),
            Err(error) => Err(fs_error(error)),
        }
    }

    /// The manifest in a file.
    pub(super) async fn read_from(fs: &LocalBlueFs, path: &str) -> KvResult<Self> {
        let reader = fs.open(path).map_err(fs_error)?;
        Self::decode(&reader.read_at(0, 64 + RUNS_MAX * 8).await.map_err(fs_error)?)
    }

    /// Reads what [`Manifest::encode`] wrote.
    pub(super) fn decode(bytes: &[u8]) -> KvResult<Self> {
        let corrupt = || KvError::Corrupt("manifest".to_owned());
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(corrupt)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(corrupt());
        }
        let mut rest = body;
        if rest.try_get_u64_le() != Ok(MAGIC) {
            return Err(corrupt());
        }
        let mut field = || rest.try_get_u64_le().map_err(|_| corrupt());
        let (next_run, last_seq, count) = (field()?, field()?, field()?);
        let runs = (0..count).map(|_| field()).collect::<KvResult<Vec<u64>>>()?;
        Ok(Self { runs, next_run, last_seq })
    }

    /// Makes this the manifest, durably, and with it the names of everything it mentions.
    pub(super) async fn write(&self, fs: &LocalBlueFs, dir: &str) -> KvResult<()> {
        let bytes = self.encode();
        let aside = format!("{}.tmp", path(dir));
        let mut writer = fs.create(&aside).map_err(fs_error)?;
        writer.append(&bytes).await.map_err(fs_error)?;
        writer.sync().await.map_err(fs_error)?;
        drop(writer);
        fs.with(|machine| machine.rename(&aside, &path(dir))).map_err(fs_error)?;
        fs.sync_metadata().await.map_err(fs_error)
    }

    /// The bytes of the file.
    pub(super) fn encode(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        for field in [MAGIC, self.next_run, self.last_seq, self.runs.len() as u64].iter().chain(&self.runs) {
            bytes.put_u64_le(*field);
        }
        bytes.put_u32_le(crc32c::crc32c(&bytes));
        bytes
    }
}
