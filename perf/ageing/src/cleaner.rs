//! [`Cleaner`]: what a store on a device with zones does before space runs out.
//!
//! It takes the zone with the most dead bytes, moves what is alive in it, and resets it. Moves and writes go into the same
//! zone: what the load frees is drawn at random, so what outlived a zone lives hardly longer than other data, and keeping them
//! apart would gain little.
//!
//! It always ends. Before it starts and after each zone a whole one is free, so what is alive in a zone can be moved; each
//! zone gives at least the block that was dead in it. That there is such a one follows from the reserve.

use allocator::limits::{OPEN_ZONES_MAX, UNIT_BLOCKS_MAX};
use allocator::{Extent, ZoneLayout, Zones};
use anyhow::{Context, bail, ensure};

use crate::held::Held;
use crate::upkeep::{Upkeep, request};

/// Open zones that devices with zones allow. Without a hint the allocator fills one after the other.
pub const OPEN_MAX: usize = 14;
/// Never in use: one zone is free to move into, the dead bytes of one cannot be won because it is open, and one is there that
/// there are dead bytes in others, however full the rest is.
pub const RESERVE_ZONES: u64 = 3;
/// With fewer the reserve would be too much of the device.
pub const ZONES_MIN: u64 = 16;
const MIB: u64 = 1 << 20;

const _: () = assert!(OPEN_MAX <= OPEN_ZONES_MAX);
const _: () = assert!(MIB.is_multiple_of(UNIT_BLOCKS_MAX * crate::BLOCK));
const _: () = assert!(ZONES_MIN > RESERVE_ZONES);

/// Zones of so many MiB on a device of so many bytes.
pub fn layout(capacity: u64, zone_mib: u64) -> anyhow::Result<ZoneLayout> {
    let zone_bytes = zone_mib * MIB;
    let zones = capacity / zone_bytes;
    ensure!(
        zones >= ZONES_MIN,
        "{zones} zones of {zone_mib} MiB are too few, {ZONES_MIN} are needed: see --zone"
    );
    Ok(ZoneLayout { zone_bytes, open_max: OPEN_MAX })
}

/// See the module.
pub struct Cleaner {
    zone_bytes: u64,
    moved: u64,
    /// Where a piece went; kept for its memory.
    to: Vec<Extent>,
}

impl Cleaner {
    pub fn new(layout: ZoneLayout) -> Self {
        Self { zone_bytes: layout.zone_bytes, moved: 0, to: Vec::new() }
    }

    /// Empties the zone that gives most.
    fn clean_one(&mut self, space: &mut impl Zones, held: &mut Held) -> anyhow::Result<()> {
        let Some(victim) = space.victim() else {
            bail!("no zone can be cleaned: nothing is dead outside those that are open")
        };
        let zone = space.zone(victim)?.extent;
        while let Some(piece) = held.remove_first_in(zone) {
            self.move_piece(space, held, piece)?;
        }
        space.reset(victim)?;
        Ok(())
    }

    /// Takes space elsewhere first, as a store does, which has to copy before it forgets.
    fn move_piece(&mut self, space: &mut impl Zones, held: &mut Held, piece: Extent) -> anyhow::Result<()> {
        let request = request(piece.len, space.block_size());
        space.allocate(&request, &mut self.to).context("no space to move what is alive in a zone")?;
        space.release(piece)?;
        self.to.drain(..).for_each(|extent| held.push(extent));
        self.moved += piece.len;
        Ok(())
    }
}

impl<A: Zones> Upkeep<A> for Cleaner {
    fn hold(&self) -> Held {
        Held::by_zone(self.zone_bytes)
    }

    fn reserve(&self) -> u64 {
        RESERVE_ZONES * self.zone_bytes
    }

    fn make_free(&mut self, space: &mut A, held: &mut Held, bytes: u64) -> anyhow::Result<()> {
        let wanted = bytes + self.zone_bytes;
        for _ in 0..=space.zones() {
            if space.free_bytes() >= wanted {
                return Ok(());
            }
            self.clean_one(space, held)?;
        }
        bail!("every zone was cleaned, and {} bytes are free where {wanted} are needed", space.free_bytes())
    }

    fn moved(&self) -> Option<u64> {
        Some(self.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BLOCK;
    use allocator::{Allocator, ZonedAllocator};

    const ZONE: u64 = MIB;

    fn empty(zones: u64) -> (ZonedAllocator, Cleaner, Held) {
        let layout = ZoneLayout { zone_bytes: ZONE, open_max: OPEN_MAX };
        let mut space = ZonedAllocator::new(zones * ZONE, BLOCK, layout);
        space.mark_free(Extent::new(0, space.capacity())).unwrap();
        (space, Cleaner::new(layout), Held::by_zone(ZONE))
    }

    fn take(space: &mut ZonedAllocator, held: &mut Held, bytes: u64) {
        let mut out = Vec::new();
        space.allocate(&request(bytes, BLOCK), &mut out).unwrap();
        out.into_iter().for_each(|extent| held.push(extent));
    }

    #[test]
    fn moves_what_is_alive_and_nothing_else() {
        let (mut space, mut cleaner, mut held) = empty(4);
        take(&mut space, &mut held, 3 * ZONE);
        let first = held.remove_first_in(Extent::new(0, ZONE)).unwrap();
        assert_eq!(first, Extent::new(0, ZONE), "one extent, held as a piece for each zone");
        space.release(Extent::new(0, ZONE - 2 * BLOCK)).unwrap();
        held.push(Extent::new(ZONE - 2 * BLOCK, 2 * BLOCK));
        cleaner.make_free(&mut space, &mut held, BLOCK).unwrap();
        assert_eq!(Upkeep::<ZonedAllocator>::moved(&cleaner), Some(2 * BLOCK));
        assert_eq!(held.joined(), [Extent::new(ZONE, 2 * ZONE + 2 * BLOCK)]);
        assert_eq!(held.joined(), space.used_extents());
        assert_eq!(space.free_bytes(), 2 * ZONE - 2 * BLOCK);
    }

    #[test]
    fn ends_where_nothing_can_be_won() {
        let (mut space, mut cleaner, mut held) = empty(4);
        take(&mut space, &mut held, 4 * ZONE - BLOCK);
        let refused = cleaner.make_free(&mut space, &mut held, BLOCK).unwrap_err();
        assert!(refused.to_string().contains("nothing is dead"), "{refused}");
        let piece = held.remove_first_in(Extent::new(0, ZONE)).unwrap();
        space.release(Extent::new(0, BLOCK)).unwrap();
        held.push(Extent::new(BLOCK, piece.len - BLOCK));
        let refused = cleaner.make_free(&mut space, &mut held, BLOCK).unwrap_err();
        assert!(refused.to_string().contains("no space to move"), "{refused}");
    }

    #[test]
    fn too_few_zones_are_refused() {
        assert_eq!(layout(1 << 30, 64).unwrap().zone_bytes, 64 * MIB);
        assert!(layout(1 << 30, 65).unwrap_err().to_string().contains("15 zones"));
    }
}
