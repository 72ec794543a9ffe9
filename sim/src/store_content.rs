//! Everything that a store shows of itself, as a value: to compare with the oracle, and a damaged copy with a sound one.
//!
//! Reading it checks what holds of every store: listings ascend and name each object once, pages of an omap fit
//! together, and a group's log tells the same as its objects.

use std::collections::BTreeMap;

use bytes::Bytes;
use pg::{INFO_ATTR, LogEntry, LogKind, ObjectInfo, USER_ATTR_PREFIX};
use store::{CollectionId, LogVersion, ObjectId, ObjectStore, StoreError};
use wire::types::PgId;

use crate::judge::{BLOCK, describe_difference};
use crate::operation::Content;

/// Objects and omap keys in a page: few, so that there are many pages.
const PAGE: usize = 7;
/// Entries of a log that are always kept.
const LOG_ENTRIES_MIN: usize = 8;
/// Bytes of an omap page.
const PAGE_BYTES: usize = 4096;

/// An object as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What clients see of it.
    pub content: Content,
    /// Attributes that clients do not see.
    pub own_attrs: BTreeMap<Bytes, Bytes>,
    /// Blocks that cannot be read, by offset, ascending. Their bytes are zeroes in `content`.
    pub unreadable: Vec<usize>,
}

impl Stored {
    /// The object's version as clients see it.
    pub fn version(&self) -> Result<u64, String> {
        let info = self.own_attrs.get(INFO_ATTR).ok_or("no object info")?;
        ObjectInfo::decode(info.clone()).map(|info| info.user_version).map_err(text)
    }
}

/// A collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its metadata.
    pub meta: Bytes,
    /// Its log.
    pub log: Vec<(LogVersion, Bytes)>,
    /// Its objects; an error where something could not be read.
    pub objects: BTreeMap<ObjectId, Result<Stored, StoreError>>,
}

/// A store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreContent {
    /// By collection.
    pub groups: BTreeMap<CollectionId, Group>,
}

impl StoreContent {
    /// Reads it. An object that cannot be read is part of the content; anything else that cannot is an error.
    pub async fn read(store: &dyn ObjectStore) -> Result<Self, String> {
        let mut groups = BTreeMap::new();
        for (id, _, meta) in store.collections().await.map_err(text)? {
            let log = store.log(id).await.map_err(text)?;
            let mut group = Group { meta, log, objects: BTreeMap::new() };
            for object in list(store, id).await? {
                let stored = read_object(store, id, &object).await;
                group.objects.insert(object, stored);
            }
            groups.insert(id, group);
        }
        Ok(Self { groups })
    }

    /// Checks that logs and objects of a pool tell the same. Those of a pool that is being deleted do not.
    pub fn check_logs(&self, pool: i64) -> Result<(), String> {
        self.groups.iter().filter(|(id, _)| id.pool == pool).try_for_each(|(id, group)| {
            group.check_log(*id).map_err(|problem| format!("pg {}.{:x}: {problem}", id.pool, id.seed))
        })
    }

    /// Whether something could not be read.
    pub fn has_errors(&self) -> bool {
        let mut all = self.groups.values().flat_map(|group| group.objects.values());
        all.any(|stored| stored.as_ref().map_or(true, |stored| !stored.unreadable.is_empty()))
    }

