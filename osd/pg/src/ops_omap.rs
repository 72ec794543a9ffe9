//! Ops on an object's omap.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use store::OmapPage;
use wire::codec::Writer;

use crate::errno::OpResult;
use crate::execute::Output;
use crate::limits::{OMAP_BYTES_MAX, OMAP_ENTRIES_MAX, OMAP_LOOKUP_KEYS, OUTPUT_BYTES_MAX};
use crate::object_view::ObjectView;
use wire::Errno;

/// OMAPGETKEYS.
pub async fn get_keys(view: &ObjectView, start_after: &Bytes, max: u64) -> OpResult<Output> {
    let page = scan(view, start_after, &Bytes::new(), max).await?;
    let mut w = Writer::new();
    w.list_with(&page.entries, |w, (key, _)| w.blob(key));
    w.bool(page.more);
    Ok(Output::bytes(w.finish()))
}

/// OMAPGETVALS.
pub async fn get_vals(view: &ObjectView, start_after: &Bytes, max: u64, prefix: &Bytes) -> OpResult<Output> {
    let page = scan(view, start_after, prefix, max).await?;
    let mut w = Writer::new();
    w.list_with(&page.entries, |w, (key, value)| {
        w.blob(key);
        w.blob(value);
    });
    w.bool(page.more);
    Ok(Output::bytes(w.finish()))
}

async fn scan(view: &ObjectView, start_after: &Bytes, prefix: &Bytes, max: u64) -> OpResult<OmapPage> {
    let max = usize::try_from(max).unwrap_or(usize::MAX).min(OMAP_ENTRIES_MAX);
    if !view.exists() {
        return Ok(OmapPage::default());
    }
    Ok(view.omap_scan(start_after, prefix, max, OMAP_BYTES_MAX).await?)
}

/// OMAPGETHEADER.
pub async fn get_header(view: &ObjectView) -> OpResult<Output> {
    if !view.exists() {
        return Ok(Output::default());
    }
    Ok(Output::bytes(view.omap_header().await?))
}

/// OMAPGETVALSBYKEYS.
pub async fn get_vals_by_keys(view: &ObjectView, keys: BTreeSet<Bytes>) -> OpResult<Output> {
    let mut found = BTreeMap::new();
    if view.exists() {
        let keys: Vec<Bytes> = keys.into_iter().collect();
        let mut bytes = 0;
        for some in keys.chunks(OMAP_LOOKUP_KEYS) {
            let values = view.omap_values(some.iter().cloned()).await?;
            bytes += values.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
            if bytes > OUTPUT_BYTES_MAX {
                return Err(Errno::EMSGSIZE.into());
            }
            found.extend(values);
        }
    }
    let mut w = Writer::new();
    w.map(&found);
    Ok(Output::bytes(w.finish()))
}

/// OMAP_CMP: the stored value (empty if absent) must stand in the given relation to each given one.
pub async fn compare(view: &ObjectView, assertions: &BTreeMap<Bytes, (Bytes, i32)>) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    let mut stored = BTreeMap::new();
    let absent = Bytes::new();
    for (number, (key, (given, relation))) in assertions.iter().enumerate() {
        if number.is_multiple_of(OMAP_LOOKUP_KEYS) {
            let some = assertions.range(key.clone()..).take(OMAP_LOOKUP_KEYS);
            stored = view.omap_values(some.map(|(key, _)| key.clone())).await?;
        }
        let actual = stored.get(key).unwrap_or(&absent);
        let holds = match relation {
            1 => actual == given,
            3 => actual > given,
            5 => actual < given,
            _ => return Err(Errno::EINVAL.into()),
        };
        if !holds {
            return Err(Errno::ECANCELED.into());
        }
    }
    Ok(Output::default())
}

/// OMAPSETVALS.
pub fn set(view: &mut ObjectView, entries: BTreeMap<Bytes, Bytes>) -> OpResult<Output> {
    view.omap_set(entries);
    Ok(Output::default())
}

/// OMAPSETHEADER.
pub fn set_header(view: &mut ObjectView, header: Bytes) -> OpResult<Output> {
    view.omap_set_header(header);
    Ok(Output::default())
}

/// OMAPCLEAR.
pub fn clear(view: &mut ObjectView) -> OpResult<Output> {
    must_exist(view)?;
    view.omap_clear();
    Ok(Output::default())
}

/// OMAPRMKEYS.
pub fn remove(view: &mut ObjectView, keys: BTreeSet<Bytes>) -> OpResult<Output> {
    must_exist(view)?;
    view.omap_remove(keys.into_iter().collect());
    Ok(Output::default())
}

/// OMAPRMKEYRANGE.
pub fn remove_range(view: &mut ObjectView, first: Bytes, end: Bytes) -> OpResult<Output> {
    must_exist(view)?;
    view.omap_remove_range(first, end);
    Ok(Output::default())
}

fn must_exist(view: &ObjectView) -> Result<(), Errno> {
    if view.exists() { Ok(()) } else { Err(Errno::ENOENT) }
}
