//! The hashes of placement: CRUSH's rjenkins over integers, and the two object-name hashes.
//!
//! Pure arithmetic on 32-bit words. Every client and every daemon must compute the same values, so nothing here
//! may ever change.

/// Seed of every CRUSH hash.
//= ceph 16.2 crush: the seed and the two padding words of the rjenkins1 hash
const CRUSH_SEED: u32 = 1_315_423_911;
const PAD_X: u32 = 231_232;
const PAD_Y: u32 = 1_232;
/// The golden ratio, with which the name hash starts.
const GOLDEN_RATIO: u32 = 0x9e37_79b9;

/// Mixes three words in place (Robert Jenkins' 96-bit mix).
fn mix(a: &mut u32, b: &mut u32, c: &mut u32) {
    for (x, y, z) in [(13, 8, 13), (12, 16, 5), (3, 10, 15)] {
        *a = a.wrapping_sub(*b).wrapping_sub(*c) ^ (*c >> x);
        *b = b.wrapping_sub(*c).wrapping_sub(*a) ^ (*a << y);
        *c = c.wrapping_sub(*a).wrapping_sub(*b) ^ (*b >> z);
    }
}

/// CRUSH hash of two words.
pub fn crush_hash2(mut a: u32, mut b: u32) -> u32 {
    let (mut x, mut y) = (PAD_X, PAD_Y);
    let mut h = CRUSH_SEED ^ a ^ b;
    mix(&mut a, &mut b, &mut h);
    mix(&mut x, &mut a, &mut h);
    mix(&mut b, &mut y, &mut h);
    h
}

/// CRUSH hash of three words.
pub fn crush_hash3(mut a: u32, mut b: u32, mut c: u32) -> u32 {
    let (mut x, mut y) = (PAD_X, PAD_Y);
    let mut h = CRUSH_SEED ^ a ^ b ^ c;
    mix(&mut a, &mut b, &mut h);
    mix(&mut c, &mut x, &mut h);
    mix(&mut y, &mut a, &mut h);
    mix(&mut b, &mut x, &mut h);
    mix(&mut y, &mut c, &mut h);
    h
}

/// CRUSH hash of four words.
pub fn crush_hash4(mut a: u32, mut b: u32, mut c: u32, mut d: u32) -> u32 {
    let (mut x, mut y) = (PAD_X, PAD_Y);
    let mut h = CRUSH_SEED ^ a ^ b ^ c ^ d;
    mix(&mut a, &mut b, &mut h);
    mix(&mut c, &mut d, &mut h);
    mix(&mut a, &mut x, &mut h);
    mix(&mut y, &mut b, &mut h);
    mix(&mut c, &mut x, &mut h);
    mix(&mut y, &mut d, &mut h);
    h
}

//= ceph 16.2 osdmap: separator between namespace and name in the input of the object hash
const NAMESPACE_SEPARATOR: u8 = 0x1f;

/// Hash of an object, by the hash of names that its pool uses: of its locator key if it has one, else of its name, within
/// its namespace.
pub fn hash_object(hash: impl Fn(&[u8]) -> u32, name: &[u8], key: &[u8], nspace: &[u8]) -> u32 {
    let named = if key.is_empty() { name } else { key };
    if nspace.is_empty() {
        return hash(named);
    }
    hash(&[nspace, &[NAMESPACE_SEPARATOR], named].concat())
}

/// Object-name hash 2 (`rjenkins`), the one every pool uses.
pub fn rjenkins_name_hash(name: &[u8]) -> u32 {
    let (mut a, mut b, mut c) = (GOLDEN_RATIO, GOLDEN_RATIO, 0u32);
    let (triples, tail) = name.as_chunks::<12>();
    for &[a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3] in triples {
        a = a.wrapping_add(u32::from_le_bytes([a0, a1, a2, a3]));
        b = b.wrapping_add(u32::from_le_bytes([b0, b1, b2, b3]));
        c = c.wrapping_add(u32::from_le_bytes([c0, c1, c2, c3]));
        mix(&mut a, &mut b, &mut c);
    }
    // The length enters modulo 2^32, into the byte of `c` which the tail leaves free (and above).
    let length = u32::try_from(name.len() & 0xffff_ffff).unwrap_or(0);
    c = c.wrapping_add(length);
    for (index, &byte) in tail.iter().enumerate() {
        let byte = u32::from(byte);
        match index {
            0..=3 => a = a.wrapping_add(byte << (8 * index)),
            4..=7 => b = b.wrapping_add(byte << (8 * (index - 4))),
            _ => c = c.wrapping_add(byte << (8 * (index - 7))),
        }
    }
    mix(&mut a, &mut b, &mut c);
    c
}

/// Object-name hash 1 (`linux` dcache), which only pools of before 2010 may have.
pub fn linux_name_hash(name: &[u8]) -> u32 {
    name.iter()
        .map(|&byte| u32::from(byte))
        .fold(0u32, |hash, byte| hash.wrapping_add(byte << 4).wrapping_add(byte >> 4).wrapping_mul(11))
}

/// Folds a hash into `0..count` such that growing `count` by one splits one bucket only. `count` 0 gives 0.
pub fn stable_mod(hash: u32, count: u32) -> u32 {
    if count == 0 {
        return 0;
    }
    // Smallest 2^k - 1 that covers count - 1.
    let mask = u32::MAX.checked_shr((count - 1).leading_zeros()).unwrap_or(0);
    if hash & mask < count { hash & mask } else { hash & (mask >> 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_mod_folds_into_range_and_splits_one_at_a_time() {
        for count in 1..70u32 {
            for hash in (0..4096u32).chain([u32::MAX, 0x8000_0000]) {
                let before = stable_mod(hash, count);
                assert!(before < count);
                let after = stable_mod(hash, count + 1);
                assert!(after == before || after == count, "{hash} {count}: {before} -> {after}");
            }
        }
        assert_eq!(stable_mod(7, 0), 0);
        assert_eq!(stable_mod(0xffff_ffff, 1), 0);
        assert_eq!(stable_mod(0xffff_ffff, u32::MAX), 0x7fff_ffff);
        assert_eq!(stable_mod(0xffff_fffe, u32::MAX), 0xffff_fffe);
    }
}
