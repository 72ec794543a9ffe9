//! One connection to a daemon: pumps bytes between a socket and a msgr2 machine, and tells its owner what happens.
//!
//! Invariant: the owner hears of a link's end exactly once, and of nothing after it; a link that the owner closed
//! is silent. Two tasks per link, one per direction, so that a peer that does not read cannot stop us reading.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use rt::net::{ReadHalf, Stream, WriteHalf};
use rt::sync::{Notify, deadline};
use rt::{Core, Group, Nanos, Task};
use wire::msgr2::auth::Claim;
use wire::msgr2::{Config, Connection, Event, Message, Session};
use wire::types::{Addr, AddrVec, EntityKind, Features, UTime};

use crate::time::after;

/// Number of a link within a client; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub u64);

/// Gives out link numbers; clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkIds(Rc<Cell<u64>>);

impl LinkIds {
    /// A number that was not given out before; from 1.
    pub fn next(&self) -> LinkId {
        self.0.set(self.0.get() + 1);
        LinkId(self.0.get())
    }
}

/// Whom to call, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub id: LinkId,
    pub target: Addr,
    pub kind: EntityKind,
    pub claim: Claim,
    /// Distinguishes this client from others on its host.
    pub nonce: u32,
    /// How long the connection and its handshake may take.
    pub limit: Duration,
}

/// Who hears of a link's events. Called between polls of the link's tasks; must not block.
pub(crate) trait LinkOwner {
    /// The handshake is over; `global_id` is ours.
    fn connected(&self, link: LinkId, global_id: u64);
    /// A message came.
    fn message(&self, link: LinkId, message: Message);
    /// The peer is alive.
    fn alive(&self, link: LinkId);
    /// The link is gone, for this reason.
    fn closed(&self, link: LinkId, reason: String);
}

/// An open or opening connection. Dropping it closes it.
pub(crate) struct Link {
    shared: Rc<Shared>,
    task: Option<Task>,
}

struct Shared {
    connection: RefCell<Connection>,
    /// There is something to write, or the link is to end.
    work: Notify,
}

impl Link {
    /// Starts calling. Events come from a task, never from within this call.
    pub fn open(core: &Core, call: Call, owner: Rc<dyn LinkOwner>) -> Self {
        let connection =
            Connection::connect(config(&call), call.target, call.kind, call.claim.clone(), Session::lossy());
        let shared = Rc::new(Shared { connection: RefCell::new(connection), work: Notify::default() });
        let run = run(core.clone(), call, shared.clone(), owner);
        let task = core.spawn(Group::Client, "client link", run);
        Self { shared, task: Some(task) }
    }

    /// Queues a message. Fails when too much is queued or the link is ending; its owner hears of the latter.
    pub fn send(&self, message: Message) -> Result<(), wire::msgr2::SendError> {
        self.shared.connection.borrow_mut().send(message)?;
        self.shared.work.notify_one();
        Ok(())
    }

    /// Asks for a sign of life.
    pub fn keepalive(&self, now: UTime) {
        self.shared.connection.borrow_mut().send_keepalive(now);
        self.shared.work.notify_one();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.cancel();
        }
    }
}

fn config(call: &Call) -> Config {
    let peer_socket = call.target.socket_addr().unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    Config {
        kind: EntityKind::CLIENT,
        // A client tells its number to those who did not give it.
        number: i64::try_from(call.claim.global_id).ok().filter(|&id| id != 0).unwrap_or(-1),
        addrs: AddrVec::default(),
        nonce: call.nonce,
        supported: Features::PACIFIC,
        required: Features::NONE,
        revision_21: true,
        global_seq: call.id.0,
        peer_socket,
    }
}

/// The whole life of a link.
async fn run(core: Core, call: Call, shared: Rc<Shared>, owner: Rc<dyn LinkOwner>) {
    let Some(socket) = call.target.socket_addr() else {
        return owner.closed(call.id, format!("{} is not an address", call.target));
    };
    let limit = after(core.now(), call.limit);
    let stream = match deadline(&core, limit, core.connect(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return owner.closed(call.id, format!("connecting to {}: {error}", call.target)),
        Err(_) => return owner.closed(call.id, format!("no connection to {} in time", call.target)),
    };
    let Stream { reader, writer, .. } = stream;
    let write = write_all(shared.clone(), writer);
    let read = read_all(&core, &call, limit, &shared, reader, &*owner);
    // Whichever ends first ends the link; both are dropped with the task.
    let reason = match rt::sync::select(read, write).await {
        rt::sync::Either::Left(reason) | rt::sync::Either::Right(reason) => reason,
    };
    owner.closed(call.id, format!("{}: {reason}", call.target));
}

/// Feeds what comes to the machine until the stream ends; gives the reason.
async fn read_all(
    core: &Core,
    call: &Call,
    limit: Nanos,
    shared: &Shared,
    mut reader: ReadHalf,
    owner: &dyn LinkOwner,
) -> String {
    let mut connected = false;
    loop {
        let chunk = if connected {
            reader.read().await
        } else {
            match deadline(core, limit, reader.read()).await {
                Ok(chunk) => chunk,
                Err(_) => return "the handshake took too long".into(),
            }
        };
        match chunk {
            Ok(chunk) if chunk.is_empty() => return "closed by the peer".into(),
            Ok(chunk) => {
                let fed = shared.connection.borrow_mut().feed(chunk);
                while let Some(reason) = next_event(call, shared, owner, &mut connected) {
                    if let Err(reason) = reason {
                        return reason;
                    }
                }
                shared.work.notify_one();
                if let Err(error) = fed {
                    return error.to_string();
                }
            }
            Err(error) => return error.to_string(),
        }
    }
}

/// Hands one event on; none if there is none, an error if the link must end.
fn next_event(
    call: &Call,
    shared: &Shared,
    owner: &dyn LinkOwner,
    connected: &mut bool,
) -> Option<Result<(), String>> {
    let (event, global_id) = {
        let mut connection = shared.connection.borrow_mut();
        let event = connection.poll_event()?;
        (event, connection.global_id())
    };
    match event {
        Event::Connected(_) => {
            *connected = true;
            owner.connected(call.id, global_id.unwrap_or_default());
        }
        Event::Message(message) => owner.message(call.id, message),
        Event::Keepalive(_) | Event::KeepaliveAck(_) => owner.alive(call.id),
        // Counters of attempts only matter to sessions that are resumed, which lossy ones are not.
        Event::GlobalSeqBehind(_) => {}
        // Only for who asks for it.
        Event::TooLong { .. } => {}
        Event::Wait | Event::SessionReset => return Some(Err("the peer gave the session up".into())),
        Event::NeedGlobalId { .. } | Event::NeedSession(_) => {
            return Some(Err("the peer asked what only servers are asked".into()));
        }
    }
    Some(Ok(()))
}

/// Writes what the machine has to say, for ever; gives the reason of the end.
async fn write_all(shared: Rc<Shared>, mut writer: WriteHalf) -> String {
    loop {
        let chunks = shared.connection.borrow_mut().poll_transmit();
        if chunks.is_empty() {
            shared.work.notified().await;
        } else if let Err(error) = writer.write_all(chunks).await {
            return error.to_string();
        }
    }
}
