//! The fixed-point logarithm of straw2, `2^44 × log2(u + 1)`.
//!
//! Its tables are derived at compile time with integers only. The derivation is exact: a bit of a logarithm that
//! the working precision could not decide fails the build. One table of Ceph has an offset and some odd values,
//! which are part of the protocol: they are listed as data.

/// `crush_ln(0xffff) + 1`-ish upper end: every value is below this, so that `ln - LN_ONE` is never positive.
pub(super) const LN_ONE: i64 = 1 << 48;

/// `2^44 × log2(u + 1)` as CRUSH rounds it; at most 2^48 - 2^28 or so.
pub fn crush_ln(u: u16) -> u64 {
    let mut x = u64::from(u) + 1;
    let mut exponent = 15u64;
    // x has at most 17 bits. Bring its top bit to position 15, unless it is above.
    if x & 0x1_8000 == 0 {
        let shift = x.leading_zeros() - 48;
        x <<= shift;
        exponent -= u64::from(shift);
    }
    let k = (x >> 8) as usize - 128;
    let i = ((x.wrapping_mul(RECIPROCALS[k]) >> 48) & 0xff) as usize;
    (exponent << 44) + ((LOGARITHMS[k] + FINE_LOGARITHMS[i]) >> 4)
}

/// `ceil(2^48 / (1 + k/128))`.
static RECIPROCALS: [u64; 129] = {
    let mut table = [0; 129];
    let mut k = 0;
    while k < 129 {
        table[k] = (1u64 << 55).div_ceil(128 + k as u64);
        k += 1;
    }
    table
};

/// `floor(2^48 × log2(1 + k/128))`, and one less than nothing for the last.
static LOGARITHMS: [u64; 129] = {
    let mut table = [0; 129];
    let mut k = 0;
    while k < 128 {
        table[k] = log2_fraction(128 + k as u128, 7);
        k += 1;
    }
    //= ceph 16.2 crush: the last entry is 0xffff00000000, not 2^48
    table[128] = 0xffff_0000_0000;
    table
};

/// `floor(2^48 × log2(1 + i/2^15)) + 0x147700000`, but for the exceptions.
static FINE_LOGARITHMS: [u64; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = log2_fraction((1 << 15) + i as u128, 15) + FINE_OFFSET;
        i += 1;
    }
    let mut e = 0;
    while e < FINE_WITHOUT_OFFSET.len() {
        table[FINE_WITHOUT_OFFSET[e]] -= FINE_OFFSET;
        e += 1;
    }
    e = 0;
    while e < FINE_ABSOLUTE.len() {
        table[FINE_ABSOLUTE[e].0] = FINE_ABSOLUTE[e].1;
        e += 1;
    }
    table
};

//= ceph 16.2 crush: deviations of the fine table from the logarithm
const FINE_OFFSET: u64 = 0x1_4770_0000;
const FINE_WITHOUT_OFFSET: [usize; 21] =
    [0, 1, 203, 216, 222, 233, 237, 238, 239, 243, 244, 245, 246, 248, 249, 250, 251, 252, 253, 254, 255];
const FINE_ABSOLUTE: [(usize, u64); 23] = [
    (56, 0xa2_b07f_3458),
    (127, 0x16d_f6ca_19bd),
    (134, 0x182_b07f_3458),
    (181, 0x209_c06e_6212),
    (184, 0x212_b07f_3458),
    (188, 0x21d_6a73_a78f),
    (193, 0x22c_2367_9b4e),
    (198, 0x23a_2c3b_0ea4),
    (199, 0x23d_13ee_805b),
    (200, 0x240_35e9_221f),
    (207, 0x254_9264_4d65),
    (210, 0x25d_13ee_805b),
    (212, 0x262_9645_3882),
    (225, 0x287_bdbf_5255),
    (227, 0x28d_13ee_805b),
    (228, 0x290_35e9_221f),
    (229, 0x292_9645_3882),
    (231, 0x299_02a3_7aab),
    (235, 0x2a4_c760_5d61),
    (236, 0x2a7_bdbf_5255),
    (240, 0x2b2_9645_3882),
    (241, 0x2b5_d022_d80f),
    (247, 0x2c6_1a5e_8f4c),
];

/// `floor(2^48 × log2(numerator / 2^bits))` for a quotient in [1, 2).
///
/// Squares the quotient 48 times; each time, the result's integer part is the next bit. Truncation makes the
/// running value too small by less than 2^(n-126) after n steps, so a value further than that from 2 decides its
/// bit; a nearer one stops the build.
const fn log2_fraction(numerator: u128, bits: u32) -> u64 {
    assert!(numerator >> bits == 1);
    const UNDECIDED: u128 = 1 << 64;
    // A fixed-point number with 127 fraction bits.
    let mut x = numerator << (127 - bits);
    if x == 1 << 127 {
        return 0;
    }
    let mut result = 0u64;
    let mut step = 0;
    while step < 48 {
        let (high, low) = square(x);
        result <<= 1;
        if high >> 127 == 1 {
            result |= 1;
            x = high;
        } else {
            x = (high << 1) | (low >> 127);
            assert!(x < u128::MAX - UNDECIDED, "a bit of the logarithm is not decided");
        }
        step += 1;
    }
    result
}

/// The 256-bit square, as high and low half.
const fn square(x: u128) -> (u128, u128) {
    const HALF: u128 = (1 << 64) - 1;
    let (high, low) = (x >> 64, x & HALF);
    let middle = high * low;
    // x² = high² 2^128 + 2 middle 2^64 + low².
    let (bottom, carry) = (low * low).overflowing_add(middle << 65);
    let top = high * high + (middle >> 63) + carry as u128;
    (top, bottom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_with_its_argument() {
        assert_eq!(crush_ln(0), 0);
        assert_eq!(crush_ln(1), 1 << 44);
        // The odd entries make it not quite monotonic; it never strays far from the logarithm.
        for u in 0..=u16::MAX {
            let exact = (f64::from(u) + 1.0).log2() * (1u64 << 44) as f64;
            assert!((crush_ln(u) as f64 - exact).abs() < 1e12 / 2.0, "{u}");
            assert!((crush_ln(u) as i64) < LN_ONE);
        }
    }
}
