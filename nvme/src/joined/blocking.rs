//! [`BlockingJoined`]: a joined device for foreign threads.

use std::sync::Arc;

use super::{JoinedState, Shape};
use crate::blocking::BlockingDevice;
use crate::check;
use crate::device::{DeviceResult, Geometry};

/// See the module above. A flush flushes one member after the other.
pub struct BlockingJoined {
    members: Vec<Option<Arc<dyn BlockingDevice>>>,
    shape: Shape,
    state: Arc<JoinedState>,
}

impl BlockingJoined {
    /// Joins devices, each in the slot of its place in the list; the first must be there.
    pub fn new(members: Vec<Option<Arc<dyn BlockingDevice>>>, state: Arc<JoinedState>) -> Self {
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
    ) -> DeviceResult<(usize, &Arc<dyn BlockingDevice>, u64)> {
        self.state.check(&self.shape.name)?;
        let size_of = |slot: usize| Some(self.members.get(slot)?.as_ref()?.size());
        let (slot, offset) = self.shape.place(op, address, len, size_of)?;
        match self.members.get(slot) {
            Some(Some(member)) => Ok((slot, member, offset)),
            _ => unreachable!("a member without a device has no bytes"),
        }
    }

    /// Blocks of the joined device may be larger than the member's, and so is the alignment of memory.
    fn check_memory(&self, op: &'static str, memory: &[u8]) -> DeviceResult<()> {
        let len = memory.len() as u64;
        let whole = Geometry { size: u64::MAX, ..self.shape.geometry.clone() };
        if len == 0 { Ok(()) } else { check::lent_memory(op, &whole, &self.shape.name, 0, memory) }
    }
}

impl BlockingDevice for BlockingJoined {
    fn geometry(&self) -> &Geometry {
        &self.shape.geometry
    }

    fn size(&self) -> u64 {
        self.members.iter().flatten().next().map_or(0, |first| self.shape.whole_blocks(first.size()))
    }

    fn name(&self) -> &str {
        &self.shape.name
    }

    fn read_at(&self, offset: u64, memory: &mut [u8]) -> DeviceResult<()> {
        let (_, member, offset) = self.member("read", offset, memory.len() as u64)?;
        self.check_memory("read", memory)?;
        self.state.note(member.read_at(offset, memory))
    }

    fn write_at(&self, offset: u64, memory: &[u8]) -> DeviceResult<()> {
        let (slot, member, offset) = self.member("write", offset, memory.len() as u64)?;
        self.check_memory("write", memory)?;
        let written = member.write_at(offset, memory);
        self.state.completed(slot);
        self.state.note(written)
    }

    fn flush(&self) -> DeviceResult<()> {
        self.state.check(&self.shape.name)?;
        for (slot, member) in self.members.iter().enumerate() {
            let Some(member) = member.as_ref().filter(|_| self.shape.volatile[slot]) else { continue };
            if let Some(upto) = self.state.wants_flush(slot) {
                self.state.note(member.flush())?;
                self.state.flushed(slot, upto);
            }
        }
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> DeviceResult<()> {
        let (_, member, offset) = self.member("discard", offset, len)?;
        self.state.note(member.discard(offset, len))
    }
}
