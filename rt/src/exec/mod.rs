//! The executor of one core: tasks in a slab, run by group shares. Shared by our own worlds.
//!
//! Invariant: no user code (poll, drop of a future) runs while the slab is borrowed, so tasks may spawn, wake
//! and cancel each other, and themselves, at any moment. Lives on one core; a simulated world has one executor
//! per host on the same thread.

mod registry;
mod shares;
mod stall;
mod waker;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::Context;

use crate::core::{Group, LocalBoxFuture, Task};
use crate::limits::{GROUPS, TASKS_MAX};

pub(crate) use registry::Remote;
pub(crate) use shares::Shares;
pub use stall::Stalls;
use waker::TaskId;

/// Tasks of one core.
pub(crate) struct Executor {
    tasks: Rc<Tasks>,
    remote: std::sync::Arc<Remote>,
    foreign_wakes: Cell<u64>,
}

/// What wakers and [`Task`] handles reach.
pub(crate) struct Tasks {
    executor: u16,
    inner: RefCell<Inner>,
}

struct Inner {
    slots: Vec<Slot>,
    free: Vec<u32>,
    queues: [VecDeque<TaskId>; GROUPS],
    shares: Shares,
    live: usize,
    dead: bool,
}

struct Slot {
    generation: u32,
    state: State,
    queued: bool,
    group: Group,
    name: &'static str,
}

enum State {
    Free,
    Waiting(LocalBoxFuture<'static, ()>),
    /// Taken out to be polled.
    Running,
    /// Cancelled while being polled; the future is dropped after the poll.
    Cancelled,
}

/// What [`Executor::poll_one`] did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polled {
    pub name: &'static str,
    pub group: Group,
    pub slot: u32,
    pub finished: bool,
}

impl Executor {
    /// `remote` is how other threads reach this core.
    pub fn new(remote: Remote) -> Self {
        let remote = std::sync::Arc::new(remote);
        let executor = registry::register(remote.clone());
        let tasks = Rc::new(Tasks {
            executor,
            inner: RefCell::new(Inner {
                slots: Vec::new(),
                free: Vec::new(),
                queues: Default::default(),
                shares: Shares::default(),
                live: 0,
                dead: false,
            }),
        });
        waker::enter(executor, tasks.clone());
        Self { tasks, remote, foreign_wakes: Cell::new(0) }
    }

    /// How other threads reach this core.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Adds a task, ready to run. After [`Executor::kill`] the future is dropped at once.
    pub fn spawn(&self, group: Group, name: &'static str, future: LocalBoxFuture<'static, ()>) -> Task {
        let id = {
            let mut inner = self.tasks.inner.borrow_mut();
            if inner.dead { None } else { Some(inner.insert(self.tasks.executor, group, name, future)) }
        };
        let tasks = Rc::downgrade(&self.tasks);
        Task::new(move || {
            if let (Some(id), Some(tasks)) = (id, Weak::upgrade(&tasks)) {
                tasks.cancel(id);
            }
        })
    }

    /// Tasks that have not finished.
    pub fn live(&self) -> usize {
        self.tasks.inner.borrow().live
    }

    /// Whether a task may be ready. May be true for tasks cancelled since.
    pub fn has_ready(&self) -> bool {
        self.tasks.inner.borrow().queues.iter().any(|queue| !queue.is_empty())
    }

    /// Wakes the tasks that other threads woke.
    pub fn drain_remote(&self) {
        self.remote.drain(|bits| {
            self.foreign_wakes.set(self.foreign_wakes.get() + 1);
            self.tasks.wake(TaskId::from_bits(bits));
        });
    }

    /// Wakes by other threads so far.
    pub fn foreign_wakes(&self) -> u64 {
        self.foreign_wakes.get()
    }

    /// Polls one ready task; none if there is none. `pick` chooses: given the shares and the lengths of the ready
    /// queues, a group whose queue is not empty and a position in it.
    pub fn poll_one(&self, pick: impl FnOnce(&Shares, [usize; GROUPS]) -> (Group, usize)) -> Option<Polled> {
        let (id, mut future, group, name) = self.tasks.inner.borrow_mut().take_ready(pick)?;
        let waker = id.waker();
        let finished = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        // The future is dropped after the borrow has ended.
        let _dropped = self.tasks.inner.borrow_mut().put_back(id, future, finished);
        Some(Polled { name, group, slot: id.slot(), finished })
    }

    /// Charges the group of the last poll with the time it took; any unit, the same for all.
    pub fn charge(&self, group: Group, time: u64) {
        self.tasks.inner.borrow_mut().shares.charge(group, time);
    }

