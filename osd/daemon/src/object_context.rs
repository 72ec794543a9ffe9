//! Per object: the line of requests on it, what is known of its state, and the newest write it shows.
//!
//! Invariants: requests on one object run in the order they entered, reads beside reads; the state is known only as
//! long as it is what the store would tell. Lives on one core.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use futures_util::FutureExt;
use pg::ObjectState;
use rt::LocalBoxFuture;
use rt::sync::{Permit, Semaphore};
use store::ObjectId;

use crate::frontier::{Frontier, Position};
use crate::limits::{CONTEXTS_PER_GROUP_MAX, READERS_PER_OBJECT_MAX};

/// How many idle objects are looked at to make room for a new one.
const EVICTION_TRIES: usize = 4;

/// How a request uses its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Beside other reads.
    Read,
    /// Alone.
    Write,
}

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing; the store must be asked.
    Nothing,
    /// Its state; `None` if it does not exist.
    State(Option<ObjectState>),
}

/// One object.
pub struct ObjectContext {
    line: Semaphore,
    known: Cell<Known>,
    shows: Cell<Position>,
    used: Cell<bool>,
}

impl ObjectContext {
    fn new() -> Self {
        Self {
            line: Semaphore::new(READERS_PER_OBJECT_MAX),
            known: Cell::new(Known::Nothing),
            shows: Cell::new(Position::default()),
            used: Cell::new(true),
        }
    }

    /// What is known.
    pub fn known(&self) -> Known {
        self.known.get()
    }

    /// The store told, or a write leaves this.
    pub fn learn(&self, state: Option<ObjectState>) {
        self.known.set(Known::State(state));
    }

    /// A write failed in the store: ask it again.
    pub fn forget(&self) {
        self.known.set(Known::Nothing);
    }

    /// The newest write of the object: an answer that shows its state waits for this.
    pub fn shows(&self) -> Position {
        self.shows.get()
    }

    /// A write was submitted.
    pub fn written(&self, position: Position) {
        self.shows.set(position);
    }
}

/// A place in the line of an object, taken when this was made.
pub struct Place {
    context: Rc<ObjectContext>,
    turn: Turn,
}

enum Turn {
    Now(Permit),
    Later(LocalBoxFuture<'static, Permit>),
}

impl Place {
    /// Waits for its turn, which lasts until the permit is dropped.
    pub async fn turn(self) -> (Rc<ObjectContext>, Permit) {
        let permit = match self.turn {
            Turn::Now(permit) => permit,
            Turn::Later(waiting) => waiting.await,
        };
        (self.context, permit)
    }
}

/// An object's name with its placement hash in front, which is a good hash already.
#[derive(Clone, PartialEq, Eq)]
struct Key(ObjectId);

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u32(self.0.hash);
    }
}

/// Spreads placement hashes, which share their low bits within a group. Clients can make them collide; then finding an
/// object takes as long as the bound on remembered objects allows.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = (self.0 << 8) ^ u64::from(*byte));
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = u64::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The objects of one placement group. The map is never iterated.
#[derive(Default)]
pub struct ObjectContexts {
    by_name: RefCell<HashMap<Key, Rc<ObjectContext>, BuildHasherDefault<Spread>>>,
    /// Every known object once, in no useful order but that of the clock's hand.
    hand: RefCell<VecDeque<Key>>,
}

impl ObjectContexts {
    /// Takes a place in the object's line, now: places are served in the order of these calls.
    pub fn enter(&self, object: &ObjectId, access: Access, frontier: &Frontier) -> Place {
        let context = self.context(object, frontier);
        let amount = match access {
            Access::Read => 1,
            Access::Write => READERS_PER_OBJECT_MAX,
        };
        let turn = match context.line.try_acquire(amount) {
            Some(permit) => Turn::Now(permit),
            None => {
                // A place in the semaphore's line is taken at the first poll, so poll here; whoever is woken before
                // the task polls again finds its permit then.
                let mut waiting: LocalBoxFuture<'static, Permit> = Box::pin(context.line.acquire(amount));
                match (&mut waiting).now_or_never() {
                    Some(permit) => Turn::Now(permit),
                    None => Turn::Later(waiting),
                }
            }
        };
        Place { context, turn }
    }

    /// Objects remembered.
    pub fn len(&self) -> usize {
        self.by_name.borrow().len()
    }

    fn context(&self, object: &ObjectId, frontier: &Frontier) -> Rc<ObjectContext> {
        let key = Key(object.clone());
        if let Some(context) = self.by_name.borrow().get(&key) {
            context.used.set(true);
            return context.clone();
        }
        self.make_room(frontier);
        let context = Rc::new(ObjectContext::new());
        self.by_name.borrow_mut().insert(key.clone(), context.clone());
        self.hand.borrow_mut().push_back(key);
        context
    }

    /// Forgets an object that nobody uses, if there are too many. Above the bound by the requests in progress at most.
    fn make_room(&self, frontier: &Frontier) {
        let mut by_name = self.by_name.borrow_mut();
        let mut hand = self.hand.borrow_mut();
        for _ in 0..EVICTION_TRIES {
            if by_name.len() < CONTEXTS_PER_GROUP_MAX {
                return;
            }
            let Some(name) = hand.pop_front() else { return };
            let idle = by_name.get(&name).is_some_and(|context| {
                let idle = Rc::strong_count(context) == 1 && frontier.is_reached(context.shows.get());
                idle && !context.used.replace(false)
            });
            if idle {
                by_name.remove(&name);
            } else {
                hand.push_back(name);
            }
        }
    }
}
