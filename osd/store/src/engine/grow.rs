//! Taking up larger devices while the store is open.
//!
//! Order: the key-value store's file system knows, durably, that the main device is larger, as what it is lent from now on may
//! lie there → the superblock says what all devices have, the copy at the new end first → what is new can be allocated, and the
//! file system takes what its fast space has grown by. A crash in between leaves a store as large as before on larger
//! devices, or a larger one with nothing in what is new; either mounts. Its window is the larger one then, a part is what the
//! superblock says. Checkpoints say of which window their free list is.

use std::rc::Rc;

use bluefs::kv::KvError;

use super::open::{self, OpenError};
use super::state::{Inner, Purpose};
use crate::devices::Role;
use crate::object_store::{DeviceGrowth, StoreError, StoreResult};
use crate::superblock::Superblock;

impl Inner {
    /// See the seam.
    pub async fn grow(self: Rc<Self>) -> StoreResult<Vec<DeviceGrowth>> {
        self.check_open()?;
        if self.purpose != Purpose::Serve {
            return Err(StoreError::Invalid("a store that is open to look only does not grow".into()));
        }
        let Some(_pass) = self.gate.enter() else { return Err(StoreError::Down("closed".into())) };
        let _turn = self.growing.acquire(1).await;
        let sizes = self.device.look_again().await.map_err(|error| self.device_failed(&error))?;
        let before = self.superblock.borrow().clone();
        let mut next = before.clone();
        for role in Role::BESIDE {
            let part = before.parts.get(role);
            next.parts.set(role, part.map(|part| part.grown(sizes[role.slot()], self.block)));
        }
        let window = before.window.max(sizes[Role::Main.slot()] / self.block * self.block);
        self.kv.grow(window).await.map_err(|error| self.not_grown(error))?;
        self.check_up()?;
        if (window, next.parts) != (before.window, before.parts) {
            self.write_grown(&mut next).await?;
        }
        // Also if the superblock said so before: it may have failed after that.
        if let Some(fast) = next.fast() {
            self.kv.grow_fast(fast).await.map_err(|error| self.not_grown(error))?;
        }
        Ok(growth(&before, &next))
    }

    /// Writes a superblock with larger parts and, by the device, a larger window; what is new of that is free then.
    async fn write_grown(&self, next: &mut Superblock) -> StoreResult<()> {
        next.generation += 1;
        // Before it is written: a part of it may be on the device if that fails, and the next one is another.
        self.superblock.borrow_mut().generation = next.generation + 1;
        let written = open::write_superblock(&*self.device, next).await.map_err(|error| match error {
            OpenError::Device(error) => self.device_failed(&error),
            error => StoreError::Io(error.to_string()),
        })?;
        self.superblock.replace(next.clone());
        self.counters.superblock_bytes_written.add(written);
        self.space.grow(next.window);
        self.nothing_to_lend.set(false);
        self.kv_room.attempts.forget();
        self.progress.notify_all();
        log::info!("store {} has {} bytes now", next.store, next.window);
        Ok(())
    }

    fn not_grown(&self, error: KvError) -> StoreError {
        match error {
            KvError::Full(reason) => StoreError::NoSpace(reason),
            error => self.kv_failed(&error),
        }
    }
}

/// What each device of the store has become.
fn growth(before: &Superblock, after: &Superblock) -> Vec<DeviceGrowth> {
    let main = DeviceGrowth { role: Role::Main, before: before.window, bytes: after.window };
    let part = |role: Role| {
        let (before, after) = (before.parts.get(role)?, after.parts.get(role)?);
        Some(DeviceGrowth { role, before: before.len, bytes: after.len })
    };
    std::iter::once(main).chain(Role::BESIDE.into_iter().filter_map(part)).collect()
}
