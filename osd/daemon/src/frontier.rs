//! How far the writes of a placement group are durable, for answers that show them.
//!
//! Invariant: positions are given in submission order and reached in that order, because the store makes them durable
//! in that order. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use rt::sync::{OneSender, oneshot};

/// Position of a write among those of its group; 0 is before all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

impl Position {
    /// The position before this one.
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The store went down: what is not durable by now never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store went down before the writes shown were durable")]
pub struct Abandoned;

/// The frontier.
#[derive(Default)]
pub struct Frontier {
    issued: Cell<u64>,
    reached: Cell<u64>,
    abandoned: Cell<bool>,
    waiting: RefCell<BTreeMap<u64, Vec<OneSender<()>>>>,
}

impl Frontier {
    /// Position of a write that is submitted now.
    pub fn issue(&self) -> Position {
        self.issued.set(self.issued.get() + 1);
        Position(self.issued.get())
    }

    /// Position of the newest write.
    pub fn newest(&self) -> Position {
        Position(self.issued.get())
    }

    /// Whether everything up to `position` is durable.
    pub fn is_reached(&self, position: Position) -> bool {
        position.0 <= self.reached.get()
    }

    /// Everything up to `position` is durable (or was refused, and shows nowhere).
    pub fn advance(&self, position: Position) {
        assert!(position.0 <= self.issued.get(), "invariant: only issued positions are reached");
        if position.0 <= self.reached.get() {
            return;
        }
        self.reached.set(position.0);
        let still = self.waiting.borrow_mut().split_off(&(position.0 + 1));
        let woken = self.waiting.replace(still);
        for waiter in woken.into_values().flatten() {
            // One that no longer waits lost its connection.
            waiter.send(()).unwrap_or(());
        }
    }

    /// Nothing more will be reached; all who wait are told.
    pub fn abandon(&self) {
        self.abandoned.set(true);
        self.waiting.take();
    }

    /// Waits until everything up to `position` is durable.
    pub async fn reach(&self, position: Position) -> Result<(), Abandoned> {
        if self.is_reached(position) {
            return Ok(());
        }
        if self.abandoned.get() {
            return Err(Abandoned);
        }
        let (sender, receiver) = oneshot();
        self.waiting.borrow_mut().entry(position.0).or_default().push(sender);
        receiver.await.map_err(|_closed| Abandoned)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use rt::Group;
    use rt::sim::{Config, Sim};

    use super::*;

    #[test]
    fn waiters_go_on_in_order_when_their_position_is_reached() {
        let sim = Sim::new(1, Config::default());
        sim.run(0, |core| async move {
            let frontier = Rc::new(Frontier::default());
            let positions: Vec<Position> = (0..4).map(|_| frontier.issue()).collect();
            assert!(frontier.is_reached(Position::default()) && !frontier.is_reached(positions[0]));
            let positions_end = positions[3];
            let seen = Rc::new(RefCell::new(Vec::new()));
            for &position in positions.iter().rev() {
                let (frontier, seen) = (frontier.clone(), seen.clone());
                core.spawn(Group::Client, "wait", async move {
                    assert_eq!(frontier.reach(position).await.is_ok(), position < positions_end);
                    seen.borrow_mut().push(position);
                });
            }
            core.sleep(Duration::from_millis(1)).await;
            frontier.advance(positions[1]);
            core.sleep(Duration::from_millis(1)).await;
            let mut first = seen.take();
            first.sort_unstable();
            assert_eq!(first, positions[..2]);
            frontier.advance(positions[0]);
            assert!(frontier.is_reached(positions[1]));
            frontier.advance(positions[2]);
            core.sleep(Duration::from_millis(1)).await;
            assert_eq!(seen.borrow().len(), 1);
            // The last one never comes.
            frontier.abandon();
            core.sleep(Duration::from_millis(1)).await;
            assert_eq!(seen.borrow().len(), 2);
            assert_eq!(frontier.reach(positions[3]).await, Err(Abandoned));
            assert_eq!(frontier.reach(positions[2]).await, Ok(()));
        });
    }
}
