//! `osd pool set|set-quota`: settings of a pool.
//!
//! What would change where data is, or how many copies there are, is refused with the reason.

use wire::osdmap::PoolFlags;

use super::pool::{no_autoscaling, one_copy_only, rule_named};
use super::pool_options;
use super::refused::moves_data;
use super::shared::{edit_pool, named_pool};
use crate::commands::{Argument, Command, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::view::View;
use wire::Errno;

const POOL: Argument = Argument::new("pool", Kind::PoolName);
const SURE: Argument = Argument::new("yes_i_really_mean_it", Kind::Bool).optional();
const VALUE: Argument = Argument::new("val", Kind::String);
const VAR: Argument = Argument::choice(
    "var",
    "size|min_size|pg_num|pgp_num|crush_rule|hashpspool|nodelete|nopgchange|nosizechange|write_fadvise_dontneed|\
     noscrub|nodeep-scrub|fast_read|pg_autoscale_mode|bulk|scrub_min_interval|scrub_max_interval|\
     deep_scrub_interval|recovery_priority|recovery_op_priority|scrub_priority|compression_mode|\
     compression_algorithm|compression_required_ratio|compression_max_blob_size|compression_min_blob_size|csum_type|\
     csum_max_block|csum_min_block|fingerprint_algorithm|pg_num_min|target_size_bytes|target_size_ratio|\
     pg_autoscale_bias|dedup_tier|dedup_chunk_algorithm|dedup_cdc_chunk_size",
);
const FIELD: Argument = Argument::choice("field", "max_objects|max_bytes");

pub const COMMANDS: &[Command] = &[
    Command::write("osd pool set", Module::Osd, &[POOL, VAR, VALUE, SURE], "change a setting of a pool", set),
    Command::write(
        "osd pool set-quota",
        Module::Osd,
        &[POOL, FIELD, VALUE],
        "limit a pool; 0 for no limit",
        set_quota,
    ),
];

const FLAGS: [(&str, PoolFlags); 6] = [
    ("nodelete", PoolFlags::NODELETE),
    ("nopgchange", PoolFlags::NOPGCHANGE),
    ("nosizechange", PoolFlags::NOSIZECHANGE),
    ("write_fadvise_dontneed", PoolFlags::WRITE_FADVISE_DONTNEED),
    ("noscrub", PoolFlags::NOSCRUB),
    ("nodeep-scrub", PoolFlags::NODEEP_SCRUB),
];

fn set(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let (id, pool) = named_pool(map, request, "pool")?;
    let (var, val) = (request.need_text("var")?, request.need_text("val")?);
    let done = format!("set pool {id} {var} to {val}");
    let whole = || {
        val.parse::<i64>().map_err(|_| Refusal::new(Errno::EINVAL, format!("'{val}' is not a whole number")))
    };
    if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| *name == var) {
        let on = parse_flag(&val)?;
        let changes = edit_pool(view, id, |pool| {
            pool.flags = if on { pool.flags.with(*flag) } else { pool.flags.without(*flag) };
            Ok(())
        })?;
        return Ok(Outcome::commit(changes, done));
    }
    // Each of these either is so already or cannot be had.
    let as_it_is = match var.as_str() {
        "size" if whole()? != 1 => return Err(one_copy_only(whole()?)),
        "min_size" if whole()? != 1 => {
            return Err(Refusal::new(Errno::EINVAL, "min_size must be 1 as long as a pool has one copy"));
        }
        "pg_num" if whole()? != i64::from(pool.pg_num) => {
            return Err(moves_data("changing pg_num of a pool"));
        }
        "pgp_num" if whole()? != i64::from(pool.pgp_num) => {
            return Err(moves_data("changing pgp_num of a pool"));
        }
        "pg_autoscale_mode" if val != "off" => return Err(no_autoscaling(&val)),
        "crush_rule" if rule_named(map, &val)? != pool.crush_rule => {
            return Err(moves_data("giving a pool another CRUSH rule"));
        }
        "hashpspool" if !parse_flag(&val)? => return Err(moves_data("clearing hashpspool of a pool")),
        "bulk" if parse_flag(&val)? => return Err(no_autoscaling("bulk")),
        "fast_read" if parse_flag(&val)? => {
            return Err(Refusal::new(Errno::EINVAL, "fast_read is a setting of erasure-coded pools only"));
        }
        "size" | "min_size" | "pg_num" | "pgp_num" | "pg_autoscale_mode" | "crush_rule" | "hashpspool"
        | "bulk" | "fast_read" => true,
        _ => false,
    };
    if as_it_is {
        return Ok(Reply::status(done).into());
    }
    let unknown = || Refusal::new(Errno::EINVAL, format!("unrecognized variable '{var}'"));
    let (key, kind) = pool_options::key_of(&var).ok_or_else(unknown)?;
    let bad = || {
        Refusal::new(
            Errno::EINVAL,
            format!("'{val}' is not a value of {var}: expected {}", pool_options::describe(kind)),
        )
    };
    if val == "unset" {
        let changes = edit_pool(view, id, |pool| {
            pool.options.remove(&key);
            Ok(())
        })?;
        return Ok(Outcome::commit(changes, format!("unset pool {id} {var}")));
    }
    let option = pool_options::parse(kind, &val).ok_or_else(bad)?;
    let changes = edit_pool(view, id, |pool| {
        if pool_options::unsets(&option) {
            pool.options.remove(&key);
        } else {
            pool.options.insert(key, option);
        }
        Ok(())
    })?;
    Ok(Outcome::commit(changes, done))
}

fn parse_flag(value: &str) -> Result<bool, Refusal> {
    match value {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        other => Err(Refusal::new(Errno::EINVAL, format!("'{other}' is neither true nor false"))),
    }
}

fn set_quota(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (id, _) = named_pool(view.osd_map(), request, "pool")?;
    let (name, field, val) =
        (request.need_text("pool")?, request.need_text("field")?, request.need_text("val")?);
    let bad = || Refusal::new(Errno::EINVAL, format!("'{val}' is not a size such as 100, 10K or 4G"));
    let limit = match field.as_str() {
        "max_bytes" => parse_size(&val, 1024).ok_or_else(bad)?,
        "max_objects" => parse_size(&val, 1000).ok_or_else(bad)?,
        other => return Err(Refusal::new(Errno::EINVAL, format!("unrecognized variable '{other}'"))),
    };
    let changes = edit_pool(view, id, |pool| {
        if field == "max_bytes" {
            pool.quota_max_bytes = limit;
        } else {
            pool.quota_max_objects = limit;
        }
        Ok(())
    })?;
    Ok(Outcome::commit(changes, format!("set-quota {field} = {limit} for pool {name}")))
}

/// A number with a unit: `10`, `10K`, `4 GiB`.
fn parse_size(text: &str, base: u64) -> Option<u64> {
    let digits = text.trim().trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).trim_end();
    let unit = text.trim().strip_prefix(digits)?.trim().to_ascii_uppercase();
    let power = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        "P" => 5,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(base.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("10", Some(10)),
            ("10K", Some(10 << 10)),
            ("4 GiB", Some(4 << 30)),
            ("1MB", Some(1 << 20)),
            ("x", None),
            ("-1", None),
            ("1.5G", None),
            ("99999999P", None),
        ] {
            assert_eq!(parse_size(text, 1024), expected, "{text}");
        }
    }
}
