//! The device at the points of a log of writes at which power may have gone: at every flush, and at cuts between flushes
//! with a random part of what was not flushed. Pure but for reading the log.
//!
//! The kernel logs a write once a flush that was sent after the write's completion has completed, so the log is a list
//! of groups: writes, then the flush that made them durable. Entries up to a flush are there whatever happens; of the
//! writes after it any part may be. Marks are logged when they are made: a mark behind a flush was made after it, and
//! before the writes behind the mark became durable.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use nvme::Image;
use rt::sim::RandomStream;

use crate::history::{Floor, History};
use crate::log::{Entry, Kind, Log};
use crate::mark::Mark;

/// The event that the cluster was made: from then on its device must open.
pub const MADE: &str = "made";
/// The kernel's last mark, when the device is taken down in order.
const END: &str = "dm-log-writes-end";

/// When power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// After this flush (a place in the log), before anything later is durable.
    Flush(usize),
    /// The cut of this number: after a random write, with a random part of those since the last flush.
    Cut(u64),
}

/// The device then, and what must be on it.
pub struct Case {
    /// When.
    pub point: Point,
    /// The device.
    pub image: Image,
    /// What was told to somebody.
    pub floor: Floor,
    /// The cluster was made.
    pub made: bool,
}

/// A log with its cuts.
pub struct Replay<'a> {
    log: &'a Log,
    history: &'a History,
    options: Options,
    /// Cuts after each place.
    cuts: BTreeMap<usize, Vec<u64>>,
}

/// How to cut.
#[derive(Clone, Copy)]
pub struct Options {
    /// Of the cuts.
    pub seed: u64,
    /// Number of cuts.
    pub cuts: u64,
    /// Bytes that are written whole or not at all.
    pub unit: u64,
}

impl<'a> Replay<'a> {
    /// Chooses the cuts.
    pub fn new(log: &'a Log, history: &'a History, options: Options) -> anyhow::Result<Self> {
        let loose: Vec<usize> = (0..log.entries.len()).filter(|at| is_loose(&log.entries[*at])).collect();
        ensure!(!loose.is_empty(), "the log has no writes");
        let mut cuts: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
        let mut dice = RandomStream::new(options.seed, "places of cuts");
        for cut in 0..options.cuts {
            let at = usize::try_from(dice.below(loose.len() as u64))?;
            cuts.entry(loose[at]).or_default().push(cut);
        }
        Ok(Self { log, history, options, cuts })
    }

    /// Gives every point that is wanted to `check`, in the order of the log, until it says to stop.
    pub fn walk(
        &self,
        wanted: impl Fn(Point) -> bool,
        mut check: impl FnMut(Case) -> bool,
    ) -> anyhow::Result<()> {
        let submitted = submitted_from(&self.log.entries);
        let mut image = Image::new();
        let mut floor = self.history.floor();
        let mut made = false;
        // Writes since the last flush.
        let mut loose: Vec<&Entry> = Vec::new();
        // A flush whose marks are still to be read.
        let mut flushed = None;
        for (at, entry) in self.log.entries.iter().enumerate() {
            if let Kind::Mark(text) = &entry.kind {
                match Mark::parse(text) {
                    Some(Mark::Answered { requests, .. }) => floor.answered(self.history, &requests),
                    Some(Mark::Event(name)) => made |= name == MADE,
                    None => ensure!(text == END, "a mark that nobody made: {text}"),
                }
                continue;
            }
            let here = |point, image: &Image| Case {
                point,
                image: image.clone(),
                floor: floor.with_submitted(submitted[at]),
                made,
            };
            if let Some(point) = flushed.take().filter(|point| wanted(*point))
                && !check(here(point, &image))
            {
                return Ok(());
            }
            if entry.flush {
                for write in loose.drain(..).chain([entry]) {
                    self.store(write, &mut image, |_| true)?;
                }
                flushed = Some(Point::Flush(at));
                continue;
            }
            loose.push(entry);
            for cut in self.cuts.get(&at).into_iter().flatten().copied() {
                let point = Point::Cut(cut);
                if wanted(point) && !check(here(point, &self.torn(cut, &loose, &image)?)) {
                    return Ok(());
                }
            }
        }
        if let Some(point) = flushed.filter(|point| wanted(*point)) {
            let floor = floor.with_submitted(u64::MAX);
            check(Case { point, image, floor, made });
        }
        Ok(())
    }

