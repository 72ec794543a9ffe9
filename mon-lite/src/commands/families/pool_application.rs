//! `osd pool application …`: what a pool is used for.

use serde_json::json;

use super::shared::{edit_pool, named_pool};
use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::limits::{APPLICATION_KEYS_MAX, APPLICATION_NAME_BYTES_MAX, APPLICATIONS_MAX};
use crate::view::View;
use wire::Errno;

const POOL: Argument = Argument::new("pool", Kind::PoolName);
const APP: Argument = Argument::new("app", Kind::String);
const KEY: Argument = Argument::new("key", Kind::String);
const VALUE: Argument = Argument::new("value", Kind::String);
const SURE: Argument = Argument::new("yes_i_really_mean_it", Kind::Bool).optional();

const fn write(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::write(prefix, Module::Osd, arguments, help, handler)
}

const GET: &[Argument] = &[POOL.optional(), APP.optional(), KEY.optional()];

pub const COMMANDS: &[Command] = &[
    write("osd pool application enable", &[POOL, APP, SURE], "name what a pool is used for", enable),
    write("osd pool application disable", &[POOL, APP, SURE], "take a use away from a pool", disable),
    write("osd pool application set", &[POOL, APP, KEY, VALUE], "keep a value for an application", set),
    write("osd pool application rm", &[POOL, APP, KEY], "forget a value of an application", remove),
    Command::read("osd pool application get", Module::Osd, GET, "show what pools are used for", get),
];

fn check_text(what: &str, text: &str) -> Result<(), Refusal> {
    let sound = !text.is_empty() && text.len() <= APPLICATION_NAME_BYTES_MAX;
    let sound = sound && !text.chars().any(char::is_control);
    let bad = || Refusal::new(Errno::EINVAL, format!("{what} has 1 to {APPLICATION_NAME_BYTES_MAX} bytes"));
    sound.then_some(()).ok_or_else(bad)
}

fn enable(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (id, pool) = named_pool(view.osd_map(), request, "pool")?;
    let (name, app) = (request.need_text("pool")?, request.need_text("app")?);
    check_text("an application's name", &app)?;
    let status = format!("enabled application '{app}' on pool '{name}'");
    if pool.applications.contains_key(&app) {
        return Ok(Reply::status(status).into());
    }
    // Two uses of one pool are most often a mistake.
    if let Some(other) =
        pool.applications.keys().next().filter(|_| !request.flag("yes_i_really_mean_it").unwrap_or(false))
    {
        let text =
            format!("pool '{name}' is used for '{other}' already; --yes-i-really-mean-it adds '{app}'");
        return Err(Refusal::new(Errno::EPERM, text));
    }
    if pool.applications.len() >= APPLICATIONS_MAX {
        return Err(Refusal::new(
            Errno::EINVAL,
            format!("a pool has at most {APPLICATIONS_MAX} applications"),
        ));
    }
    let changes = edit_pool(view, id, |pool| {
        pool.applications.insert(app, Default::default());
        Ok(())
    })?;
    Ok(Outcome::commit(changes, status))
}

fn disable(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (id, pool) = named_pool(view.osd_map(), request, "pool")?;
    let (name, app) = (request.need_text("pool")?, request.need_text("app")?);
    if !request.flag("yes_i_really_mean_it")? {
        let text =
            format!("clients may lose access to pool '{name}'; --yes-i-really-mean-it disables '{app}'");
        return Err(Refusal::new(Errno::EPERM, text));
    }
    if !pool.applications.contains_key(&app) {
        return Ok(Reply::status(format!("application '{app}' is not enabled on pool '{name}'")).into());
    }
    let changes = edit_pool(view, id, |pool| {
        pool.applications.remove(&app);
        Ok(())
    })?;
    Ok(Outcome::commit(changes, format!("disable application '{app}' on pool '{name}'")))
}

fn not_enabled(app: &str, pool: &str) -> Refusal {
    Refusal::new(Errno::ENOENT, format!("application '{app}' is not enabled on pool '{pool}'"))
}

fn set(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (id, pool) = named_pool(view.osd_map(), request, "pool")?;
    let (name, app) = (request.need_text("pool")?, request.need_text("app")?);
    let (key, value) = (request.need_text("key")?, request.need_text("value")?);
    check_text("a key", &key)?;
    check_text("a value", &value)?;
    let keys = pool.applications.get(&app).ok_or_else(|| not_enabled(&app, &name))?;
    if keys.len() >= APPLICATION_KEYS_MAX && !keys.contains_key(&key) {
        return Err(Refusal::new(
            Errno::EINVAL,
            format!("an application has at most {APPLICATION_KEYS_MAX} keys"),
        ));
    }
    let status = format!("set application '{app}' key '{key}' to '{value}' on pool '{name}'");
    let changes = edit_pool(view, id, |pool| {
        pool.applications.entry(app).or_default().insert(key, value);
        Ok(())
    })?;
    Ok(Outcome::commit(changes, status))
}

fn remove(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (id, pool) = named_pool(view.osd_map(), request, "pool")?;
    let (name, app, key) = (request.need_text("pool")?, request.need_text("app")?, request.need_text("key")?);
    let keys = pool.applications.get(&app).ok_or_else(|| not_enabled(&app, &name))?;
    if !keys.contains_key(&key) {
        return Ok(
            Reply::status(format!("application '{app}' on pool '{name}' does not have key '{key}'")).into()
        );
    }
    let status = format!("removed application '{app}' key '{key}' on pool '{name}'");
    let changes = edit_pool(view, id, |pool| {
        pool.applications.entry(app).or_default().remove(&key);
        Ok(())
    })?;
    Ok(Outcome::commit(changes, status))
}

fn get(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let map = view.osd_map();
    let value = match (request.text("pool")?, request.text("app")?, request.text("key")?) {
        (None, ..) => {
            let all = map.pools.iter().map(|(id, pool)| {
                (map.pool_names.get(id).cloned().unwrap_or_default(), json!(pool.applications))
            });
            all.collect::<serde_json::Map<_, _>>().into()
        }
        (Some(_), None, _) => json!(named_pool(map, request, "pool")?.1.applications),
        (Some(name), Some(app), key) => {
            let (_, pool) = named_pool(map, request, "pool")?;
            let keys = pool.applications.get(&app).ok_or_else(|| not_enabled(&app, &name))?;
            match key {
                None => json!(keys),
                Some(key) => {
                    let missing =
                        || format!("application '{app}' on pool '{name}' does not have key '{key}'");
                    let value = keys.get(&key).ok_or_else(|| Refusal::new(Errno::ENOENT, missing()))?;
                    return Ok(Reply::formatted(request, || format!("{value}\n"), || json!(value)).into());
                }
            }
        }
    };
    Ok(Reply::value(request, &value).into())
}
