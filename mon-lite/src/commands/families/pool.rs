//! `osd pool create|rename|rm|mksnap|rmsnap`: the life of a pool, also by the messages of librados.

use wire::osdmap::{OsdMap, Pool, PoolFlags, SnapshotError};
use wire::types::PoolId;

use super::shared::{edit, named_pool};
use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::limits::{PG_NUM_MAX, POOL_NAME_BYTES_MAX, POOLS_MAX};
use crate::options::{self, ALLOW_POOL_DELETE, MAX_PG_PER_OSD, POOL_PG_NUM};
use crate::state::Change;
use crate::view::View;
use wire::Errno;

const POOL: Argument = Argument::new("pool", Kind::PoolName);
const POOL_AGAIN: Argument = Argument::new("pool2", Kind::PoolName).optional();
const SURE: Argument = Argument::new("yes_i_really_really_mean_it", Kind::Bool).optional();
const SNAP: Argument = Argument::new("snap", Kind::String);

const fn count(name: &'static str) -> Argument {
    Argument::new(name, Kind::Int).optional().range("0")
}

const fn write(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::write(prefix, Module::Osd, arguments, help, handler)
}

const CREATE: &[Argument] = &[
    POOL,
    count("pg_num"),
    count("pgp_num"),
    Argument::choice("pool_type", "replicated|erasure").optional(),
    Argument::new("erasure_code_profile", Kind::String).optional().chars("[A-Za-z0-9-_.]"),
    Argument::new("rule", Kind::String).optional(),
    count("expected_num_objects"),
    count("size"),
    count("pg_num_min"),
    count("pg_num_max"),
    Argument::choice("autoscale_mode", "on|off|warn").optional(),
];

pub const COMMANDS: &[Command] = &[
    write("osd pool create", CREATE, "make a pool", create),
    write(
        "osd pool rename",
        &[Argument::new("srcpool", Kind::PoolName), Argument::new("destpool", Kind::PoolName)],
        "give a pool another name",
        rename,
    ),
    write("osd pool rm", &[POOL, POOL_AGAIN, SURE], "delete a pool and all it holds", remove),
    write("osd pool delete", &[POOL, POOL_AGAIN, SURE], "delete a pool and all it holds", remove),
    write("osd pool mksnap", &[POOL, SNAP], "not offered yet: take a snapshot of a pool", mksnap),
    write("osd pool rmsnap", &[POOL, SNAP], "remove a snapshot of a pool", rmsnap),
];

/// What a new pool shall be.
#[derive(Clone, Debug, Default)]
pub struct NewPool {
    /// Name.
    pub name: String,
    /// PGs; the default if absent.
    pub pg_num: Option<u32>,
    /// Number of the CRUSH rule; the first if absent.
    pub crush_rule: Option<u8>,
    /// Objects that are expected.
    pub expected_num_objects: u64,
    /// 0 off, 1 warn, 2 on.
    pub autoscale_mode: u8,
}

fn create(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let name = request.need_text("pool")?;
    if map.pool_id(&name).is_some() {
        return Ok(Reply::status(format!("pool '{name}' already exists")).into());
    }
    // The fourth argument may be the rule or profile when the type is left out; only replicated pools exist.
    if request.text("pool_type")?.is_some_and(|kind| kind == "erasure") {
        let text = "erasure-coded pools are not offered yet, only pools of type replicated";
        return Err(Refusal::new(Errno::EOPNOTSUPP, text));
    }
    let rule = request.text("rule")?.or(request.text("erasure_code_profile")?);
    let crush_rule = rule.map(|rule| rule_named(map, &rule)).transpose()?;
    let pg_num = request.int("pg_num")?.filter(|number| *number != 0).map(pg_count).transpose()?;
    let pgp_num = request.int("pgp_num")?.filter(|number| *number != 0).map(pg_count).transpose()?;
    if pgp_num.is_some_and(|pgp_num| Some(pgp_num) != pg_num) {
        return Err(Refusal::new(Errno::EINVAL, "pgp_num must be the same as pg_num"));
    }
    if let Some(size) = request.int("size")?.filter(|size| *size > 1) {
        return Err(one_copy_only(size));
    }
    let autoscale_mode = match request.text("autoscale_mode")?.as_deref() {
        None | Some("off") => 0,
        Some(mode) => return Err(no_autoscaling(mode)),
    };
    let expected = request.int("expected_num_objects")?.unwrap_or(0);
    let new = NewPool {
        name: name.clone(),
        pg_num,
        crush_rule,
        expected_num_objects: u64::try_from(expected).unwrap_or(0),
        autoscale_mode,
    };
    Ok(Outcome::commit(create_pool(view, new)?, format!("pool '{name}' created")))
}