    /// The durable image with a random part of the loose writes.
    fn torn(&self, cut: u64, loose: &[&Entry], durable: &Image) -> anyhow::Result<Image> {
        let mut dice = RandomStream::new(self.options.seed, &format!("cut {cut}"));
        let mut image = durable.clone();
        // Chances out of 16 that a write is lost, and that it is torn: all alike, nearly all kept, nearly all lost.
        let (lost, torn) = [(5, 5), (1, 1), (14, 1)][usize::try_from(dice.below(3))?];
        for write in loose {
            let draw = dice.below(16);
            if draw < lost {
                continue;
            }
            let is_torn = draw < lost + torn;
            let (from, len) = (dice.below(64), 1 + dice.below(64));
            let scattered = dice.one_in(2);
            self.store(write, &mut image, |unit| {
                !is_torn || if scattered { dice.one_in(2) } else { (from..from + len).contains(&(unit % 64)) }
            })?;
        }
        Ok(image)
    }

    /// Stores those units of a write that are to be kept; a discard leaves zeroes.
    fn store(
        &self,
        entry: &Entry,
        image: &mut Image,
        mut keep: impl FnMut(u64) -> bool,
    ) -> anyhow::Result<()> {
        let unit = self.options.unit;
        match entry.kind {
            Kind::Write { at, len } => {
                let data = self.log.data(at, len).context("the log ends in the middle of a write")?;
                for (number, piece) in (0..).zip(data.chunks(usize::try_from(unit)?)) {
                    if keep(number) {
                        image.write(entry.offset + number * unit, piece);
                    }
                }
            }
            Kind::Discard { len } => image.clear(entry.offset, len),
            Kind::Mark(_) => {}
        }
        Ok(())
    }
}

/// Points at which something becomes durable.
pub fn flush_points(log: &Log) -> u64 {
    log.entries.iter().filter(|entry| entry.flush).count() as u64
}

/// Requests that were sent when the load ended. An error if the log is not whole.
pub fn requests(log: &Log) -> anyhow::Result<u64> {
    let last = log.entries.last().map(|entry| &entry.kind);
    ensure!(
        last == Some(&Kind::Mark(END.to_owned())),
        "the log does not end as the kernel ends one: it is cut off"
    );
    Ok(submitted_from(&log.entries).iter().copied().filter(|count| *count < u64::MAX).max().unwrap_or(0))
}

/// The kernel keeps a write back until a flush, unless it is one.
fn is_loose(entry: &Entry) -> bool {
    !entry.flush && matches!(entry.kind, Kind::Write { .. } | Kind::Discard { .. })
}

/// For each place, requests that may have been sent by then: those that the next mark knows of.
fn submitted_from(entries: &[Entry]) -> Vec<u64> {
    let mut known = u64::MAX;
    let mut all = vec![known; entries.len()];
    for (place, entry) in all.iter_mut().zip(entries).rev() {
        if let Kind::Mark(text) = &entry.kind
            && let Some(Mark::Answered { submitted, .. }) = Mark::parse(text)
        {
            known = submitted;
        }
        *place = known;
    }
    all
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flush(at) => write!(f, "flush:{at}"),
            Self::Cut(cut) => write!(f, "cut:{cut}"),
        }
    }
}

