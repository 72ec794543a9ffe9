//! The first of two futures. Lives on one core.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Which future was first, with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first one.
    Left(A),
    /// The second one.
    Right(B),
}

/// Polls both, the left one first, and drops the loser. Pass `&mut future` to keep the loser; pass only cancel-safe
/// futures by value.
pub async fn select<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| {
        if let Poll::Ready(value) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}
