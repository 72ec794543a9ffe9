//! Bytes in pieces: cutting, joining and zeroes without copying.

use bytes::Bytes;

const ZERO_CHUNK_BYTES: usize = 64 << 10;
static ZEROES: [u8; ZERO_CHUNK_BYTES] = [0; ZERO_CHUNK_BYTES];

/// Bytes in all chunks.
pub fn total(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// The part `[from, from + len)` of the chunks' bytes, which must be there.
pub fn slice(chunks: &[Bytes], from: u64, len: u64) -> Vec<Bytes> {
    let mut out = Vec::new();
    let mut skip = from;
    let mut left = len;
    for chunk in chunks {
        let here = chunk.len() as u64;
        if skip >= here {
            skip -= here;
            continue;
        }
        let take = left.min(here - skip);
        if take == 0 {
            break;
        }
        // Both are at most the chunk's length, so they fit.
        out.push(chunk.slice(skip as usize..(skip + take) as usize));
        skip = 0;
        left -= take;
    }
    assert_eq!(left, 0, "invariant: the range lies within the chunks");
    out
}

/// Appends `len` zero bytes.
pub fn push_zeroes(out: &mut Vec<Bytes>, mut len: u64) {
    while len > 0 {
        let take = len.min(ZERO_CHUNK_BYTES as u64);
        out.push(Bytes::from_static(&ZEROES[..take as usize]));
        len -= take;
    }
}

/// One buffer with all bytes; copies unless there is one chunk.
pub fn concat(chunks: &[Bytes]) -> Bytes {
    match chunks {
        [] => Bytes::new(),
        [one] => one.clone(),
        many => {
            let mut all = Vec::with_capacity(many.iter().map(Bytes::len).sum());
            for chunk in many {
                all.extend_from_slice(chunk);
            }
            all.into()
        }
    }
}
