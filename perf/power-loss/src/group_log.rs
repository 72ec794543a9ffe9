//! A placement group's log against its objects. A record holds both, so at any moment the newest entry about an object
//! tells what it is like: a crash that kept a part of a record, or a record without those before it, shows here.

use std::collections::BTreeMap;

use anyhow::Context;
use pg::{LogEntry, LogKind};
use store::{CollectionId, Engine, ObjectId, ObjectStore};

/// Adds everything wrong with a group, a sentence each, and gives the number of entries looked at.
pub async fn check(
    engine: &Engine,
    collection: CollectionId,
    wrong: &mut Vec<String>,
) -> anyhow::Result<u64> {
    let mut entries = 0;
    let mut newest: BTreeMap<ObjectId, LogEntry> = BTreeMap::new();
    let mut last = None;
    let group = format!("group {}.{:x}", collection.pool, collection.seed);
    for (version, bytes) in engine.log(collection).await? {
        let entry = LogEntry::decode(bytes).with_context(|| format!("{group}: entry {version:?}"))?;
        if let Some(last) = last.replace(version.version)
            && version.version != last + 1
        {
            wrong.push(format!("{group}: entry {} follows entry {last}", version.version));
        }
        entries += 1;
        if entry.kind != LogKind::Outcome {
            newest.insert(entry.object.clone(), entry);
        }
    }
    for (object, entry) in newest {
        let state = pg::load_state(engine, collection, &object).await?;
        let found = state.map(|state| state.info.user_version);
        let expected = (entry.kind == LogKind::Modify).then_some(entry.user_version);
        if found != expected {
            wrong.push(format!(
                "{group}: object '{}' has version {found:?}, the group's log says {expected:?}",
                object.name.escape_ascii()
            ));
        }
    }
    Ok(entries)
}
