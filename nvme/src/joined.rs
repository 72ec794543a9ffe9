//! [`Joined`]: up to three devices in one space of addresses, and [`BlockingJoined`], the same for foreign threads.
//!
//! A joined device looks like its first member, and so has that one's size; the others lie at far addresses, each from
//! [`member_base`] of its slot on. No I/O spans members. Each member has a cache of its own that power loss takes by
//! itself: a flush goes to every member with writes that completed since its last one. All handles on one joined device
//! share a [`JoinedState`], so that a flush through one covers what was written through another, and that a flush that
//! failed on one member poisons all members for all handles.

mod blocking;
mod state;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use rt::LocalBoxFuture;

pub use blocking::BlockingJoined;
pub use state::JoinedState;

use crate::buffer::DmaBuf;
use crate::check::{self, Bounds};
use crate::device::{BlockDevice, DeviceError, DeviceResult, Geometry, MemberSizes};
use crate::limits::{MEMBER_SHIFT, MEMBERS_MAX};

/// The first address of a member.
pub fn member_base(slot: usize) -> u64 {
    assert!(slot < MEMBERS_MAX, "slot {slot} of a joined device");
    (slot as u64) << MEMBER_SHIFT
}

/// The slot that an address is in, and the offset there. The slot may be one that no device has.
pub fn member_of(address: u64) -> (usize, u64) {
    ((address >> MEMBER_SHIFT) as usize, address & ((1 << MEMBER_SHIFT) - 1))
}

/// What a joined device is. Of each member it has a whole number of the largest blocks.
#[derive(Clone, Debug)]
struct Shape {
    name: String,
    geometry: Geometry,
    /// Which members have a cache that power loss takes.
    volatile: [bool; MEMBERS_MAX],
}

impl Shape {
    fn new<'a>(members: impl IntoIterator<Item = Option<(&'a Geometry, &'a str)>>) -> Self {
        let members: Vec<_> = members.into_iter().collect();
        assert!(members.len() <= MEMBERS_MAX, "{} members of a joined device", members.len());
        let Some(Some((first, name))) = members.first().copied() else {
            panic!("a joined device has a first member");
        };
        let all = || members.iter().flatten().map(|(geometry, _)| *geometry);
        let block_size = all().map(|one| one.block_size).max().unwrap_or(first.block_size);
        let mut shape = Self {
            name: name.to_owned(),
            geometry: Geometry {
                block_size,
                atomic_write_unit: all().map(|one| one.atomic_write_unit).min().unwrap_or(512),
                volatile_cache: all().any(|one| one.volatile_cache),
                io_max: all().map(|one| one.io_max).min().unwrap_or(first.io_max).max(block_size),
                ..first.clone()
            },
            volatile: [false; MEMBERS_MAX],
        };
        for (slot, member) in members.iter().enumerate() {
            let Some((geometry, name)) = member else { continue };
            assert!(geometry.size < 1 << MEMBER_SHIFT, "{name} reaches into the next member's addresses");
            shape.volatile[slot] = geometry.volatile_cache;
            if slot > 0 {
                shape.name += &format!(" + {name}");
            }
        }
        shape.geometry.size = shape.whole_blocks(first.size);
        shape
    }

    /// Slot and offset of an I/O that lies within a member.
    ///
    /// `size_of` is what a member has now, none if there is no such member.
    fn place(
        &self,
        op: &'static str,
        address: u64,
        len: u64,
        size_of: impl Fn(usize) -> Option<u64>,
    ) -> DeviceResult<(usize, u64)> {
        let (slot, offset) = member_of(address);
        let size = size_of(slot).map_or(0, |size| self.whole_blocks(size));
        let bounds = Bounds { size, block_size: self.geometry.block_size };
        let checked = check::range(op, bounds, &self.name, offset, len);
        checked.map(|()| (slot, offset)).map_err(|error| match error {
            DeviceError::Range { op, len, device, block_size, .. } => {
                DeviceError::Range { op, offset: address, len, device, block_size }
            }
            other => other,
        })
    }

    fn whole_blocks(&self, size: u64) -> u64 {
        let block = u64::from(self.geometry.block_size);
        size / block * block
    }
}