    /// The first thing in which another is not as this one.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        if !self.groups.keys().eq(other.groups.keys()) {
            return Some("there are other collections".to_owned());
        }
        for ((id, group), seen) in self.groups.iter().zip(other.groups.values()) {
            let within = |what: String| Some(format!("collection {}.{:x}: {what}", id.pool, id.seed));
            if group.meta != seen.meta {
                return within("its metadata differs".to_owned());
            }
            if !logs_agree(&group.log, &seen.log) {
                return within(format!("its log has {} entries, not {}", seen.log.len(), group.log.len()));
            }
            let names = group.objects.keys().chain(seen.objects.keys());
            if let Some(object) =
                names.into_iter().find(|name| group.objects.get(name) != seen.objects.get(name))
            {
                let name = &object.name;
                return within(match (group.objects.get(object), seen.objects.get(object)) {
                    (Some(Ok(expected)), Some(Ok(seen))) => {
                        let (a, b) = (Some(expected.content.clone()), Some(seen.content.clone()));
                        format!("{name:?}: {}, unreadable {:?}", describe_difference(&a, &b), seen.unreadable)
                    }
                    (expected, seen) => {
                        let say = |stored: Option<&Result<Stored, StoreError>>| match stored {
                            Some(Ok(_)) => "there".to_owned(),
                            Some(Err(error)) => error.to_string(),
                            None => "missing".to_owned(),
                        };
                        format!("{name:?} is {}, and was {}", say(seen), say(expected))
                    }
                });
            }
        }
        None
    }

    /// An object of a pool by its name.
    pub fn object(&self, name: &[u8]) -> Option<&Result<Stored, StoreError>> {
        let mut all = self.objects();
        all.find(|(object, _)| object.name == name).map(|(_, stored)| stored)
    }

    /// Every object but the store's own.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectId, &Result<Stored, StoreError>)> {
        let groups = self.groups.iter().filter(|(id, _)| **id != CollectionId::META);
        groups.flat_map(|(_, group)| &group.objects)
    }
}

impl Group {
    fn check_log(&self, id: CollectionId) -> Result<(), String> {
        let mut newest: BTreeMap<ObjectId, LogEntry> = BTreeMap::new();
        let mut last = LogVersion::default();
        let mut first_user = u64::MAX;
        let mut last_user = 0;
        for (version, bytes) in &self.log {
            let entry = LogEntry::decode(bytes.clone()).map_err(|error| format!("log: {error}"))?;
            if *version <= last
                || (entry.version.epoch.0, entry.version.version) != (version.epoch, version.version)
            {
                return Err(format!("log entry {version:?} holds {:?} and follows {last:?}", entry.version));
            }
            // A transaction that the store refused leaves its version unused.
            last = *version;
            if entry.kind != LogKind::Outcome {
                first_user = first_user.min(entry.user_version);
                last_user = last_user.max(entry.user_version);
                newest.insert(entry.object.clone(), entry);
            }
        }
        for (object, entry) in &newest {
            let stored = self.objects.get(object);
            match (entry.kind, stored) {
                (LogKind::Delete, Some(_)) => {
                    return Err(format!("{:?} exists, though the log ends with its removal", object.name));
                }
                (LogKind::Modify, None) => {
                    return Err(format!("{:?} is missing, though the log ends with a change", object.name));
                }
                _ => {}
            }
        }
        for (object, stored) in &self.objects {
            let Ok(stored) = stored else { continue };
            let Some(info) = stored.own_attrs.get(INFO_ATTR) else {
                return Err(format!("{:?} has no object info", object.name));
            };
            let info = ObjectInfo::decode(info.clone()).map_err(text)?;
            last_user = last_user.max(info.user_version);
            let logged = newest.get(object).map(|entry| entry.user_version);
            if logged.is_some_and(|logged| logged != info.user_version)
                || (logged.is_none() && info.user_version >= first_user)
            {
                return Err(format!(
                    "{:?} is of user version {}, but the log has {logged:?} and begins at {first_user}",
                    object.name, info.user_version
                ));
            }
        }
        let pg = PgId::new(id.pool, id.seed);
        let opened = pg::Group::open(pg, self.meta.clone(), self.log.clone()).map_err(text)?;
        let info = opened.info();
        if (info.last_update.epoch.0, info.last_update.version) < (last.epoch, last.version) {
            return Err(format!("it opens at {:?}, but its log ends at {last:?}", info.last_update));
        }
        if info.last_user_version < last_user {
            return Err(format!(
                "it opens at user version {}, but {last_user} was given",
                info.last_user_version
            ));
        }
        Ok(())
    }
}

/// How many entries there are beyond those that are always kept is the store's business: it forgets some in memory, and
/// has them again after a mount.
fn logs_agree(a: &[(LogVersion, Bytes)], b: &[(LogVersion, Bytes)]) -> bool {
    let (longer, shorter) = if a.len() < b.len() { (b, a) } else { (a, b) };
    longer.ends_with(shorter) && shorter.len() >= longer.len().min(LOG_ENTRIES_MIN)
}

