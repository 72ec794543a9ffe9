//! Taking up a larger device while the store is open.
//!
//! Order: the key-value store's file system knows, durably, that the device is larger, as what it is lent from now on may lie
//! there → the superblock says so, the copy at the new end first → what is new can be allocated. A crash in between leaves a
//! store as large as before on a larger device, or a larger one with nothing in what is new; either mounts, and is the larger
//! one then. Checkpoints say of which window their free list is.

use std::rc::Rc;

use super::open::{self, OpenError};
use super::state::{Inner, Purpose};
use crate::object_store::{StoreError, StoreResult};
use crate::superblock::Superblock;

impl Inner {
    /// See the seam.
    pub async fn grow(self: Rc<Self>) -> StoreResult<u64> {
        self.check_open()?;
        if self.purpose != Purpose::Serve {
            return Err(StoreError::Invalid("a store that is open to look only does not grow".into()));
        }
        let Some(_pass) = self.gate.enter() else { return Err(StoreError::Down("closed".into())) };
        let _turn = self.growing.acquire(1).await;
        let size = self.device.look_again().await.map_err(|error| self.device_failed(&error))?;
        let window = size / self.block * self.block;
        if window <= self.window() {
            return Ok(self.window());
        }
        self.kv.grow(window).await.map_err(|error| match error {
            bluefs::kv::KvError::Full(reason) => StoreError::NoSpace(reason),
            error => self.kv_failed(&error),
        })?;
        self.check_up()?;
        let mut next = Superblock {
            window: self.window(),
            generation: self.superblock_generation.get() + 1,
            ..self.superblock.clone()
        };
        // Before it is written: a part of it may be on the device if that fails, and the next one is another.
        self.superblock_generation.set(next.generation + 1);
        let written =
            open::write_superblock(&*self.device, &mut next).await.map_err(|error| match error {
                OpenError::Device(error) => self.device_failed(&error),
                error => StoreError::Io(error.to_string()),
            })?;
        self.superblock_generation.set(next.generation);
        self.counters.superblock_bytes_written.add(written);
        self.space.grow(next.window);
        self.nothing_to_lend.set(false);
        self.progress.notify_all();
        log::info!("store {} has {} bytes now", next.store, next.window);
        Ok(next.window)
    }
}