/// See the module. Lives on its members' core.
pub struct Joined {
    members: Vec<Option<Rc<dyn BlockDevice>>>,
    shape: Shape,
    state: Arc<JoinedState>,
}

impl Joined {
    /// Joins devices, each in the slot of its place in the list; the first must be there.
    pub fn new(members: Vec<Option<Rc<dyn BlockDevice>>>, state: Arc<JoinedState>) -> Self {
        let shape = Shape::new(
            members.iter().map(|member| member.as_ref().map(|member| (member.geometry(), member.name()))),
        );
        Self { members, shape, state }
    }

    fn member(
        &self,
        op: &'static str,
        address: u64,
        len: u64,
    ) -> DeviceResult<(usize, &Rc<dyn BlockDevice>, u64)> {
        self.state.check(&self.shape.name)?;
        let size_of = |slot: usize| Some(self.members.get(slot)?.as_ref()?.size());
        let (slot, offset) = self.shape.place(op, address, len, size_of)?;
        match self.members.get(slot) {
            Some(Some(member)) => Ok((slot, member, offset)),
            _ => unreachable!("a member without a device has no bytes"),
        }
    }
}

fn failed<T: 'static>(error: DeviceError) -> LocalBoxFuture<'static, DeviceResult<T>> {
    Box::pin(std::future::ready(Err(error)))
}

impl BlockDevice for Joined {
    fn geometry(&self) -> &Geometry {
        &self.shape.geometry
    }

    fn size(&self) -> u64 {
        self.members.iter().flatten().next().map_or(0, |first| self.shape.whole_blocks(first.size()))
    }

    fn look_again(&self) -> LocalBoxFuture<'static, DeviceResult<MemberSizes>> {
        let look = |member: &Option<Rc<dyn BlockDevice>>| member.as_ref().map(|member| member.look_again());
        let looks: Vec<_> = self.members.iter().map(look).collect();
        let shape = self.shape.clone();
        Box::pin(async move {
            let mut sizes = MemberSizes::default();
            for (size, look) in sizes.iter_mut().zip(looks) {
                let Some(look) = look else { continue };
                let [first, ..] = look.await?;
                *size = shape.whole_blocks(first);
            }
            Ok(sizes)
        })
    }

    fn name(&self) -> &str {
        &self.shape.name
    }

    fn read(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let (_, member, offset) = match self.member("read", offset, buf.len() as u64) {
            Ok(place) => place,
            Err(error) => return failed(error),
        };
        let (done, state) = (member.read(offset, buf), Arc::clone(&self.state));
        Box::pin(async move { state.note(done.await) })
    }

    fn write(&self, offset: u64, buf: DmaBuf) -> LocalBoxFuture<'static, DeviceResult<DmaBuf>> {
        let (slot, member, offset) = match self.member("write", offset, buf.len() as u64) {
            Ok(place) => place,
            Err(error) => return failed(error),
        };
        let (done, write) = (member.write(offset, buf), state::Write::new(Arc::clone(&self.state), slot));
        Box::pin(async move {
            let result = done.await;
            write.completed().note(result)
        })
    }

    fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        if let Err(error) = self.state.check(&self.shape.name) {
            return failed(error);
        }
        let mut flushes = Vec::new();
        for (slot, member) in self.members.iter().enumerate() {
            let Some(member) = member.as_ref().filter(|_| self.shape.volatile[slot]) else { continue };
            if let Some(upto) = self.state.wants_flush(slot) {
                flushes.push((slot, upto, member.flush()));
            }
        }
        let state = Arc::clone(&self.state);
        // They are all under way; waiting for one after the other takes no longer.
        Box::pin(async move {
            let mut result = Ok(());
            for (slot, upto, flush) in flushes {
                match state.note(flush.await) {
                    Ok(()) => state.flushed(slot, upto),
                    Err(error) => result = Err(error),
                }
            }
            result
        })
    }

    fn discard(&self, offset: u64, len: u64) -> LocalBoxFuture<'static, DeviceResult<()>> {
        let (_, member, offset) = match self.member("discard", offset, len) {
            Ok(place) => place,
            Err(error) => return failed(error),
        };
        let (done, state) = (member.discard(offset, len), Arc::clone(&self.state));
        Box::pin(async move { state.note(done.await) })
    }
}
