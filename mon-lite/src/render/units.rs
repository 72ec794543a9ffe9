//! Numbers as people read them. Pure.

use wire::types::UTime;

const BINARY_UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
const DECIMAL_UNITS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
/// A size takes at most this many characters, unit included; decimals give way.
const WIDTH_MAX: usize = 7;

//= ceph 16.2 output: sizes are whole where they are exact, else have as many of two decimals as fit seven characters
/// A size in bytes, such as `8.1 GiB`.
pub fn bytes(value: u64) -> String {
    scaled(value, 1024, &BINARY_UNITS, " ")
}

/// A count, such as `1.25k`.
pub fn count(value: u64) -> String {
    scaled(value, 1000, &DECIMAL_UNITS, "")
}

fn scaled(value: u64, base: u64, units: &[&str; 7], space: &str) -> String {
    let mut unit = 0;
    let mut divisor = 1u64;
    while value / divisor >= base && unit + 1 < units.len() {
        divisor = divisor.saturating_mul(base);
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    if value.is_multiple_of(divisor) {
        return format!("{}{space}{name}", value / divisor);
    }
    let scaled = ratio(value, divisor);
    let with_decimals = |decimals: usize| format!("{scaled:.decimals$}{space}{name}");
    [2, 1]
        .into_iter()
        .map(with_decimals)
        .find(|text| text.len() <= WIDTH_MAX)
        .unwrap_or_else(|| with_decimals(0))
}

/// `value / divisor`; for display, so that rounding to 53 bits does no harm.
#[expect(clippy::cast_precision_loss, reason = "for display")]
fn ratio(value: u64, divisor: u64) -> f64 {
    value as f64 / divisor as f64
}

/// A CRUSH weight in 16.16 fixed point, as tables show it.
pub fn fixed_weight(weight: u32) -> String {
    format!("{:.5}", f64::from(weight) / 65536.0)
}

/// Time gone by, such as `25m`, in the largest unit of which there are at least two.
pub fn since(seconds: u64) -> String {
    //= ceph 16.2 output: the unit changes at 2 minutes, 2 hours, 2 days, 2 weeks, 90 days, 2 years
    const UNITS: [(u64, u64, &str); 6] = [
        (2 * 365 * 86400, 365 * 86400, "y"),
        (90 * 86400, 30 * 86400, "M"),
        (14 * 86400, 7 * 86400, "w"),
        (2 * 86400, 86400, "d"),
        (2 * 3600, 3600, "h"),
        (120, 60, "m"),
    ];
    UNITS
        .iter()
        .find(|(from, _, _)| seconds >= *from)
        .map_or_else(|| format!("{seconds}s"), |(_, unit, name)| format!("{}{name}", seconds / unit))
}

/// A point in time as Ceph prints it: `2026-11-21T04:50:23.312801+0000`; the unset one as `0.000000`.
pub fn timestamp(time: UTime) -> String {
    if time == UTime::default() { "0.000000".to_owned() } else { format!("{}+0000", civil(time)) }
}

/// The same with `Z`, as monitor maps have it.
pub fn timestamp_z(time: UTime) -> String {
    format!("{}Z", civil(time))
}

fn civil(time: UTime) -> String {
    let seconds = u64::from(time.seconds) + u64::from(time.nanoseconds) / 1_000_000_000;
    let (days, second) = (seconds / 86400, seconds % 86400);
    // Days since 0000-03-01 of the proleptic Gregorian calendar, whose years end with the leap day.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let micros = time.nanoseconds % 1_000_000_000 / 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{micros:06}", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_look_as_a_real_cluster_prints_them() {
        for (value, expected) in [
            (0, "0 B"),
            (35, "35 B"),
            (88_869, "87 KiB"),
            (172_032, "168 KiB"),
            (8192, "8 KiB"),
            (922_386_432, "880 MiB"),
            (18_404_966_400, "17 GiB"),
            (19_327_352_832, "18 GiB"),
            (8_717_172_736, "8.1 GiB"),
            (1_318_912, "1.3 MiB"),
            (10_720_000_000, "10 GiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(value), expected, "{value}");
        }
        for (value, expected) in [(41, "41"), (1000, "1k"), (1234, "1.23k"), (123_456, "123.46k")] {
            assert_eq!(count(value), expected, "{value}");
        }
    }

    #[test]
    fn times_look_as_a_real_cluster_prints_them() {
        let time = UTime { seconds: 1_795_236_623, nanoseconds: 312_801_999 };
        assert_eq!(timestamp(time), "2026-11-21T04:50:23.312801+0000");
        assert_eq!(timestamp_z(time), "2026-11-21T04:50:23.312801Z");
        assert_eq!(
            timestamp_z(UTime { seconds: 951_782_400, nanoseconds: 0 }),
            "2000-02-29T00:00:00.000000Z"
        );
        assert_eq!(timestamp(UTime::default()), "0.000000");
        for (seconds, expected) in [(7, "7s"), (119, "119s"), (1536, "25m"), (7300, "2h"), (200_000, "2d")] {
            assert_eq!(since(seconds), expected);
        }
    }
}
