//! How keys of caches are hashed: with a seed that clients do not know where they choose the keys.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use twox_hash::XxHash3_64;

/// For byte strings.
#[derive(Clone, Copy)]
pub struct Seeded(pub u64);

/// For addresses, which are multiples of a block.
pub type Spread = BuildHasherDefault<Address>;

/// See [`Seeded`].
pub struct Text(u64);

/// See [`Spread`].
#[derive(Default)]
pub struct Address(u64);

impl BuildHasher for Seeded {
    type Hasher = Text;

    fn build_hasher(&self) -> Text {
        Text(self.0)
    }
}

impl Hasher for Text {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = XxHash3_64::oneshot_with_seed(self.0, bytes);
    }

    /// The length of a string, which its hash depends on already.
    fn write_usize(&mut self, _: usize) {}
}

impl Hasher for Address {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((self.0 << 8) ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // The product's upper half depends on all bits of the address; the index looks at both ends of the hash.
        let product = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}
