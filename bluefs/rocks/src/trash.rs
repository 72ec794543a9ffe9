//! [`Trash`]: things that must not be dropped on a core, on their way to a foreign thread.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

use rt::{Core, Group, Lane};

type Thing = Box<dyn Any + Send>;

/// See the module. What gathers while a job is under way goes with the next.
pub(crate) struct Trash {
    core: Core,
    things: RefCell<Vec<Thing>>,
    sweeping: Cell<bool>,
}

impl Trash {
    pub(crate) fn new(core: Core) -> Rc<Self> {
        Rc::new(Self { core, things: RefCell::default(), sweeping: Cell::new(false) })
    }

    /// Has `thing` dropped on a foreign thread, some time.
    pub(crate) fn throw(self: &Rc<Self>, thing: impl Any + Send) {
        self.things.borrow_mut().push(Box::new(thing));
        if !self.sweeping.replace(true) {
            let trash = Rc::clone(self);
            self.core.spawn(Group::Background, "kv trash", async move { trash.sweep().await });
        }
    }

    /// Returns when everything thrown before is gone.
    pub(crate) async fn sweep(&self) {
        loop {
            let things = self.things.take();
            if things.is_empty() {
                self.sweeping.set(false);
                return;
            }
            self.core.alien(Lane::Compaction, move || drop(things)).await;
        }
    }
}