impl std::str::FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let point = match text.split_once(':') {
            Some(("flush", at)) => at.parse().ok().map(Self::Flush),
            Some(("cut", cut)) => cut.parse().ok().map(Self::Cut),
            _ => None,
        };
        point.ok_or_else(|| format!("'{text}' is no point: write flush:NUMBER or cut:NUMBER"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::ABSENT;

    const SECTOR: u64 = 512;

    fn write(at: u64, byte: u8) -> (Entry, Vec<u8>) {
        let kind = Kind::Write { at: 0, len: 2 * SECTOR };
        (Entry { offset: at * SECTOR, kind, flush: false }, vec![byte; 2 * SECTOR as usize])
    }

    fn flush() -> (Entry, Vec<u8>) {
        (Entry { offset: 0, kind: Kind::Write { at: 0, len: 0 }, flush: true }, vec![])
    }

    fn mark(text: &str) -> (Entry, Vec<u8>) {
        (Entry { offset: 0, kind: Kind::Mark(text.to_owned()), flush: false }, vec![])
    }

    fn log(entries: &[(Entry, Vec<u8>)]) -> Log {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), crate::log::encode(SECTOR as usize, entries)).unwrap();
        Log::open(file.path()).unwrap()
    }

    fn byte(image: &Image, sector: u64) -> u8 {
        let mut byte = [0];
        image.read(sector * SECTOR, &mut byte);
        byte[0]
    }

    #[test]
    fn a_flush_makes_what_is_before_it_durable_and_marks_behind_it_count() {
        let log = log(&[
            write(0, 1),
            flush(),
            mark("e:made"),
            mark("a:20:0,1,2,3,4,5,6,7,8,9,"),
            write(2, 2),
            write(0, 3),
            flush(),
            mark("a:30:"),
            mark(END),
        ]);
        assert_eq!((flush_points(&log), requests(&log).unwrap()), (2, 30));
        let history = History::new(1, 30);
        let options = Options { seed: 1, cuts: 0, unit: SECTOR };
        let replay = Replay::new(&log, &history, options).unwrap();
        let mut cases = Vec::new();
        let walked = replay.walk(
            |_| true,
            |case| {
                cases.push(case);
                true
            },
        );
        walked.unwrap();
        let seen: Vec<_> =
            cases.iter().map(|c| (c.point, byte(&c.image, 0), byte(&c.image, 2), c.made)).collect();
        assert_eq!(seen, [(Point::Flush(1), 1, 0, true), (Point::Flush(6), 3, 2, true)]);
        // Nothing of the load is on these devices, although ten requests were answered.
        let nothing = std::collections::BTreeMap::from([(b"o-0000".to_vec(), ABSENT)]);
        assert!(!history.judge(&cases[0].floor, &nothing).is_empty());
    }

    #[test]
    fn cuts_lose_keep_and_tear_only_what_was_not_flushed() {
        let mut entries = vec![write(0, 1), flush(), mark("a:0:")];
        entries.extend((1..40).map(|at| write(2 * at, 2)));
        entries.extend([flush(), mark(END)]);
        let log = log(&entries);
        let history = History::new(1, 0);
        let options = Options { seed: 7, cuts: 200, unit: SECTOR };
        let replay = Replay::new(&log, &history, options).unwrap();
        let (mut kept, mut lost, mut torn) = (0, 0, 0);
        let mut at_zero = 0;
        let all = |point| matches!(point, Point::Cut(_));
        let look = |case: Case| {
            at_zero += u32::from(byte(&case.image, 0) == 1);
            for at in 1..40 {
                match (byte(&case.image, 2 * at), byte(&case.image, 2 * at + 1)) {
                    (2, 2) => kept += 1,
                    (0, 0) => lost += 1,
                    _ => torn += 1,
                }
            }
            true
        };
        replay.walk(all, look).unwrap();
        assert!(at_zero >= 190, "all cuts but those before the first flush: {at_zero}");
        assert!(kept > 100 && lost > 100 && torn > 10, "{kept} kept, {lost} lost, {torn} torn");
    }

    #[test]
    fn a_log_that_was_cut_off_is_refused() {
        assert!(requests(&log(&[write(0, 1), flush()])).is_err());
    }
}
