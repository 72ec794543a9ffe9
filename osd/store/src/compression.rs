//! Compression of data: what a pool or an object wants, and the algorithms, which are libraries'.

use std::io::Read;

use flate2::read::{ZlibDecoder, ZlibEncoder};

/// How bytes are compressed. Numbers and names are Ceph's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Google's, as a raw block.
    #[default]
    Snappy,
    /// Deflate with its frame.
    Zlib,
    /// Facebook's, as one frame.
    Zstd,
    /// As a raw block.
    Lz4,
}

use Algorithm::{Lz4, Snappy, Zlib, Zstd};

/// Levels at which compressing costs about as much as the others do.
//= ceph 16.2 compressor_zstd_level, compressor_zlib_level
const ZSTD_LEVEL: i32 = 1;
const ZLIB_LEVEL: u32 = 5;

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Snappy, Zlib, Zstd, Lz4];

    /// The one with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|other| other.number() == number)
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|other| other.name() == name)
    }

    /// Its number on the device.
    pub fn number(self) -> u8 {
        match self {
            Snappy => 1,
            Zlib => 2,
            Zstd => 3,
            Lz4 => 4,
        }
    }

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Snappy => "snappy",
            Zlib => "zlib",
            Zstd => "zstd",
            Lz4 => "lz4",
        }
    }

    /// Whether a blob takes it longer than a core may be busy with one task.
    pub fn is_slow(self) -> bool {
        self == Zlib
    }

    /// The bytes compressed, if that takes at most `most` bytes.
    pub fn compress(self, raw: &[u8], most: usize) -> Option<Vec<u8>> {
        let packed = match self {
            Snappy => snap::raw::Encoder::new().compress_vec(raw).ok(),
            Zlib => {
                let mut packed = Vec::with_capacity(most);
                let mut encoder =
                    ZlibEncoder::new(raw, flate2::Compression::new(ZLIB_LEVEL)).take(wide(most) + 1);
                encoder.read_to_end(&mut packed).ok().map(|_| packed)
            }
            Zstd => zstd::bulk::compress(raw, ZSTD_LEVEL).ok(),
            Lz4 => Some(lz4_flex::block::compress(raw)),
        };
        packed.filter(|packed| packed.len() <= most)
    }

    /// What was compressed to `packed`; why it cannot be had, if that is not exactly `len` bytes.
    pub fn decompress(self, packed: &[u8], len: usize) -> Result<Vec<u8>, String> {
        let raw = match self {
            Snappy => {
                // Its own length is not believed before memory is taken for it.
                let found = snap::raw::decompress_len(packed).map_err(|error| error.to_string())?;
                if found != len {
                    return Err(format!("{found} bytes, expected {len}"));
                }
                snap::raw::Decoder::new().decompress_vec(packed).map_err(|error| error.to_string())?
            }
            Zlib => {
                let mut raw = Vec::with_capacity(len);
                let mut decoder = ZlibDecoder::new(packed).take(wide(len) + 1);
                decoder.read_to_end(&mut raw).map_err(|error| error.to_string())?;
                raw
            }
            Zstd => zstd::bulk::decompress(packed, len).map_err(|error| error.to_string())?,
            Lz4 => lz4_flex::block::decompress(packed, len).map_err(|error| error.to_string())?,
        };
        if raw.len() == len { Ok(raw) } else { Err(format!("{} bytes, expected {len}", raw.len())) }
    }
}

/// When data is compressed. Names are Ceph's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionMode {
    /// Never.
    #[default]
    None,
    /// Where a client said that it is compressible.
    Passive,
    /// But where a client said that it is not compressible.
    Aggressive,
    /// Always.
    Force,
}