/// The refusal of more than one copy.
pub fn one_copy_only(size: i64) -> Refusal {
    let text =
        format!("size {size} is not offered yet: this version keeps one copy of each object, only size 1");
    Refusal::new(Errno::EOPNOTSUPP, text)
}

/// The refusal of a pool whose PGs change their number by themselves.
pub fn no_autoscaling(mode: &str) -> Refusal {
    let text = format!(
        "autoscale mode {mode} is not offered: the number of PGs of a pool cannot change yet, use off"
    );
    Refusal::new(Errno::EOPNOTSUPP, text)
}

fn pg_count(number: i64) -> Result<u32, Refusal> {
    let count = u32::try_from(number).ok().filter(|count| (1..=PG_NUM_MAX).contains(count));
    count.ok_or_else(|| {
        Refusal::new(Errno::ERANGE, format!("pg_num {number} is not between 1 and {PG_NUM_MAX}"))
    })
}

/// Number of the rule that has this name.
pub fn rule_named(map: &OsdMap, name: &str) -> Result<u8, Refusal> {
    let found = map.crush.rule_names.iter().find(|(_, other)| *other == name).map(|(number, _)| *number);
    let number = found.and_then(|number| u8::try_from(number).ok());
    number.ok_or_else(|| Refusal::new(Errno::ENOENT, format!("specified rule {name} doesn't exist")))
}

/// The change that makes a pool. The name must be free.
pub fn create_pool(view: &View<'_>, new: NewPool) -> Result<Vec<Change>, Refusal> {
    let map = view.osd_map();
    check_name(&new.name)?;
    if map.pools.len() >= POOLS_MAX {
        return Err(Refusal::new(Errno::ERANGE, format!("there are {POOLS_MAX} pools already")));
    }
    let monitor = &view.live.monitor.name;
    let default = || u32::try_from(options::uint(view.state, monitor, POOL_PG_NUM)).unwrap_or(u32::MAX);
    let pg_num = new.pg_num.unwrap_or_else(default).clamp(1, PG_NUM_MAX);
    check_pg_budget(view, pg_num)?;
    let crush_rule = new.crush_rule.unwrap_or(0);
    if map.crush.find_rule(crush_rule, Pool::REPLICATED, 1).is_none() {
        let text =
            format!("there is no CRUSH rule {crush_rule} for replicated pools yet; start an OSD first");
        return Err(Refusal::new(Errno::ENOENT, text));
    }
    edit(view, |map| {
        let id = i64::from(map.pool_max) + 1;
        map.pool_max =
            i32::try_from(id).map_err(|_| Refusal::new(Errno::ERANGE, "all pool ids are used up"))?;
        let mut pool = Pool::replicated(pg_num, 1, 1, crush_rule, view.now);
        pool.expected_num_objects = new.expected_num_objects;
        pool.pg_autoscale_mode = new.autoscale_mode;
        pool.last_change = map.epoch;
        map.pools.insert(id, pool);
        map.pool_names.insert(id, new.name);
        Ok(())
    })
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let sound = !name.is_empty() && name.len() <= POOL_NAME_BYTES_MAX && !name.chars().any(char::is_control);
    if !sound {
        let text = format!("a pool's name has 1 to {POOL_NAME_BYTES_MAX} bytes and no control characters");
        return Err(Refusal::new(Errno::EINVAL, text));
    }
    Ok(())
}

fn check_pg_budget(view: &View<'_>, pg_num: u32) -> Result<(), Refusal> {
    let map = view.osd_map();
    let osds = map.osds.iter().filter(|osd| osd.is_in()).count() as u64;
    let limit = options::uint(view.state, &view.live.monitor.name, MAX_PG_PER_OSD);
    let planned = map.pools.values().map(|pool| u64::from(pool.pg_num)).sum::<u64>() + u64::from(pg_num);
    if osds > 0 && planned > limit.saturating_mul(osds) {
        let text = format!(
            "pg_num {pg_num} would make {planned} PGs, with {osds} OSDs at most {} ({MAX_PG_PER_OSD} {limit})",
            limit.saturating_mul(osds)
        );
        return Err(Refusal::new(Errno::ERANGE, text));
    }
    Ok(())
}

