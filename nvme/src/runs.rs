//! [`Runs`]: where the bytes of a window are on the device below. One run, or several if the window has grown and what lay
//! behind it was another's.

use crate::check;
use crate::device::{DeviceError, DeviceResult, Geometry};

/// See the module. It grows at its end and is never cut, so no place in it ever moves.
#[derive(Clone, Debug)]
pub(crate) struct Runs(Vec<Run>);

#[derive(Clone, Copy, Debug)]
struct Run {
    /// Where it begins on the device below, bytes.
    start: u64,
    /// Where it begins in the window, bytes.
    offset: u64,
    len: u64,
}

impl Runs {
    /// The runs of a window: starts and lengths on the device below, which must be on it and aligned to its blocks. At least
    /// one.
    pub fn new(
        geometry: &Geometry,
        size: u64,
        name: &str,
        runs: impl IntoIterator<Item = (u64, u64)>,
    ) -> DeviceResult<Self> {
        let bounds = check::Bounds { size, block_size: geometry.block_size };
        let mut all: Vec<Run> = Vec::new();
        let mut offset = 0;
        for (start, len) in runs {
            check::range("partition", bounds, name, start, len)?;
            match all.last_mut().filter(|last| last.start + last.len == start) {
                Some(last) => last.len += len,
                None => all.push(Run { start, offset, len }),
            }
            offset += len;
        }
        assert!(!all.is_empty(), "a window of {name} without bytes");
        Ok(Self(all))
    }

    /// Bytes of the window.
    pub fn len(&self) -> u64 {
        self.0.last().map_or(0, |last| last.offset + last.len)
    }

    /// Where its first byte is.
    pub fn start(&self) -> u64 {
        self.0.first().map_or(0, |first| first.start)
    }

    /// Takes over what the window has become: the same, and more. An error if it is something else.
    pub fn grow(&mut self, name: &str, more: Self) -> DeviceResult<()> {
        let keeps = self
            .0
            .iter()
            .zip(&more.0)
            .all(|(old, new)| (old.start, old.offset) == (new.start, new.offset) && old.len <= new.len);
        let last = self.0.len().checked_sub(1).and_then(|last| more.0.get(last));
        let is_longer_only_at_its_end =
            self.0.iter().zip(&more.0).rev().skip(1).all(|(old, new)| old.len == new.len);
        if !(keeps && last.is_some() && is_longer_only_at_its_end) {
            return Err(DeviceError::Io {
                op: "growth",
                offset: more.start(),
                len: more.len(),
                device: name.to_owned(),
                reason: format!(
                    "a window grows at its end, and this one would be {more:?} instead of {self:?}"
                ),
            });
        }
        *self = more;
        Ok(())
    }

    /// Where a range of the window, which is within it, is below; none if that is in several pieces.
    pub fn place(&self, offset: u64, len: u64) -> Option<u64> {
        let run = self.0.iter().find(|run| offset < run.offset + run.len)?;
        (offset + len <= run.offset + run.len).then(|| run.start + (offset - run.offset))
    }

    /// The pieces of a range of the window, which is within it: where each begins below, and its length.
    pub fn pieces(&self, offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = self.0.partition_point(|run| run.offset + run.len <= offset);
        let end = offset + len;
        self.0[first..].iter().take_while(move |run| run.offset < end).map(move |run| {
            let (from, to) = (offset.max(run.offset), end.min(run.offset + run.len));
            (run.start + (from - run.offset), to - from)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryDevice;

    fn runs(list: &[(u64, u64)]) -> Runs {
        let geometry = MemoryDevice::default_geometry(100 * 4096);
        let bytes = list.iter().map(|(start, len)| (start * 4096, len * 4096));
        Runs::new(&geometry, geometry.size, "device", bytes).expect("on the device")
    }

    #[test]
    fn ranges_are_cut_at_the_ends_of_runs() {
        let runs = runs(&[(10, 4), (14, 2), (50, 3), (70, 1)]);
        assert_eq!((runs.len(), runs.start()), (10 * 4096, 10 * 4096));
        let pieces = |offset: u64, len: u64| {
            runs.pieces(offset * 4096, len * 4096)
                .map(|(at, len)| (at / 4096, len / 4096))
                .collect::<Vec<_>>()
        };
        assert_eq!(pieces(0, 6), [(10, 6)]);
        let place = |offset: u64, len: u64| runs.place(offset * 4096, len * 4096).map(|at| at / 4096);
        assert_eq!(
            (place(0, 6), place(5, 1), place(7, 2), place(9, 1)),
            (Some(10), Some(15), Some(51), Some(70))
        );
        assert_eq!((place(5, 2), place(6, 4)), (None, None));
        assert_eq!(pieces(5, 1), [(15, 1)]);
        assert_eq!(pieces(6, 3), [(50, 3)]);
        assert_eq!(pieces(5, 5), [(15, 1), (50, 3), (70, 1)]);
    }

    #[test]
    fn what_is_not_on_the_device_is_no_run() {
        let geometry = MemoryDevice::default_geometry(100 * 4096);
        for (start, len) in [(99 * 4096, 8192), (100, 4096), (0, 0)] {
            assert!(Runs::new(&geometry, geometry.size, "device", [(start, len)]).is_err());
        }
    }

    #[test]
    fn a_window_grows_at_its_end() {
        let mut window = runs(&[(10, 4)]);
        for more in [&[(10, 6)][..], &[(10, 6), (50, 2)], &[(10, 6), (50, 3)]] {
            window.grow("device", runs(more)).expect("more at its end");
        }
        assert_eq!(window.len(), 9 * 4096);
    }

    #[test]
    fn nothing_in_a_window_moves() {
        let mut window = runs(&[(10, 4), (50, 2)]);
        for other in [&[(10, 5), (50, 2)][..], &[(10, 4), (50, 1)], &[(10, 4)], &[(11, 4), (50, 2)]] {
            let error = window.grow("device", runs(other)).expect_err("it is another window");
            assert!(error.to_string().contains("grows at its end"), "{error}");
        }
        assert_eq!(window.len(), 6 * 4096);
    }
}