impl CompressionMode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Passive, Self::Aggressive, Self::Force];

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Passive => "passive",
            Self::Aggressive => "aggressive",
            Self::Force => "force",
        }
    }

    /// The one with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|other| other.name() == name)
    }

    /// Whether data of which that was said is compressed.
    pub fn wants(self, hint: Compressibility) -> bool {
        match self {
            Self::None => false,
            Self::Passive => matches!(hint, Compressibility::Compressible | Compressibility::Both),
            Self::Aggressive => !matches!(hint, Compressibility::Incompressible | Compressibility::Both),
            Self::Force => true,
        }
    }
}

/// What a client said of whether an object's data compresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compressibility {
    /// Nothing.
    #[default]
    None,
    /// It compresses well.
    Compressible,
    /// Do not try.
    Incompressible,
    /// Both, which is up to the mode.
    Both,
}

impl Compressibility {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::None, Self::Compressible, Self::Incompressible, Self::Both];

    /// Its number on the device.
    pub fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Compressible => 1,
            Self::Incompressible => 2,
            Self::Both => 3,
        }
    }

    /// The one with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|hint| hint.number() == number)
    }
}

/// What a pool wants of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// When.
    pub mode: CompressionMode,
    /// How.
    pub algorithm: Algorithm,
    /// What is compressed is stored so if it takes at most so many bytes of a thousand.
    pub required_permille: u32,
    /// Fewer bytes in one place are not compressed. No more than [`Self::blob_bytes_max`] counts.
    pub blob_bytes_min: u64,
    /// More bytes are compressed in several pieces, each of which is read as a whole. No piece is longer than a shard.
    pub blob_bytes_max: u64,
}

impl Compression {
    /// Sets [`Self::required_permille`] from a part of one.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 1000")]
    pub fn set_required_ratio(&mut self, ratio: f64) {
        self.required_permille = (ratio.clamp(0.0, 1.0) * 1000.0).round() as u32;
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            mode: CompressionMode::default(),
            algorithm: Algorithm::default(),
            required_permille: 875,
            blob_bytes_min: 8 << 10,
            blob_bytes_max: 64 << 10,
        }
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_gives_back_what_it_took() {
        let text: Vec<u8> = (0..40_000_u32).flat_map(|n| (n / 7 % 91).to_le_bytes()).collect();
        for (algorithm, number) in Algorithm::ALL.into_iter().zip(1..) {
            assert_eq!((algorithm.number(), Algorithm::from_number(number)), (number, Some(algorithm)));
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
            let packed = algorithm.compress(&text, text.len()).expect("compressible");
            assert!(packed.len() < text.len() / 4, "{algorithm:?}: {}", packed.len());
            assert_eq!(algorithm.decompress(&packed, text.len()).as_deref(), Ok(&*text));
            assert_eq!(algorithm.compress(&text, packed.len() - 1), None);
            assert!(algorithm.decompress(&packed, text.len() - 1).is_err());
            assert!(algorithm.decompress(&packed, text.len() + 1).is_err());
            assert!(algorithm.decompress(&packed[..packed.len() / 2], text.len()).is_err());
            assert!(algorithm.decompress(b"", text.len()).is_err());
        }
    }

    #[test]
    fn hints_decide_where_the_mode_asks_for_them() {
        use CompressionMode::{Aggressive, Force, None, Passive};
        let wants = |mode: CompressionMode| Compressibility::ALL.map(|hint| mode.wants(hint));
        assert_eq!(wants(None), [false, false, false, false]);
        assert_eq!(wants(Passive), [false, true, false, true]);
        assert_eq!(wants(Aggressive), [true, true, false, false]);
        assert_eq!(wants(Force), [true, true, true, true]);
        for mode in CompressionMode::ALL {
            assert_eq!(CompressionMode::from_name(mode.name()), Some(mode));
        }
        let all: Option<Vec<_>> = (0..4).map(Compressibility::from_number).collect();
        assert_eq!(all, Some(Compressibility::ALL.to_vec()));
        assert_eq!(Compressibility::from_number(4), Option::None);
    }
}
