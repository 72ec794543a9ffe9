//! A limit on how long a future may take. Lives on one core.

use std::future::Future;
use std::time::Duration;

use super::select::{Either, select};
use crate::core::{Core, Nanos};

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the time was up")]
pub struct Elapsed;

/// Waits for `future` for at most `limit`; drops it when the time is up.
pub async fn timeout<F: Future>(core: &Core, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
    match select(future, core.sleep(limit)).await {
        Either::Left(value) => Ok(value),
        Either::Right(()) => Err(Elapsed),
    }
}

/// Waits for `future` until `time`; drops it when the time has come.
pub async fn deadline<F: Future>(core: &Core, time: Nanos, future: F) -> Result<F::Output, Elapsed> {
    match select(future, core.sleep_until(time)).await {
        Either::Left(value) => Ok(value),
        Either::Right(()) => Err(Elapsed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_is_first() {
        super::super::run(|core| async move {
            let limit = Duration::from_millis(10);
            assert_eq!(timeout(&core, limit, async { 5 }).await, Ok(5));
            assert_eq!(timeout(&core, limit, core.sleep(Duration::from_millis(5))).await, Ok(()));
            let start = core.now();
            assert_eq!(timeout(&core, limit, std::future::pending::<()>()).await, Err(Elapsed));
            assert!(core.now().0 - start.0 >= 10_000_000);
            assert_eq!(deadline(&core, start, std::future::pending::<()>()).await, Err(Elapsed));
        });
    }
}
