//! What a pool of the OSD map wants of the store. What this version does not know is as if it were not set.

use store::{Algorithm, ChecksumKind, ChunkBounds, Compression, CompressionMode, PoolOptions};
use wire::osdmap::Pool;
use wire::types::PoolId;

/// See the module. `whoami` is for the log.
pub fn wanted(whoami: i32, id: PoolId, pool: &Pool) -> PoolOptions {
    let unknown = |what: &str, value: &dyn std::fmt::Display| {
        log::debug!("osd.{whoami}: pool {id} has {what} {value}, which is none");
    };
    let checksum = pool.integer_option(Pool::OPTION_CSUM_TYPE).and_then(|number| {
        let kind = u8::try_from(number).ok().and_then(ChecksumKind::from_number);
        if kind.is_none() {
            unknown("csum_type", &number);
        }
        kind
    });
    let mode = pool.text_option(Pool::OPTION_COMPRESSION_MODE).and_then(|name| {
        let mode = CompressionMode::from_name(name);
        if mode.is_none() {
            unknown("compression_mode", &name);
        }
        mode
    });
    let bytes = |key| pool.integer_option(key).and_then(|bytes| u64::try_from(bytes).ok());
    let chunk = |key| bytes(key).filter(|bytes| *bytes > 0);
    let checksum_chunk =
        ChunkBounds { min: chunk(Pool::OPTION_CSUM_MIN_BLOCK), max: chunk(Pool::OPTION_CSUM_MAX_BLOCK) };
    let usual = Compression::default();
    let algorithm = pool.text_option(Pool::OPTION_COMPRESSION_ALGORITHM);
    let algorithm = algorithm.map_or(Some(usual.algorithm), Algorithm::from_name);
    let compression = mode.map(|mode| {
        // Which includes "none": what was asked for cannot be had, and nothing else was asked for.
        let Some(algorithm) = algorithm else { return Compression { mode: CompressionMode::None, ..usual } };
        let mut wanted = Compression {
            mode,
            algorithm,
            blob_bytes_max: bytes(Pool::OPTION_COMPRESSION_MAX_BLOB_SIZE).unwrap_or(usual.blob_bytes_max),
            blob_bytes_min: bytes(Pool::OPTION_COMPRESSION_MIN_BLOB_SIZE).unwrap_or(usual.blob_bytes_min),
            ..usual
        };
        if let Some(ratio) = pool.float_option(Pool::OPTION_COMPRESSION_REQUIRED_RATIO) {
            wanted.set_required_ratio(ratio);
        }
        wanted
    });
    PoolOptions { checksum, checksum_chunk, compression }
}

#[cfg(test)]
mod tests {
    use wire::osdmap::{FloatBits, PoolOption};
    use wire::types::UTime;

    use super::*;

    fn with(options: impl IntoIterator<Item = (i32, PoolOption)>) -> PoolOptions {
        let mut pool = Pool::replicated(8, 1, 1, 0, UTime::default());
        pool.options = options.into_iter().collect();
        wanted(0, 1, &pool)
    }

    fn text(value: &str) -> PoolOption {
        PoolOption::Text(value.to_owned())
    }

    #[test]
    fn what_is_set_is_wanted() {
        assert_eq!(with([]), PoolOptions::default());
        let all = with([
            (Pool::OPTION_CSUM_TYPE, PoolOption::Integer(3)),
            (Pool::OPTION_CSUM_MAX_BLOCK, PoolOption::Integer(32768)),
            (Pool::OPTION_CSUM_MIN_BLOCK, PoolOption::Integer(8192)),
            (Pool::OPTION_COMPRESSION_MODE, text("aggressive")),
            (Pool::OPTION_COMPRESSION_ALGORITHM, text("zstd")),
            (Pool::OPTION_COMPRESSION_REQUIRED_RATIO, PoolOption::Float(FloatBits::new(0.5))),
            (Pool::OPTION_COMPRESSION_MAX_BLOB_SIZE, PoolOption::Integer(32768)),
            (Pool::OPTION_COMPRESSION_MIN_BLOB_SIZE, PoolOption::Integer(16384)),
        ]);
        let compression = Compression {
            mode: CompressionMode::Aggressive,
            algorithm: Algorithm::Zstd,
            required_permille: 500,
            blob_bytes_min: 16384,
            blob_bytes_max: 32768,
        };
        let checksum = Some(ChecksumKind::Xxhash64);
        let checksum_chunk = ChunkBounds { min: Some(8192), max: Some(32768) };
        assert_eq!(all, PoolOptions { checksum, checksum_chunk, compression: Some(compression) });
    }

    #[test]
    fn what_makes_no_sense_is_as_if_it_were_not_set() {
        let odd = with([
            (Pool::OPTION_CSUM_TYPE, PoolOption::Integer(77)),
            (Pool::OPTION_CSUM_MAX_BLOCK, PoolOption::Integer(0)),
            (Pool::OPTION_CSUM_MIN_BLOCK, text("8K")),
            (Pool::OPTION_COMPRESSION_MODE, text("sometimes")),
        ]);
        assert_eq!(odd, PoolOptions::default());
        let odd = with([
            (Pool::OPTION_CSUM_TYPE, text("crc32c")),
            (Pool::OPTION_COMPRESSION_MODE, text("force")),
            (Pool::OPTION_COMPRESSION_REQUIRED_RATIO, PoolOption::Float(FloatBits::new(f64::NAN))),
            (Pool::OPTION_COMPRESSION_MAX_BLOB_SIZE, PoolOption::Integer(-1)),
            (Pool::OPTION_COMPRESSION_MIN_BLOB_SIZE, text("8K")),
        ]);
        let usual =
            Compression { mode: CompressionMode::Force, required_permille: 0, ..Compression::default() };
        assert_eq!(odd, PoolOptions { compression: Some(usual), ..PoolOptions::default() });
        for unknown in ["none", "brotli"] {
            let found = with([
                (Pool::OPTION_COMPRESSION_MODE, text("force")),
                (Pool::OPTION_COMPRESSION_ALGORITHM, text(unknown)),
            ]);
            assert_eq!(found.compression.map(|found| found.mode), Some(CompressionMode::None), "{unknown}");
        }
    }
}