fn rename(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let (from, to) = (request.need_text("srcpool")?, request.need_text("destpool")?);
    let taken = map.pool_id(&to);
    let Some(id) = map.pool_id(&from) else {
        // A repeated request finds its work done.
        return match taken {
            Some(_) => Ok(Reply::status(format!("pool '{from}' does not exist, but '{to}' does")).into()),
            None => Err(Refusal::new(Errno::ENOENT, format!("unrecognized pool '{from}'"))),
        };
    };
    if from == to {
        return Ok(Reply::status(format!("pool '{from}' renamed to '{to}'")).into());
    }
    if taken.is_some() {
        return Err(Refusal::new(Errno::EEXIST, format!("pool '{to}' exists already")));
    }
    check_name(&to)?;
    let changes = edit(view, |map| {
        map.pool_names.insert(id, to.clone());
        Ok(())
    })?;
    Ok(Outcome::commit(changes, format!("pool '{from}' renamed to '{to}'")))
}

fn remove(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let name = request.need_text("pool")?;
    let Some(id) = view.osd_map().pool_id(&name) else {
        return Ok(Reply::status(format!("pool '{name}' does not exist")).into());
    };
    let sure = request.flag("yes_i_really_really_mean_it")?
        || request.flag("yes_i_really_really_mean_it_not_faking")?;
    if request.text("pool2")?.as_deref() != Some(name.as_str()) || !sure {
        let text = format!(
            "this destroys everything in pool '{name}' for ever; to do it, give the name twice and \
             --yes-i-really-really-mean-it"
        );
        return Err(Refusal::new(Errno::EPERM, text));
    }
    Ok(Outcome::commit(delete_pool(view, id)?, format!("pool '{name}' removed")))
}

/// The change that deletes a pool, if that is allowed.
pub fn delete_pool(view: &View<'_>, id: PoolId) -> Result<Vec<Change>, Refusal> {
    if !options::flag(view.state, &view.live.monitor.name, ALLOW_POOL_DELETE) {
        let text = format!(
            "deleting pools is not allowed; 'ceph config set mon {ALLOW_POOL_DELETE} true' allows it"
        );
        return Err(Refusal::new(Errno::EPERM, text));
    }
    let protected =
        view.osd_map().pools.get(&id).is_some_and(|pool| pool.flags.contains(PoolFlags::NODELETE));
    if protected {
        let text = "the pool is protected; 'ceph osd pool set <pool> nodelete false' lifts that";
        return Err(Refusal::new(Errno::EPERM, text));
    }
    edit(view, |map| {
        map.pools.remove(&id);
        map.pool_names.remove(&id);
        map.removed_snaps_queue.remove(&id);
        Ok(())
    })
}

impl From<SnapshotError> for Refusal {
    fn from(error: SnapshotError) -> Self {
        let errno = match error {
            SnapshotError::SelfManaged | SnapshotError::PoolManaged => Errno::EINVAL,
            SnapshotError::Exists(_) => Errno::EEXIST,
            SnapshotError::NotFound(_) => Errno::ENOENT,
        };
        Self::new(errno, error.to_string())
    }
}

fn mksnap(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    named_pool(view.osd_map(), request, "pool")?;
    Err(no_snapshots())
}

/// The refusal of a new snapshot, of either mode. OSDs make no clones yet: they would have to refuse every later write
/// to the pool, and a pool is in one mode for ever.
pub fn no_snapshots() -> Refusal {
    let text = "snapshots are not offered yet: writes to the pool would be refused from then on; nothing was changed";
    Refusal::new(Errno::EOPNOTSUPP, text)
}

fn rmsnap(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (id, pool) = named_pool(view.osd_map(), request, "pool")?;
    let (name, snap) = (request.need_text("pool")?, request.need_text("snap")?);
    if !pool.snaps.values().any(|other| other.name == snap) {
        return Ok(Reply::status(format!("pool {name} snap {snap} does not exist")).into());
    }
    Ok(Outcome::commit(remove_snapshot(view, id, &snap)?, format!("removed pool {name} snap {snap}")))
}

/// The change that removes a snapshot of a pool.
pub fn remove_snapshot(view: &View<'_>, id: PoolId, snap: &str) -> Result<Vec<Change>, Refusal> {
    let epoch = view.osd_map().epoch.next();
    edit(view, |map| {
        let missing = || Refusal::new(Errno::ENOENT, format!("pool {id} does not exist"));
        let removed = map.pools.get_mut(&id).ok_or_else(missing)?.remove_pool_snapshot(snap, epoch)?;
        map.new_removed_snaps.entry(id).or_default().insert(removed, 1);
        Ok(())
    })
}
