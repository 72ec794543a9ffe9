//! Giving way. Lives on one core.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Gives other ready tasks a turn.
pub fn yield_now() -> impl Future<Output = ()> + 'static {
    YieldNow(false)
}

struct YieldNow(bool);

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
