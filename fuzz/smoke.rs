//! Fuzz entries under `cargo test`: on deterministic mutations of seeds, and on saved corpora. The tests of each crate
//! with a registry of entries take this file in by its path.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

/// An entry as the registries have it.
pub type Target = (&'static str, fn(&[u8]));

/// xorshift64*: the same mutations everywhere and for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

/// Runs every entry on its seeds, on noise and on `mutations` of both.
pub fn hold_on_mutations(targets: &[Target], mutations: usize, seeds: impl Fn(&str) -> Vec<Vec<u8>>) {
    for (index, (name, run)) in targets.iter().enumerate() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ index as u64);
        let mut seeds = seeds(name);
        seeds.push(vec![0; 64]);
        seeds.push((0..200).map(|_| random.byte()).collect());
        seeds.iter().for_each(|seed| run(seed));
        for round in 0..mutations {
            let input = mutate(&mut random, &seeds);
            let result = std::panic::catch_unwind(|| run(&input));
            assert!(result.is_ok(), "{name} breaks on mutation {round}: {input:02x?}");
        }
    }
}

/// Runs every entry on what earlier runs found, in `tests/corpus/NAME` of the crate at `crate_folder`.
pub fn hold_on_corpora(targets: &[Target], crate_folder: &str) {
    let names: std::collections::BTreeSet<_> = targets.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), targets.len(), "names are unique");
    for (name, run) in targets {
        let Ok(folder) = std::fs::read_dir(format!("{crate_folder}/tests/corpus/{name}")) else {
            continue;
        };
        for file in folder {
            run(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}

fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    const WORDS: [u32; 8] = [0, 1, 2, 0x7f, 0xff, 0x8000_0000, 0x7fff_ffff, 0xffff_ffff];
    let mut bytes = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(32)).min(bytes.len());
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.byte(),
            2 if at + 4 <= bytes.len() => {
                bytes[at..at + 4].copy_from_slice(&WORDS[random.below(8)].to_le_bytes());
            }
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at..end)),
            5 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let other = &seeds[random.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ => bytes.insert(at, random.byte()),
        }
    }
    bytes
}
