//! [`Flushes`]: flushes of one core, merged. Lives on one core.
//!
//! Invariant: at most one flush of the core is in the kernel; those asked for meanwhile share the next one, which is
//! submitted after them and so covers what each of them has to. The outcome is seen even if nobody waits for it: a
//! failure poisons the device.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use io_uring::{opcode, types};
use rt::sync::{OneSender, oneshot};
use rt::uring::Op;
use rt::{Group, LocalBoxFuture};

use super::{IoLane, Target};
use crate::device::{DeviceError, DeviceResult};

type Waiters = Vec<OneSender<DeviceResult<()>>>;

#[derive(Default)]
struct State {
    is_running: bool,
    /// Those who need the next flush.
    next: Waiters,
}

pub(super) struct Flushes {
    lane: Rc<IoLane>,
    state: Rc<RefCell<State>>,
}

impl Flushes {
    pub fn new(lane: Rc<IoLane>) -> Self {
        Self { lane, state: Rc::default() }
    }

    pub fn flush(&self) -> LocalBoxFuture<'static, DeviceResult<()>> {
        if let Err(error) = self.lane.device.admit() {
            return Box::pin(std::future::ready(Err(error)));
        }
        if !self.lane.device.geometry().volatile_cache {
            return Box::pin(std::future::ready(Ok(())));
        }
        let (sender, receiver) = oneshot();
        let starts = {
            let mut state = self.state.borrow_mut();
            state.next.push(sender);
            !std::mem::replace(&mut state.is_running, true)
        };
        if starts {
            let (lane, state) = (self.lane.clone(), self.state.clone());
            let first = (submit(&lane), take_waiters(&state));
            drop(self.lane.core.spawn(Group::Commit, "flush", run(lane, state, first)));
        }
        let name = self.lane.device.name().to_owned();
        Box::pin(async move { receiver.await.unwrap_or(Err(DeviceError::Gone { device: name })) })
    }
}

fn take_waiters(state: &RefCell<State>) -> Waiters {
    std::mem::take(&mut state.borrow_mut().next)
}

/// Flushes as long as somebody waits.
async fn run(lane: Rc<IoLane>, state: Rc<RefCell<State>>, first: (Op<Rc<IoLane>>, Waiters)) {
    let (mut op, mut waiters) = first;
    loop {
        let result = settle(&lane, op).await;
        for waiter in waiters {
            // Whoever dropped its future does not mind.
            let _ = waiter.send(result.clone());
        }
        if state.borrow().next.is_empty() {
            state.borrow_mut().is_running = false;
            return;
        }
        (op, waiters) = (submit(&lane), take_waiters(&state));
    }
}

async fn settle(lane: &Rc<IoLane>, mut op: Op<Rc<IoLane>>) -> DeviceResult<()> {
    lane.device.admit()?;
    loop {
        let (Err(error), _) = op.await else { return Ok(()) };
        match error.raw_os_error() {
            Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => rt::sync::yield_now().await,
            // The core ends; nothing is known to have failed.
            Some(libc::ECANCELED) => return Err(DeviceError::Gone { device: lane.device.name().to_owned() }),
            _ => return Err(poison(lane, &error)),
        }
        op = submit(lane);
    }
}

fn poison(lane: &IoLane, error: &io::Error) -> DeviceError {
    lane.device.poisoned_by(error)
}

#[expect(unsafe_code, reason = "the kernel gets a descriptor")]
fn submit(lane: &Rc<IoLane>) -> Op<Rc<IoLane>> {
    let flags = types::FsyncFlags::DATASYNC;
    let entry = match lane.target() {
        Target::Registered(file) => opcode::Fsync::new(file).flags(flags).build(),
        Target::Plain(file) => opcode::Fsync::new(file).flags(flags).build(),
    };
    // SAFETY: no memory is named, and the lane holds the file open.
    unsafe { lane.ring.submit(lane.clone(), |_| entry) }
}
