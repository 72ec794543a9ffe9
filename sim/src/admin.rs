//! An administrator: makes, renames and deletes pools and sets an option all the time, while monitor and OSDs crash. What
//! was acknowledged holds from then on: pools are in the map or not, and what was written to a new pool is there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, ClientConfig};
use rt::Core;
use rt::sim::RandomStream;
use serde_json::{Value, json};

use crate::client_life::Shared;

/// Most pools of the administrator at a time.
const POOLS_MAX: usize = 3;
/// Longest pause between two commands, milliseconds.
const PAUSE_MS_MAX: u64 = 800;
const RETRY: Duration = Duration::from_millis(100);
/// The option that is set.
const OPTION: &str = "osd_op_history_size";
/// Keys of the monitor's store in use, and bytes of their values: the monitor's log is full after some of them, so that it
/// makes snapshots.
const KEYS: u64 = 6;
const KEY_BYTES: usize = 60_000;

/// What must hold.
#[derive(Default)]
struct Facts {
    /// Pools of the administrator, and what their one object holds if it was written.
    pools: BTreeMap<String, Option<Bytes>>,
    /// Pools that were deleted or renamed: no map has them again.
    gone: Vec<String>,
    /// What the option was set to.
    option: Option<String>,
    /// Keys of the monitor's store, and their values.
    keys: BTreeMap<String, String>,
    made: u64,
}

/// Does so until its host is killed.
pub async fn run(core: Core, monitor: SocketAddr, mut dice: RandomStream, shared: Rc<Shared>) {
    let mut facts = Facts::default();
    let client = loop {
        match Client::connect(&core, ClientConfig::new(vec![monitor])).await {
            Ok(client) => break client,
            Err(_) => core.sleep(RETRY).await,
        }
    };
    let allow =
        json!({"prefix": "config set", "who": "mon", "name": "mon_allow_pool_delete", "value": "true"});
    let mut result = command(&client, &allow).await.map(drop);
    while result.is_ok() && !shared.has_failed() {
        core.sleep(Duration::from_millis(dice.below(PAUSE_MS_MAX))).await;
        result = step(&client, &mut dice, &mut facts).await;
        if result.is_ok() {
            result = check(&client, &facts).await;
        }
        shared.counts.borrow_mut().commands += 1;
    }
    if let Err(problem) = result {
        shared.fail(format!("the administrator: {problem}"));
    }
}

async fn step(client: &Client, dice: &mut RandomStream, facts: &mut Facts) -> Result<(), String> {
    let names: Vec<String> = facts.pools.keys().cloned().collect();
    let some = names.get(usize::try_from(dice.below(names.len().max(1) as u64)).unwrap_or(0)).cloned();
    match (dice.below(7), some) {
        (0 | 1, _) if names.len() < POOLS_MAX => {
            let made = facts.made;
            let name = format!("admin{made}");
            facts.made += 1;
            command(client, &json!({"prefix": "osd pool create", "pool": name, "pg_num": 1})).await?;
            facts.pools.insert(name, None);
        }
        (2, Some(name)) => {
            let value = Bytes::from(format!("in {name}: {}", dice.next_u64()));
            let pool = client.pool(&name).await.map_err(text)?;
            match pool.write_full(Bytes::from_static(b"the one"), value.clone()).await {
                Ok(_) => {
                    facts.pools.insert(name, Some(value));
                }
                // A full device.
                Err(error) if error.errno() == Some(client::Errno::ENOSPC) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        (3, Some(name)) => {
            let base = name.split('-').next().unwrap_or_default();
            let new = format!("{base}-renamed{}", facts.gone.len());
            let rename = json!({"prefix": "osd pool rename", "srcpool": name, "destpool": new});
            if !done(client, &rename, |names| !names.contains(&name) && names.contains(&new)).await? {
                return Err(format!("pool {name} was not renamed"));
            }
            let content = facts.pools.remove(&name).flatten();
            facts.pools.insert(new, content);
            facts.gone.push(name);
        }
        (4, Some(name)) => {
            let delete = json!({
                "prefix": "osd pool delete", "pool": name, "pool2": name, "yes_i_really_really_mean_it": true,
            });
            if !done(client, &delete, |names| !names.contains(&name)).await? {
                return Err(format!("pool {name} was not deleted"));
            }
            facts.pools.remove(&name);
            facts.gone.push(name);
        }
        (5, _) => {
            let key = format!("key{}", dice.below(KEYS));
            if let Some(expected) = facts.keys.get(&key) {
                let seen = command(client, &json!({"prefix": "config-key get", "key": key})).await?;
                if seen.trim() != expected {
                    return Err(format!(
                        "{key} is {:?}, and was set to {:?}",
                        seen.get(..16),
                        expected.get(..16)
                    ));
                }
            }
            let value = format!("{:016x}", dice.next_u64()).repeat(KEY_BYTES / 16);
            command(client, &json!({"prefix": "config-key set", "key": key, "val": value})).await?;
            facts.keys.insert(key, value);
        }
        _ => {
            let value = dice.between(1, 1000).to_string();
            let set = json!({"prefix": "config set", "who": "osd", "name": OPTION, "value": value});
            command(client, &set).await?;
            facts.option = Some(value);
        }
    }
    Ok(())
}

async fn check(client: &Client, facts: &Facts) -> Result<(), String> {
    let map = client.wait_for_latest_map().await.map_err(text)?;
    let names: Vec<&str> = map.pool_names.values().map(|name| &**name).collect();
    let pools = &facts.pools;
    if let Some(missing) = pools.keys().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("pool {missing} is not in epoch {}, which has {names:?}", map.epoch));
    }
    if let Some(back) = facts.gone.iter().find(|name| names.contains(&name.as_str())) {
        return Err(format!("pool {back} is in epoch {} again", map.epoch));
    }
    if let Some(expected) = &facts.option {
        let get = json!({"prefix": "config get", "who": "osd.0", "key": OPTION});
        let seen = command(client, &get).await?;
        if seen.trim() != *expected {
            return Err(format!("{OPTION} is {seen:?}, and was set to {expected}"));
        }
    }
    for (name, expected) in pools {
        let Some(expected) = expected else { continue };
        let pool = client.pool(name).await.map_err(text)?;
        let seen = pool.read(Bytes::from_static(b"the one"), 0, 0).await;
        if seen.as_ref().ok() != Some(expected) {
            return Err(format!("the object in pool {name} is {seen:?}, and {expected:?} was written"));
        }
    }
    Ok(())
}

/// Gives a command. If it is refused, it may have been given twice: then the map tells whether it was done.
async fn done(client: &Client, command: &Value, is_done: impl Fn(&[String]) -> bool) -> Result<bool, String> {
    match client.mon_command(&command.to_string(), Bytes::new()).await {
        Ok(_) => Ok(true),
        Err(error) if error.errno().is_some() => {
            let map = client.wait_for_latest_map().await.map_err(text)?;
            Ok(is_done(&map.pool_names.values().cloned().collect::<Vec<_>>()))
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn command(client: &Client, command: &Value) -> Result<String, String> {
    let output = client.mon_command(&command.to_string(), Bytes::new()).await.map_err(text)?;
    Ok(String::from_utf8_lossy(&output.output).into_owned())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
