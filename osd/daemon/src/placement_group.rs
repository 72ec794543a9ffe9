//! One placement group served by this OSD: takes requests in order, runs them, and answers once what the answer shows
//! is durable.
//!
//! Invariants: a request changes the group only in its turn on its object, and version, transaction and known state
//! change in one step without awaiting; no answer leaves before the writes it shows are durable. Lives on one core.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pg::{
    Execution, Group, GroupRange, ListQuery, ObjectState, ObjectView, Output, Request, execute, load_state,
};
use rt::Core;
use store::{CollectionId, ObjectId, ObjectStore, StoreError};
use wire::Errno;
use wire::msg::Op;
use wire::types::{Epoch, PgId};

use crate::answer::{Answer, Refusal, Room, Served, refusal, refuse_growth};
use crate::fault::{Fault, Planted};
use crate::frontier::{Frontier, Position};
use crate::limits::LIST_SCAN_MAX;
use crate::object_context::{Access, Known, ObjectContext, ObjectContexts, Place};
use crate::tracker::{Stage, Timeline};

/// What a request needs to know besides its group.
pub struct Circumstances<'a> {
    /// Epoch of the map by which it is served.
    pub epoch: Epoch,
    /// Room at this moment.
    pub room: &'a dyn Fn() -> Room,
    /// Whether somebody still waits for the answer.
    pub wanted: &'a dyn Fn() -> bool,
    /// Told why the store has no room for the request.
    pub no_space: &'a dyn Fn(&str),
    /// For marking stages.
    pub timeline: &'a Timeline,
    /// A mistake to make.
    pub fault: &'a Fault,
}

/// Operations and bytes since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct IoCounters {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub write_bytes: u64,
}

/// The group.
pub struct PlacementGroup {
    core: Core,
    store: Rc<dyn ObjectStore>,
    id: PgId,
    collection: CollectionId,
    range: GroupRange,
    group: RefCell<Group>,
    contexts: ObjectContexts,
    frontier: Frontier,
    /// Since when, without a break, this OSD serves it; `None` while it does not.
    serving_since: Cell<Option<Epoch>>,
    io: Cell<IoCounters>,
}

impl PlacementGroup {
    /// A group whose collection exists. It serves nothing yet.
    pub fn new(core: Core, store: Rc<dyn ObjectStore>, group: Group, bits: u8) -> Self {
        Self {
            core,
            store,
            id: group.id(),
            collection: group.collection(),
            range: GroupRange::new(group.id(), bits),
            group: RefCell::new(group),
            contexts: ObjectContexts::default(),
            frontier: Frontier::default(),
            serving_since: Cell::new(None),
            io: Cell::default(),
        }
    }

    /// Its id.
    pub fn id(&self) -> PgId {
        self.id
    }

    /// Its collection.
    pub fn collection(&self) -> CollectionId {
        self.collection
    }

    /// How much of it lies before objects of a hash, in thousandths.
    pub fn permille_before(&self, hash: u32) -> u64 {
        self.range.permille_before(hash)
    }

    /// Since when this OSD serves it; `None` if it does not.
    pub fn serving_since(&self) -> Option<Epoch> {
        self.serving_since.get()
    }

    /// From now on it is served, by the map of this epoch; a group already served goes on as it was.
    pub fn start_serving(&self, epoch: Epoch) {
        if self.serving_since.get().is_none() {
            self.serving_since.set(Some(epoch));
        }
    }

    /// It is served no more. Requests that have not begun are dropped.
    pub fn stop_serving(&self) {
        self.serving_since.set(None);
    }

    /// Operations and bytes.
    pub fn io(&self) -> IoCounters {
        self.io.get()
    }

    /// Version and log facts for commands: newest version, newest user version, creation, requests remembered.
    pub fn with_group<T>(&self, read: impl FnOnce(&Group) -> T) -> T {
        read(&self.group.borrow())
    }

    /// Objects whose state is remembered.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// Takes the request's place in its object's line, now. Requests run in the order of these calls.
    pub fn enter(&self, request: &Request) -> Place {
        let access = if request.may_write() { Access::Write } else { Access::Read };
        self.contexts.enter(&request.object, access, &self.frontier)
    }

