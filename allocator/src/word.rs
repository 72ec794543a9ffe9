//! One 64-bit word of level 0: bit `i` is set when block `i` is free. Pure functions.

/// Orders of aligned free pieces within a word: 2^0 .. 2^6 blocks.
pub(crate) const ORDERS: usize = 7;

/// Bits at the starts of naturally aligned, wholly free pieces of `2^order` blocks.
pub(crate) fn aligned_starts(word: u64, order: usize) -> u64 {
    const STARTS: [u64; ORDERS] = [
        u64::MAX,
        0x5555_5555_5555_5555,
        0x1111_1111_1111_1111,
        0x0101_0101_0101_0101,
        0x0001_0001_0001_0001,
        0x0000_0001_0000_0001,
        0x0000_0000_0000_0001,
    ];
    let mut starts = word;
    for (step, ends) in STARTS.iter().enumerate().take(order + 1).skip(1) {
        starts &= (starts >> (1 << (step - 1))) & ends;
    }
    starts
}

/// 0 for a word without free blocks, otherwise 1 + the order of its largest aligned free piece.
pub(crate) fn class(word: u64) -> usize {
    if word == u64::MAX {
        return ORDERS;
    }
    let mut class = 0;
    while class < ORDERS - 1 && aligned_starts(word, class) != 0 {
        class += 1;
    }
    class
}

/// Bits `from..to`, with `from < to ≤ 64`.
pub(crate) fn mask(from: u64, to: u64) -> u64 {
    debug_assert!(from < to && to <= 64);
    (u64::MAX >> (64 - (to - from))) << from
}

/// How many free runs begin in this word, when the block before it is free or not.
pub(crate) fn run_starts(word: u64, before_is_free: bool) -> u64 {
    u64::from((word & !((word << 1) | u64::from(before_is_free))).count_ones())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_agrees_with_a_slow_scan() {
        let mut word = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..2000_u32 {
            word = word.wrapping_mul(0xd129_0d3d_5d4b_1a65).rotate_left(17) ^ u64::from(round);
            for sample in
                [word, word | (word >> 1), word | (word << 3) | (word >> 7), !0, 0, word & (word << 1)]
            {
                let mut slow = 0;
                for order in 0..ORDERS {
                    let size = 1_u64 << order;
                    let found = (0..64 / size).any(|i| {
                        let piece = mask(i * size, (i + 1) * size);
                        sample & piece == piece
                    });
                    if found {
                        slow = order + 1;
                    }
                }
                assert_eq!(class(sample), slow, "{sample:#x}");
            }
        }
    }

    #[test]
    fn run_starts_counts_runs() {
        assert_eq!(run_starts(0b0110_1101, false), 3);
        assert_eq!(run_starts(0b0110_1101, true), 2);
        assert_eq!(run_starts(u64::MAX, true), 0);
        assert_eq!(run_starts(0, true), 0);
    }
}
