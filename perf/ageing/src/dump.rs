//! [`FreeDump`]: the free space of a BlueStore, as `ceph-bluestore-tool free-dump` writes it.

use std::fmt;
use std::fs;
use std::path::Path;

use allocator::limits::{BLOCK_BYTES_MIN, BLOCKS_MAX};
use allocator::{Allocator, Extent};
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

/// See the module.
#[derive(Debug, Deserialize)]
pub struct FreeDump {
    /// Bytes; newer versions leave it out if nothing is known of it.
    #[serde(default)]
    pub capacity: u64,
    /// Bytes.
    #[serde(default = "unit_default")]
    pub alloc_unit: u64,
    extents: Vec<Free>,
}

#[derive(Debug, Deserialize)]
struct Free {
    #[serde(deserialize_with = "number")]
    offset: u64,
    #[serde(deserialize_with = "number")]
    length: u64,
}

fn unit_default() -> u64 {
    4096
}

impl FreeDump {
    /// Reads a file. Before the JSON there may be a line that names the allocator.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is not what free-dump writes", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some(start) = text.find('{') else { bail!("there is no JSON object in it") };
        // After the first device's there may be that of another.
        let mut all = serde_json::Deserializer::from_str(&text[start..]).into_iter();
        let mut dump: Self = all.next().context("there is no JSON object in it")??;
        if dump.capacity == 0 {
            dump.capacity =
                dump.extents.iter().map(|free| free.offset.saturating_add(free.length)).max().unwrap_or(0);
        }
        let unit = dump.alloc_unit;
        ensure!(unit.is_power_of_two() && unit >= BLOCK_BYTES_MIN, "its allocation unit is {unit} bytes");
        dump.capacity -= dump.capacity % unit;
        ensure!(
            (1..=BLOCKS_MAX).contains(&(dump.capacity / unit)),
            "a device of {} bytes in units of {unit} is too small or too large",
            dump.capacity
        );
        Ok(dump)
    }

    /// Frees what was free.
    pub fn free_in(&self, space: &mut impl Allocator) -> anyhow::Result<()> {
        for Free { offset, length } in &self.extents {
            // The last bytes of a device may be less than a unit.
            let len =
                (*length).min(self.capacity.saturating_sub(*offset)) / self.alloc_unit * self.alloc_unit;
            if len == 0 {
                continue;
            }
            space
                .mark_free(Extent::new(*offset, len))
                .with_context(|| format!("free space at {offset:#x}"))?;
        }
        Ok(())
    }
}

/// A number, or one in a string: "0x1000" or "4096".
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Number;

    impl Visitor<'_> for Number {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number, or a string such as \"0x1000\"")
        }

        fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
            Ok(value)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            let parsed = match text.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16),
                None => text.parse(),
            };
            parsed.map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }

    deserializer.deserialize_any(Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use allocator::BitmapAllocator;

    /// As Ceph 16.2.15 prints it.
    const DUMP: &str = r#"block:
{
    "capacity": 40960,
    "alloc_unit": 4096,
    "alloc_type": "hybrid",
    "alloc_name": "block",
    "extents": [
        { "offset": "0x1000", "length": "0x2000" },
        { "offset": "0x8000", "length": "0x2000" }
    ]
}
"#;

    #[test]
    fn what_was_free_is_free() -> anyhow::Result<()> {
        let dump = FreeDump::parse(DUMP)?;
        let mut space = BitmapAllocator::new(dump.capacity, dump.alloc_unit);
        dump.free_in(&mut space)?;
        assert_eq!(space.free_extents(), [Extent::new(0x1000, 0x2000), Extent::new(0x8000, 0x2000)]);
        Ok(())
    }

    #[test]
    fn nonsense_is_refused() -> anyhow::Result<()> {
        let wrong =
            |text: &str| FreeDump::parse(text).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(wrong("block:").contains("no JSON"));
        assert!(wrong(&DUMP.replace("4096,", "5000,")).contains("unit is 5000"));
        assert!(wrong(&DUMP.replace("0x1000", "here")).contains("0x1000"), "an example is given");
        let twice = FreeDump::parse(&DUMP.replace("0x8000", "0x2000"))?;
        let mut space = BitmapAllocator::new(twice.capacity, twice.alloc_unit);
        assert!(twice.free_in(&mut space).is_err());
        Ok(())
    }
}