    /// Serves a request on an object. `Err` if the store is down, with the reason.
    pub async fn serve(
        &self,
        place: Place,
        request: &Request,
        at: Circumstances<'_>,
    ) -> Result<Served, String> {
        let (context, turn) = place.turn().await;
        at.timeline.mark(Stage::Turn, self.core.now());
        if self.serving_since.get().is_none() || !(at.wanted)() {
            return Ok(Served::Silence);
        }
        let repeated =
            if request.may_write() { self.group.borrow().duplicate(request).cloned() } else { None };
        if let Some(recorded) = repeated {
            drop(turn);
            self.shown(self.frontier.newest()).await?;
            return Ok(Served::Answer(Answer::repeated(recorded)));
        }
        let before = match self.state_of(&context, &request.object).await {
            Ok(before) => before,
            Err(StoreError::Down(reason)) => return Err(reason),
            Err(error) => {
                log::error!("pg {}: {error}", self.id);
                return Ok(Served::Answer(Answer::refused(Errno::EIO)));
            }
        };
        if before.is_none() && !request.may_write() {
            drop(turn);
            // That it is gone may not be durable yet.
            self.shown(context.shows()).await?;
            return Ok(Served::Answer(Answer::refused(Errno::ENOENT)));
        }
        let view = ObjectView::new(self.store.clone(), self.collection, request.object.clone(), before);
        let mut execution = execute(request, view).await?;
        at.timeline.mark(Stage::Executed, self.core.now());
        match refuse_growth(request, &execution, (at.room)()) {
            None => self.count(request, &execution),
            Some(Refusal::Answer(errno)) => execution = Execution::failed(errno),
            Some(Refusal::Silence) => {
                drop(turn);
                self.shown(context.shows()).await?;
                return Ok(Served::Silence);
            }
        }
        let mut skipped = None;
        let (submitted, position, versions) = loop {
            let sealed = self.group.borrow_mut().seal(at.epoch, request, &mut execution, before);
            let Some(sealed) = sealed else {
                drop(turn);
                let versions = self.group.borrow().versions_of_read(execution.result, before.as_ref());
                self.shown(context.shows()).await?;
                at.timeline.mark(Stage::Durable, self.core.now());
                return Ok(Served::Answer(Answer::executed(execution, versions)));
            };
            let position = self.frontier.issue();
            let shown_before = context.shows();
            let submitted = self.store.submit_with(sealed.transaction, sealed.hints, sealed.sums);
            context.learn(sealed.after);
            context.written(position);
            let readable = submitted.readable.await;
            at.timeline.mark(Stage::Readable, self.core.now());
            let error = match readable {
                Ok(()) => break (submitted.durable, position, sealed.versions),
                Err(StoreError::Down(reason)) => return Err(reason),
                Err(error) => error,
            };
            context.forget();
            context.written(shown_before);
            if at.fault.is(Planted::RefusedRemembered) {
                drop(turn);
                self.skip(position).await?;
                return Ok(Served::Answer(Answer::refused(refusal(&error))));
            }
            self.group.borrow_mut().forget(request);
            if let StoreError::NoSpace(reason) = &error {
                (at.no_space)(reason);
            }
            let errno = refusal(&error);
            if let Some(first) = skipped.replace(position) {
                // Not even the note that it failed is taken.
                drop(turn);
                self.skip(first).await?;
                self.skip(position).await?;
                return Ok(Served::Answer(Answer::refused(errno)));
            }
            // That it failed is logged, like any other failure: sent again it would otherwise take effect, and after
            // requests which the client sent later.
            execution = Execution::failed(errno);
        };
        drop(turn);
        if let Err(error) = submitted.await {
            // What is readable but will never be durable would poison every later answer.
            return Err(format!("a readable transaction of pg {} did not become durable: {error}", self.id));
        }
        // Covers the position that was refused, if one was.
        self.frontier.advance(position);
        at.timeline.mark(Stage::Durable, self.core.now());
        Ok(Served::Answer(Answer::executed(execution, versions)))
    }

    /// A position that was refused counts as reached when those before it are.
    async fn skip(&self, position: Position) -> Result<(), String> {
        self.shown(position.previous()).await?;
        self.frontier.advance(position);
        Ok(())
    }

    /// Lists a page. `Err` if the store is down.
    pub async fn list(&self, op: &Op, namespace: &bytes::Bytes) -> Result<Answer, String> {
        let query = match ListQuery::decode(op, namespace, &self.range) {
            Ok(query) => query,
            Err(errno) => return Ok(Answer::refused(errno)),
        };
        let (mut entries, mut from, mut scanned) = (Vec::new(), query.from.clone(), 0);
        let next = loop {
            let wanted = query.max - entries.len();
            let (found, next) = match self.store.list(self.collection, from, wanted).await {
                Ok(page) => page,
                Err(StoreError::Down(reason)) => return Err(reason),
                Err(error) => {
                    log::error!("pg {}: listing: {error}", self.id);
                    return Ok(Answer::refused(Errno::EIO));
                }
            };
            scanned += found.len();
            entries.extend(found.into_iter().filter(|object| query.wants(object)));
            if next.is_none() || entries.len() >= query.max || scanned >= LIST_SCAN_MAX {
                break next;
            }
            from = next;
        };
        let output = pg::encode_page(&entries, next.as_ref(), &self.range);
        let versions = self.group.borrow().versions_of_list();
        self.shown(self.frontier.newest()).await?;
        let result = if next.is_none() { pg::END_OF_GROUP } else { 0 };
        Ok(Answer { result, outputs: vec![output], versions, early: false })
    }

    /// The store went down: nobody need wait any longer.
    pub fn abandon(&self) {
        self.frontier.abandon();
    }

    /// Waits until what an answer shows is durable.
    async fn shown(&self, position: Position) -> Result<(), String> {
        self.frontier.reach(position).await.map_err(|abandoned| abandoned.to_string())
    }

    async fn state_of(
        &self,
        context: &ObjectContext,
        object: &ObjectId,
    ) -> Result<Option<ObjectState>, StoreError> {
        if let Known::State(state) = context.known() {
            return Ok(state);
        }
        let state = load_state(&*self.store, self.collection, object).await?;
        context.learn(state);
        Ok(state)
    }

    fn count(&self, request: &Request, execution: &Execution) {
        let mut io = self.io.get();
        if request.may_write() {
            io.writes += 1;
            io.write_bytes += request.ops.iter().map(|op| op.data.len() as u64).sum::<u64>();
        } else {
            io.reads += 1;
        }
        io.read_bytes += execution.outputs.iter().map(Output::len).sum::<u64>();
        self.io.set(io);
    }
}
