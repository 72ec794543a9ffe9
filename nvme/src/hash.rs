//! [`RunningHash`]: one number for everything that went to a device, to tell two runs of one seed apart. Pure.
//!
//! Not cryptographic, and not kept on disk: it may change between versions.

/// Hash of a sequence of words and byte strings, order and lengths included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningHash(u64);

impl RunningHash {
    pub fn new() -> Self {
        Self(0x9ae1_6a3b_2f90_404f)
    }

    pub fn word(&mut self, word: u64) {
        let mixed = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        // The addition keeps a zero from swallowing what came before it.
        self.0 = (mixed as u64) ^ ((mixed >> 64) as u64).wrapping_add(self.0.rotate_left(29));
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    pub fn value(&self) -> u64 {
        self.0
    }
}
