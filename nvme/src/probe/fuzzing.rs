//! Fuzz entry of the signatures of other people's formats; see [`crate::fuzzing`].

use std::cell::RefCell;

use super::Found;
use super::signatures::{Content, FIXED, recognise};

/// Enough for every signature but those of ZFS, which are put where the head is short.
const HEAD_BYTES: usize = 0x10200;
const TAIL_BYTES: usize = 0x11000;
/// Pieces of one test case.
const PIECES_MAX: usize = 8;

thread_local! {
    /// Zeroes between test cases.
    static BLANK: RefCell<(Vec<u8>, Vec<u8>)> = RefCell::new((vec![0; HEAD_BYTES], vec![0; TAIL_BYTES]));
}

/// Places where some format has something: of the head, and of the tail from its end.
const HEAD_PLACES: [usize; 26] = [
    0, 3, 24, 32, 54, 82, 446, 510, 512, 536, 1024, 1080, 1116, 1120, 1144, 1052, 4086, 4096, 4128, 8182,
    0x1018, 0x4000, 0x8001, 0x10034, 0x10040, 0x1012b,
];
const TAIL_PLACES: [usize; 6] = [512, 4096, 8192, 0x10000, 0x10fff, 0x2000];

/// A device with pieces: where the tail starts (u32), then place, where from there, length, bytes.
pub(crate) fn signatures(input: &[u8]) {
    let Some((start, mut rest)) = input.split_first_chunk::<4>() else {
        return;
    };
    let tail_start = u64::from(u32::from_le_bytes(*start));
    BLANK.with_borrow_mut(|(head, tail)| {
        let mut written = Vec::new();
        while let [place, more, length, after @ ..] = rest
            && written.len() < PIECES_MAX
        {
            let (piece, after) = after.split_at(usize::from(*length).min(after.len()));
            rest = after;
            let in_head = *place < 0xe0;
            let (bytes, at) = if in_head {
                (&mut *head, HEAD_PLACES[usize::from(*place) % HEAD_PLACES.len()] + usize::from(*more))
            } else {
                let back = TAIL_PLACES[usize::from(*place) % TAIL_PLACES.len()];
                (&mut *tail, TAIL_BYTES - back + usize::from(*more))
            };
            let end = (at + piece.len()).min(bytes.len());
            let at = at.min(end);
            bytes[at..end].copy_from_slice(&piece[..end - at]);
            written.push((in_head, at, end));
        }
        let content = Content { head, tail, tail_start };
        let found = recognise(&content);
        let is_blank = head_and_tail_are_blank(&written, head, tail);
        for (in_head, at, end) in written {
            (if in_head { &mut *head } else { &mut *tail })[at..end].fill(0);
        }
        match found {
            Some(Found::Foreign { what, name, at }) => {
                assert!(!is_blank, "{what} on a blank device");
                assert!(at < (HEAD_BYTES as u64).max(tail_start + TAIL_BYTES as u64), "{what} at {at}");
                assert!(name.is_none_or(|name| !name.is_empty() && name.len() <= 3 * 256));
            }
            None => {}
            Some(other) => panic!("{other:?} is not for signatures to find"),
        }
    });
}

fn head_and_tail_are_blank(written: &[(bool, usize, usize)], head: &[u8], tail: &[u8]) -> bool {
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    written.iter().all(|(in_head, at, end)| is_zero(&(if *in_head { head } else { tail })[*at..*end]))
}

/// One test case for each format with a fixed place, and a few others.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let piece = |place: usize, bytes: &[u8]| {
        // The last place that is not above; what is left goes into the second byte.
        let near = HEAD_PLACES.iter().enumerate().filter(|(_, at)| **at <= place && place - **at < 256);
        let (index, at) = near.max_by_key(|(_, at)| **at)?;
        let numbers = [index, place - at, bytes.len()].map(|number| u8::try_from(number).unwrap_or(u8::MAX));
        Some([&[0, 0, 0, 1][..], &numbers, bytes].concat())
    };
    let fixed = FIXED.iter().map(|(at, magic, ..)| (usize::try_from(*at).unwrap_or(0), *magic));
    let others: [(usize, &[u8]); 7] = [
        (0, b"LABELONE0123456701234567LVM2 001"),
        (0, b"\xfc\x4e\x2b\xa9"),
        (4096, b"\xfc\x4e\x2b\xa9"),
        (4086, b"SWAPSPACE2"),
        (1080, b"\x53\xef"),
        (512, b"EFI PART"),
        (510, b"\x55\xaa"),
    ];
    let mut all: Vec<Vec<u8>> = fixed.chain(others).filter_map(|(at, magic)| piece(at, magic)).collect();
    let in_tail: [(u8, &[u8]); 3] = [(0xe4, b"EFI PART"), (0xe5, b"EFI PART"), (0xe6, b"\xfc\x4e\x2b\xa9")];
    for (place, magic) in in_tail {
        let length = u8::try_from(magic.len()).unwrap_or(0);
        all.push([&[0, 0, 16, 0][..], &[place, 0, length], magic].concat());
    }
    all
}