    /// Drops all tasks; later ones are dropped as they are spawned. Safe to call twice.
    pub fn kill(&self) {
        self.tasks.inner.borrow_mut().dead = true;
        let mut index = 0;
        loop {
            let future = {
                let mut inner = self.tasks.inner.borrow_mut();
                if index >= inner.slots.len() {
                    break;
                }
                inner.cancel_slot(index)
            };
            drop(future);
            index += 1;
        }
        for queue in &mut self.tasks.inner.borrow_mut().queues {
            queue.clear();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.kill();
        waker::leave(self.tasks.executor);
        registry::unregister(self.tasks.executor);
    }
}

impl Tasks {
    /// Makes a task ready unless it already is or is gone.
    fn wake(&self, id: TaskId) {
        self.inner.borrow_mut().wake(id);
    }

    fn cancel(&self, id: TaskId) {
        let future = {
            let mut inner = self.inner.borrow_mut();
            if inner.is_current(id) { inner.cancel_slot(id.slot() as usize) } else { None }
        };
        drop(future);
    }
}

impl Inner {
    fn insert(
        &mut self,
        executor: u16,
        group: Group,
        name: &'static str,
        future: LocalBoxFuture<'static, ()>,
    ) -> TaskId {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                assert!(self.slots.len() < TASKS_MAX, "too many tasks on one core, the last is {name}");
                self.slots.push(Slot { generation: 0, state: State::Free, queued: false, group, name });
                (self.slots.len() - 1) as u32
            }
        };
        let entry = &mut self.slots[slot as usize];
        entry.state = State::Waiting(future);
        entry.queued = false;
        entry.group = group;
        entry.name = name;
        let id = TaskId::new(executor, entry.generation, slot);
        self.live += 1;
        self.wake(id);
        id
    }

    fn is_current(&self, id: TaskId) -> bool {
        self.slots.get(id.slot() as usize).is_some_and(|slot| {
            slot.generation == id.generation() && !matches!(slot.state, State::Free | State::Cancelled)
        })
    }

    fn wake(&mut self, id: TaskId) {
        if !self.is_current(id) {
            return;
        }
        let slot = &mut self.slots[id.slot() as usize];
        if slot.queued {
            return;
        }
        slot.queued = true;
        let queue = &mut self.queues[slot.group as usize];
        if queue.is_empty() {
            self.shares.activate(slot.group);
        }
        queue.push_back(id);
    }

    fn take_ready(
        &mut self,
        pick: impl FnOnce(&Shares, [usize; GROUPS]) -> (Group, usize),
    ) -> Option<(TaskId, LocalBoxFuture<'static, ()>, Group, &'static str)> {
        // Tasks cancelled while they were queued are still in the queues. Shed those at the heads, so that each
        // queue that is not empty starts with a task.
        for group in 0..GROUPS {
            while let Some(&id) = self.queues[group].front() {
                if self.is_current(id) {
                    break;
                }
                self.queues[group].pop_front();
            }
        }
        let lengths = [self.queues[0].len(), self.queues[1].len(), self.queues[2].len()];
        if lengths.iter().all(|&length| length == 0) {
            return None;
        }
        let (group, mut position) = pick(&self.shares, lengths);
        if !self.queues[group as usize].get(position).is_some_and(|&id| self.is_current(id)) {
            position = 0;
        }
        let id = self.queues[group as usize].remove(position)?;
        self.shares.picked(group);
        let slot = &mut self.slots[id.slot() as usize];
        slot.queued = false;
        match std::mem::replace(&mut slot.state, State::Running) {
            State::Waiting(future) => Some((id, future, group, slot.name)),
            State::Free | State::Running | State::Cancelled => {
                unreachable!("task {} polls the executor that runs it", slot.name)
            }
        }
    }

    /// After a poll. Returns what the caller has to drop.
    fn put_back(
        &mut self,
        id: TaskId,
        future: LocalBoxFuture<'static, ()>,
        finished: bool,
    ) -> Option<LocalBoxFuture<'static, ()>> {
        let slot = &mut self.slots[id.slot() as usize];
        assert!(slot.generation == id.generation(), "a running task keeps its slot");
        if finished || matches!(slot.state, State::Cancelled) {
            self.release(id.slot() as usize);
            return Some(future);
        }
        slot.state = State::Waiting(future);
        None
    }

    fn cancel_slot(&mut self, index: usize) -> Option<LocalBoxFuture<'static, ()>> {
        let slot = &mut self.slots[index];
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Free => None,
            State::Running | State::Cancelled => {
                slot.state = State::Cancelled;
                None
            }
            State::Waiting(future) => {
                self.release(index);
                Some(future)
            }
        }
    }

    fn release(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.state = State::Free;
        slot.queued = false;
        slot.generation = (slot.generation + 1) & TaskId::GENERATION_MASK;
        self.free.push(index as u32);
        self.live -= 1;
    }
}

#[cfg(test)]
mod tests;
