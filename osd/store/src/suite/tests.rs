//! The memory store passes its own suite.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::MemStore;

struct MemHost(Option<Rc<MemStore>>);

impl Host for MemHost {
    fn fresh(&mut self) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        let store = Rc::new(MemStore::new(64 << 20));
        self.0 = Some(Rc::clone(&store));
        Box::pin(async move { store as Rc<dyn ObjectStore> })
    }

    fn reopen(&mut self, store: Rc<dyn ObjectStore>) -> LocalBoxFuture<'_, Rc<dyn ObjectStore>> {
        Box::pin(async move {
            store.close().await.expect("close");
            let again = Rc::new(self.0.as_ref().expect("fresh comes first").reopen());
            self.0 = Some(Rc::clone(&again));
            again as Rc<dyn ObjectStore>
        })
    }
}

/// Polls until done. Nothing in the memory store waits for anything but a turn.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
    panic!("the future waits for something that never comes");
}

#[test]
fn memstore_conforms() {
    block_on(run(&mut MemHost(None)));
}
