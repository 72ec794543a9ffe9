//! Changing the parts that a store has on other devices, while nobody has it open: one more, a larger one, one on another
//! device, one less.
//!
//! Each change first makes durable, where nobody looks yet, what the store has there afterwards, and then writes the
//! superblock, which names the parts and says where the journal is. A crash before that leaves the store with what it had, and
//! after it with what it has got. Whatever a part has that is no longer named stays as it was.

use allocator::Extent;
use nvme::joined::{member_base, member_of};
use nvme::{BlockDevice, DmaBuf};
use uuid::Uuid;

use super::open::{self, OpenError, OpenResult, READ_BYTES_MAX};
use crate::devices::{self, Part, PartError, PartHeader, Role};
use crate::superblock::Superblock;

/// See [`super::Engine::add_part`].
pub async fn add_part(
    device: &dyn BlockDevice,
    part: &dyn BlockDevice,
    role: Role,
    id: Uuid,
) -> OpenResult<Superblock> {
    let before = writable(device).await?;
    if before.parts.get(role).is_some() {
        return Err(PartError::Present { device: device.name().to_owned(), role: role.name() }.into());
    }
    let len = check_new(device, &before, part, role, before.part_bytes_min(role)).await?;
    let after = with_part(&before, role, Some(Part { id, len }));
    copy_logs(device, &before, part, &after).await?;
    devices::write_header(part, 0, &after, role, Part { id, len }).await?;
    part.flush().await?;
    switch(device, after).await
}

/// See [`super::Engine::grow_part`].
pub async fn grow_part(device: &dyn BlockDevice, role: Role, len: u64) -> OpenResult<Superblock> {
    let before = writable(device).await?;
    let part = present(device, &before, role)?;
    let grown = part.grown(len, before.block.into());
    match grown == part {
        true => Ok(before),
        false => switch(device, with_part(&before, role, Some(grown))).await,
    }
}

/// See [`super::Engine::move_part`].
pub async fn move_part(
    device: &dyn BlockDevice,
    to: &dyn BlockDevice,
    role: Role,
    id: Uuid,
    keys: &[Extent],
) -> OpenResult<Superblock> {
    // A process that was killed leaves completed writes in the device's cache; what is copied must be what is there.
    device.flush().await?;
    let before = writable(device).await?;
    present(device, &before, role)?;
    let base = member_base(role.slot());
    let end = keys.iter().map(|extent| extent.end() - base).max().unwrap_or(0);
    // The key-value store's file system takes a space that is as large as it was, or larger.
    let fast_end = before.fast().filter(|_| role == Role::Db).map_or(0, |fast| fast.end() - base);
    let need = before.part_bytes_min(role).max(end).max(fast_end);
    let len = check_new(device, &before, to, role, need).await?;
    let after = with_part(&before, role, Some(Part { id, len }));
    let logs = [before.journal, before.pg_log];
    for extent in logs.iter().chain(keys).filter(|extent| member_of(extent.start).0 == role.slot()) {
        copy(device, *extent, to, extent.start - base).await?;
    }
    devices::write_header(to, 0, &after, role, Part { id, len }).await?;
    to.flush().await?;
    switch(device, after).await
}

/// See [`super::Engine::remove_part`].
pub async fn remove_part(device: &dyn BlockDevice, role: Role) -> OpenResult<Superblock> {
    device.flush().await?;
    let before = writable(device).await?;
    present(device, &before, role)?;
    let after = with_part(&before, role, None);
    if after.journal != before.journal {
        for (from, to) in [(before.journal, after.journal), (before.pg_log, after.pg_log)] {
            copy(device, from, device, to.start).await?;
        }
        device.flush().await?;
    }
    switch(device, after).await
}

/// The superblock of a store that may be written to.
async fn writable(device: &dyn BlockDevice) -> OpenResult<Superblock> {
    let (superblock, writable) = open::read_superblock(device).await?;
    if !writable {
        let (device, unknown) = (device.name().to_owned(), superblock.features.ro_compat);
        return Err(OpenError::Features { device, unknown });
    }
    Ok(superblock)
}

fn present(device: &dyn BlockDevice, superblock: &Superblock, role: Role) -> OpenResult<Part> {
    let absent = || PartError::Absent { device: device.name().to_owned(), role: role.name() };
    Ok(superblock.parts.get(role).ok_or_else(absent)?)
}

/// That what is to be a part is none yet, and suits the store; gives its bytes.
async fn check_new(
    device: &dyn BlockDevice,
    superblock: &Superblock,
    part: &dyn BlockDevice,
    role: Role,
    need: u64,
) -> OpenResult<u64> {
    let name = || device.name().to_owned();
    let block_size = part.geometry().block_size;
    if block_size > superblock.journal_block {
        let (device, role) = (name(), role.name());
        return Err(PartError::Blocks { device, role, block_size, most: superblock.journal_block }.into());
    }
    let block = u64::from(superblock.block);
    // What it begins with may be left of a change that did not get to its end, but not in use.
    let first = part.read(0, DmaBuf::zeroed(usize::try_from(block).unwrap_or(usize::MAX))).await;
    if let Some(header) = first.ok().and_then(|buffer| PartHeader::decode(buffer.freeze()).ok()) {
        let is_known = |role: &Role| superblock.parts.get(*role).is_some_and(|part| part.id == header.id);
        if let Some(other) = Role::BESIDE.into_iter().find(is_known) {
            return Err(PartError::InUse { device: name(), role: role.name(), other: other.name() }.into());
        }
    }
    let len = part.size() / block * block;
    if len < need {
        return Err(PartError::TooSmall { device: name(), role: role.name(), len, need }.into());
    }
    Ok(len)
}

fn with_part(before: &Superblock, role: Role, part: Option<Part>) -> Superblock {
    let mut parts = before.parts;
    parts.set(role, part);
    let mut after = before.clone();
    after.set_parts(parts);
    after.generation += 1;
    after
}

/// Copies journal and log of the placement groups to a part that they belong to from now on, if they do. Not durable yet.
async fn copy_logs(
    device: &dyn BlockDevice,
    before: &Superblock,
    part: &dyn BlockDevice,
    after: &Superblock,
) -> OpenResult<()> {
    if after.journal == before.journal {
        return Ok(());
    }
    for (from, to) in [(before.journal, after.journal), (before.pg_log, after.pg_log)] {
        copy(device, from, part, member_of(to.start).1).await?;
    }
    Ok(())
}

/// Copies a region to a place of another device. Not durable yet.
async fn copy(device: &dyn BlockDevice, from: Extent, to: &dyn BlockDevice, place: u64) -> OpenResult<()> {
    let mut done = 0;
    while done < from.len {
        let len = (from.len - done).min(READ_BYTES_MAX);
        let buffer = DmaBuf::zeroed(usize::try_from(len).unwrap_or(usize::MAX));
        let bytes = device.read(from.start + done, buffer).await?;
        to.write(place + done, bytes).await?;
        done += len;
    }
    Ok(())
}

async fn switch(device: &dyn BlockDevice, mut after: Superblock) -> OpenResult<Superblock> {
    open::write_superblock(device, &mut after).await?;
    Ok(after)
}