async fn list(store: &dyn ObjectStore, id: CollectionId) -> Result<Vec<ObjectId>, String> {
    let mut all: Vec<ObjectId> = Vec::new();
    let mut from = None;
    loop {
        let (page, next) = store.list(id, from.clone(), PAGE).await.map_err(text)?;
        for object in page {
            if all.last().is_some_and(|last| *last >= object) {
                return Err(format!(
                    "a listing gives {:?} after {:?}",
                    object.name,
                    all.last().map(|o| &o.name)
                ));
            }
            all.push(object);
        }
        match next {
            Some(next) if from.as_ref() >= Some(&next) => return Err(format!("a listing stays at {next:?}")),
            Some(next) => from = Some(next),
            None => return Ok(all),
        }
    }
}

async fn read_object(
    store: &dyn ObjectStore,
    id: CollectionId,
    object: &ObjectId,
) -> Result<Stored, StoreError> {
    let size = store.stat(id, object).await?.size;
    let (data, unreadable) = read_data(store, id, object, size).await?;
    let wrong = |what: String| Err(StoreError::Invalid(format!("{:?}: {what}", object.name)));
    if data.len() as u64 != size {
        return wrong(format!("{} of {size} bytes can be read", data.len()));
    }
    let mut at = 0;
    for (start, len) in store.extents(id, object, 0, size).await? {
        let (from, to) = (place(start), place(start + len));
        if data.get(at..from).is_none_or(|hole| hole.iter().any(|byte| *byte != 0)) || to > data.len() {
            return wrong(format!("the extent at {start} does not fit its {size} bytes or what they say"));
        }
        at = to;
    }
    let (mut xattrs, mut own_attrs) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in store.attrs(id, object).await? {
        if name.first() == Some(&USER_ATTR_PREFIX) {
            xattrs.insert(name.slice(1..), value);
        } else {
            own_attrs.insert(name, value);
        }
    }
    let mut omap: BTreeMap<Bytes, Bytes> = BTreeMap::new();
    loop {
        let after = omap.last_key_value().map(|(key, _)| key.clone());
        let page = store.omap_scan(id, object, after.clone(), Bytes::new(), PAGE, PAGE_BYTES).await?;
        let keys: Vec<Bytes> = page.entries.iter().map(|(key, _)| key.clone()).collect();
        if keys.first().is_some_and(|first| after.is_some_and(|after| *first <= after)) || !keys.is_sorted() {
            return wrong(format!("a page of its omap gives {keys:?}"));
        }
        if store.omap_values(id, object, keys).await? != page.entries {
            return wrong("a page of its omap is not what its keys give".to_owned());
        }
        if page.more && page.entries.is_empty() {
            return wrong("a page of its omap is empty and says that there is more".to_owned());
        }
        omap.extend(page.entries);
        if !page.more {
            break;
        }
    }
    let header = store.omap_header(id, object).await?;
    Ok(Stored { content: Content { data, xattrs, omap, header }, own_attrs, unreadable })
}

/// The bytes, and the blocks that cannot be read, with zeroes in their place.
async fn read_data(
    store: &dyn ObjectStore,
    id: CollectionId,
    object: &ObjectId,
    size: u64,
) -> Result<(Vec<u8>, Vec<usize>), StoreError> {
    match store.read(id, object, 0, size.saturating_add(1)).await {
        Err(StoreError::Io(_)) => {}
        other => return Ok((other?.concat(), Vec::new())),
    }
    let (mut data, mut unreadable) = (Vec::new(), Vec::new());
    while (data.len() as u64) < size {
        match store.read(id, object, data.len() as u64, BLOCK as u64).await {
            Ok(bytes) => data.extend_from_slice(&bytes.concat()),
            Err(StoreError::Io(_)) => {
                unreadable.push(data.len());
                data.resize((data.len() + BLOCK).min(place(size)), 0);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((data, unreadable))
}

fn place(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
