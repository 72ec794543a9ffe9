//! What the flags of an op say of how its data is used, as the store understands it.

use store::{AccessHints, Keep, Pattern};
use wire::msg::OpFlags;

/// Of one op.
pub fn of(flags: OpFlags) -> AccessHints {
    let has = |flag| flags.contains(flag);
    let keep = match has(OpFlags::FADVISE_WILL_NEED) {
        true => Keep::Long,
        false if has(OpFlags::FADVISE_DONT_NEED) || has(OpFlags::FADVISE_NO_CACHE) => Keep::Not,
        false => Keep::Usual,
    };
    let pattern = match has(OpFlags::FADVISE_SEQUENTIAL) {
        true => Pattern::Sequential,
        false if has(OpFlags::FADVISE_RANDOM) => Pattern::Random,
        false => Pattern::Unknown,
    };
    AccessHints { keep, pattern, verifies: has(OpFlags::BYPASS_CLEAN_CACHE) }
}

/// Of what several ops of one request write: it is kept if any of them will need it.
pub fn together(one: Keep, other: Keep) -> Keep {
    match (one, other) {
        (Keep::Long, _) | (_, Keep::Long) => Keep::Long,
        (Keep::Not, _) | (_, Keep::Not) => Keep::Not,
        _ => Keep::Usual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_hints() {
        let check = |flags, keep, pattern| {
            assert_eq!(of(OpFlags(flags)), AccessHints { keep, pattern, verifies: false }, "{flags:#x}");
        };
        check(0, Keep::Usual, Pattern::Unknown);
        check(3, Keep::Usual, Pattern::Unknown);
        check(4, Keep::Usual, Pattern::Random);
        check(8 | 0x20, Keep::Not, Pattern::Sequential);
        check(0x40, Keep::Not, Pattern::Unknown);
        check(0x10 | 0x40, Keep::Long, Pattern::Unknown);
        assert!(of(OpFlags(0x100)).verifies);
        assert_eq!(together(Keep::Not, Keep::Usual), Keep::Not);
        assert_eq!(together(Keep::Not, Keep::Long), Keep::Long);
        assert_eq!(together(Keep::Usual, Keep::Usual), Keep::Usual);
    }
}
