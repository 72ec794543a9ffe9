//! Orderly shutdown: work passes a gate, closing it turns new work away and waits for what is inside. Lives on one
//! core.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use super::notify::Event;

/// The gate; clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Rc<State>);

#[derive(Default)]
struct State {
    inside: Cell<usize>,
    closing: Event,
    empty: Event,
}

/// Being inside. Dropping it leaves.
#[must_use = "dropping a pass leaves the gate"]
pub struct Pass(Rc<State>);

impl Gate {
    /// Goes in; none once the gate is closing.
    pub fn enter(&self) -> Option<Pass> {
        if self.0.closing.is_set() {
            return None;
        }
        self.0.inside.set(self.0.inside.get() + 1);
        Some(Pass(self.0.clone()))
    }

    /// Turns new work away, tells those inside ([`Gate::closing`]), and waits until they have left. May be called by
    /// several; starts at the call, not at the first poll.
    pub fn close(&self) -> impl Future<Output = ()> + use<> {
        self.0.closing.set();
        if self.0.inside.get() == 0 {
            self.0.empty.set();
        }
        let state = self.0.clone();
        async move { state.empty.wait().await }
    }

    /// Whether the gate is closing or closed.
    pub fn is_closing(&self) -> bool {
        self.0.closing.is_set()
    }

    /// Waits until the gate is closing: for loops inside, to select on.
    pub fn closing(&self) -> impl Future<Output = ()> + use<> {
        let state = self.0.clone();
        async move { state.closing.wait().await }
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.0.inside.get()
    }
}

impl Pass {
    /// Waits until the gate is closing, like [`Gate::closing`].
    pub fn closing(&self) -> impl Future<Output = ()> + use<> {
        let state = self.0.clone();
        async move { state.closing.wait().await }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let left = self.0.inside.get() - 1;
        self.0.inside.set(left);
        if left == 0 && self.0.closing.is_set() {
            self.0.empty.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::Group;

    #[test]
    fn closing_waits_for_those_inside_and_admits_no_more() {
        super::super::run(|core| async move {
            let gate = Gate::default();
            let left = Rc::new(Cell::new(0));
            for number in 0..3_u64 {
                let Some(pass) = gate.enter() else { unreachable!("open") };
                let (left, sleeper) = (left.clone(), core.clone());
                core.spawn(Group::Background, "inside", async move {
                    pass.closing().await;
                    sleeper.sleep(Duration::from_millis(number)).await;
                    left.set(left.get() + 1);
                    drop(pass);
                });
            }
            core.sleep(Duration::from_millis(5)).await;
            assert_eq!((gate.inside(), left.get(), gate.is_closing()), (3, 0, false));
            let closed = gate.close();
            assert!(gate.enter().is_none());
            closed.await;
            assert_eq!((gate.inside(), left.get()), (0, 3));
            gate.close().await;
        });
    }
}
