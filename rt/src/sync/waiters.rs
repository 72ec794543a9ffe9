//! A line of waiting tasks, first come first served. Lives on one core.

use std::collections::BTreeMap;
use std::task::Waker;

/// Place in the line, from [`Waiters::wait`].
pub(super) type Ticket = u64;

/// Who waits, in order, each with what it waits for.
pub(super) struct Waiters<T = ()> {
    next: Ticket,
    line: BTreeMap<Ticket, (Waker, T)>,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self { next: 0, line: BTreeMap::new() }
    }
}

impl<T> Waiters<T> {
    /// Joins the line at its end, or keeps the place of `ticket` with a new waker.
    pub fn wait(&mut self, ticket: &mut Option<Ticket>, waker: &Waker, what: T) {
        let ticket = *ticket.get_or_insert_with(|| {
            self.next += 1;
            self.next
        });
        match self.line.get_mut(&ticket) {
            Some(entry) => entry.0.clone_from(waker),
            None => {
                self.line.insert(ticket, (waker.clone(), what));
            }
        }
    }

    /// Leaves the line. False if it was not in it.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        self.line.remove(&ticket).is_some()
    }

    /// Whether `ticket` is in the line.
    pub fn contains(&self, ticket: Ticket) -> bool {
        self.line.contains_key(&ticket)
    }

    /// What the first waits for.
    pub fn first(&self) -> Option<&T> {
        self.line.first_key_value().map(|(_, (_, what))| what)
    }

    /// Takes the first out of the line and wakes it.
    pub fn wake_first(&mut self) -> Option<Ticket> {
        let (ticket, (waker, _)) = self.line.pop_first()?;
        waker.wake();
        Some(ticket)
    }

    /// Takes all out of the line and wakes them.
    pub fn wake_all(&mut self) {
        for (_, (waker, _)) in std::mem::take(&mut self.line) {
            waker.wake();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub fn len(&self) -> usize {
        self.line.len()
    }
}
