//! The log of a `log-writes` device, as the kernel documents it: read, and replayed up to any entry. Pure but for reading.
//!
//! Layout: a superblock in the first sector {magic u64, version u64, entries u64, sector size u32}; then for every entry
//! a sector {sector u64, sectors u64, flags u64, data length u64} and its data; a mark's text is in the entry's own sector.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// Longest text of a mark that fits a sector of 512 bytes with the entry.
const MARK_MAX: u64 = 512 - 32;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Byte offset on the data device.
    pub offset: u64,
    /// What happened there.
    pub kind: Kind,
    /// A flush was part of it: everything before is durable.
    pub flush: bool,
}

/// What an entry tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A write; its bytes are at this place in the log.
    Write {
        /// Offset in the log, bytes.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// A discard of so many bytes.
    Discard {
        /// Bytes.
        len: u64,
    },
    /// A mark of the load's.
    Mark(String),
}

/// A log, opened.
pub struct Log {
    file: File,
    /// In order.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Reads all entries.
    pub fn open(path: &Path) -> io::Result<Self> {
        let bad =
            |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()));
        let file = File::open(path).map_err(|error| bad(error.to_string()))?;
        let mut head = [0_u8; 28];
        file.read_exact_at(&mut head, 0)?;
        let (magic, version, count) = (word(&head, 0), word(&head, 8), word(&head, 16));
        if magic != MAGIC || version != VERSION {
            return Err(bad(format!("not a log of writes: magic {magic:#x}, version {version}")));
        }
        let sector = u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]]));
        if ![512, 4096].contains(&sector) {
            return Err(bad(format!("sector size {sector}")));
        }
        let mut entries = Vec::new();
        let mut at = sector;
        for number in 0..count {
            let mut raw = [0_u8; 32];
            file.read_exact_at(&mut raw, at)?;
            let (start, sectors, flags, len) = (word(&raw, 0), word(&raw, 8), word(&raw, 16), word(&raw, 24));
            let bytes =
                sectors.checked_mul(sector).ok_or_else(|| bad(format!("entry {number} is too long")))?;
            at += sector;
            let kind = if flags & MARK != 0 {
                let mut text = vec![0_u8; usize::try_from(len.min(MARK_MAX)).unwrap_or(0)];
                file.read_exact_at(&mut text, at - sector + 32)?;
                Kind::Mark(String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned())
            } else if flags & DISCARD != 0 {
                Kind::Discard { len: bytes }
            } else {
                at += bytes;
                Kind::Write { at: at - bytes, len: bytes }
            };
            entries.push(Entry { offset: start * sector, kind, flush: flags & (FLUSH | FUA) != 0 });
        }
        Ok(Self { file, entries })
    }

    /// The bytes of a write.
    pub fn data(&self, at: u64, len: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0_u8; usize::try_from(len).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0_u8; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// A log of these entries, each with its data, as the kernel writes one; for tests.
#[cfg(test)]
pub fn encode(sector: usize, entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0_u8; sector];
    out[..8].copy_from_slice(&MAGIC.to_le_bytes());
    out[8..16].copy_from_slice(&VERSION.to_le_bytes());
    out[16..24].copy_from_slice(&(entries.len() as u64).to_le_bytes());
    out[24..28].copy_from_slice(&(sector as u32).to_le_bytes());
    for (entry, data) in entries {
        let mut head = vec![0_u8; sector];
        let (len, kind, text) = match &entry.kind {
            Kind::Write { len, .. } => (*len, 0, ""),
            Kind::Discard { len } => (*len, DISCARD, ""),
            Kind::Mark(text) => (0, MARK, text.as_str()),
        };
        let words = [
            entry.offset / sector as u64,
            len / sector as u64,
            kind | u64::from(entry.flush),
            text.len() as u64,
        ];
        for (place, word) in head.chunks_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        head[32..32 + text.len()].copy_from_slice(text.as_bytes());
        out.extend(head);
        out.extend(data);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_with_their_data() {
        for sector in [512_u64, 4096] {
            let write = Kind::Write { at: 3 * sector, len: 2 * sector };
            let data: Vec<u8> = (0..2 * sector).map(|byte| byte as u8).collect();
            let entries = [
                (Entry { offset: 0, kind: Kind::Mark("a:1:0,".into()), flush: false }, vec![]),
                (Entry { offset: 8 * sector, kind: write, flush: false }, data.clone()),
                (Entry { offset: sector, kind: Kind::Discard { len: 4 * sector }, flush: false }, vec![]),
                (Entry { offset: 0, kind: Kind::Write { at: 7 * sector, len: 0 }, flush: true }, vec![]),
            ];
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), encode(sector as usize, &entries)).unwrap();
            let log = Log::open(file.path()).unwrap();
            assert_eq!(log.entries, entries.clone().map(|(entry, _)| entry));
            assert_eq!(log.data(3 * sector, 2 * sector).unwrap(), data);
        }
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bytes in [vec![], vec![0; 4096], encode(1024, &[])] {
            std::fs::write(file.path(), bytes).unwrap();
            assert!(Log::open(file.path()).is_err());
        }
    }
}
