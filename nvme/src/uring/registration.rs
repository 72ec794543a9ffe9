//! [`Registration`]: the buffer pool of a core, known to its ring. Lives on one core.
//!
//! Shared by all devices of the core; made with the first and gone with the last.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use rt::uring::{RegisteredBuffer, Ring};

use crate::buffer::DmaBuf;
use crate::pool::BufPool;

/// A pool and its place in the ring.
pub(super) struct Registration {
    // Dropped before the pool, which has to outlive it.
    place: RegisteredBuffer,
    pool: Arc<BufPool>,
}

thread_local! {
    static OF_THIS_CORE: RefCell<Weak<Registration>> = const { RefCell::new(Weak::new()) };
}

impl Registration {
    /// That of this core, made if need be; none where the system does not let so much memory be locked.
    #[expect(unsafe_code, reason = "the kernel gets pointers")]
    pub fn of_this_core(ring: &Ring) -> Option<Rc<Self>> {
        if let Some(registration) = OF_THIS_CORE.with(|this| this.borrow().upgrade()) {
            return Some(registration);
        }
        let pool = BufPool::new();
        let (start, len) = pool.region();
        // SAFETY: the pool is kept by the registration until it is dropped, and by each buffer in use.
        let place = match unsafe { ring.register_buffer(start, len) } {
            Ok(place) => place,
            Err(error) => {
                log::info!("buffers are not registered with the ring, which costs some CPU: {error}");
                return None;
            }
        };
        let registration = Rc::new(Self { place, pool: pool.clone() });
        BufPool::set_current(Some(pool));
        OF_THIS_CORE.with(|this| this.replace(Rc::downgrade(&registration)));
        Some(registration)
    }

    /// How an entry names the buffer's memory, if it belongs to this pool.
    pub fn index_of(&self, buf: &DmaBuf) -> Option<u16> {
        buf.pool().filter(|pool| Arc::ptr_eq(pool, &self.pool)).map(|_| self.place.index())
    }

    pub fn pool(&self) -> &Arc<BufPool> {
        &self.pool
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        BufPool::set_current(None);
    }
}
