//! Tasks with the semantics of [`crate::Task`] on those of glommio. Lives on one core.
//!
//! Invariant: a task's future is in its slot whenever it is not being polled, so that it can be dropped at once.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::core::LocalBoxFuture;

/// All tasks of a core that have not finished.
#[derive(Default)]
pub(super) struct Tasks {
    slots: RefCell<Slab<Rc<Slot>>>,
}

/// One task, shared by glommio, the handle and the list.
pub(super) struct Slot {
    future: RefCell<Option<LocalBoxFuture<'static, ()>>>,
    cancelled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    key: Cell<usize>,
}

impl Tasks {
    pub fn add(self: &Rc<Self>, future: LocalBoxFuture<'static, ()>) -> Rc<Slot> {
        let slot = Rc::new(Slot {
            future: RefCell::new(Some(future)),
            cancelled: Cell::new(false),
            waker: RefCell::new(None),
            key: Cell::new(0),
        });
        slot.key.set(self.slots.borrow_mut().insert(slot.clone()));
        slot
    }

    /// Drops all futures.
    pub fn kill(&self) {
        let slots = self.slots.take();
        for (_, slot) in &slots {
            slot.cancel();
        }
    }
}

impl Slot {
    /// Drops the future, now or at the end of the poll that is under way.
    pub fn cancel(&self) {
        self.cancelled.set(true);
        let future = self.future.borrow_mut().take();
        drop(future);
        self.waker.take().into_iter().for_each(Waker::wake);
    }
}

/// What glommio polls.
pub(super) struct Running {
    pub tasks: Rc<Tasks>,
    pub slot: Rc<Slot>,
}

impl Future for Running {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let slot = &self.slot;
        let Some(mut future) = slot.future.borrow_mut().take() else { return Poll::Ready(()) };
        let ready = future.as_mut().poll(cx).is_ready();
        if ready || slot.cancelled.get() {
            return Poll::Ready(());
        }
        *slot.future.borrow_mut() = Some(future);
        *slot.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut slots = self.tasks.slots.borrow_mut();
        let key = self.slot.key.get();
        if slots.get(key).is_some_and(|slot| Rc::ptr_eq(slot, &self.slot)) {
            slots.remove(key);
        }
    }
}
