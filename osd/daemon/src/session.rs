//! One client's connection: handshake, admission, and what its messages ask for.
//!
//! Invariants: messages are taken in order; while a message waits for room or for a map, nothing behind it is taken and
//! the stream is not read. Lives on one core.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use rt::net::ReadHalf;
use rt::sync::{Either, Semaphore, select, timeout};
use rt::{Group, Nanos};
use wire::msg::{Command, MessageError, OpArgs, OpCode, OsdMapMessage, OsdOp, Payload};
use wire::msgr2::{ConnectionId, Event, Message, Peer, PeerPolicy, SessionRequest, Verdict};
use wire::types::{Addr, AddrVec, EntityName, Epoch};

use crate::limits::{
    CLIENT_BYTES_MAX, CLIENT_REQUESTS_MAX, MAP_WAIT_MAX, OMAP_BYTES_EXPECTED, READ_BYTES_EXPECTED,
    READ_BYTES_PER_TURN, REQUEST_OVERHEAD_BYTES,
};
use crate::link::{Admission, Link};
use crate::osd::Osd;
use crate::requests::Payloads;
use crate::{requests, tell};

/// The connection.
pub struct Session {
    /// Its number in this process.
    pub id: ConnectionId,
    /// Where it comes from.
    socket: SocketAddr,
    /// Its link.
    pub link: Rc<Link>,
    /// When it was accepted.
    pub opened: Nanos,
    peer: RefCell<Option<Peer>>,
    requests: Semaphore,
    bytes: Semaphore,
    told_epoch: Cell<Epoch>,
}

impl Session {
    /// A connection just accepted.
    pub fn new(id: ConnectionId, socket: SocketAddr, link: Rc<Link>, opened: Nanos) -> Rc<Self> {
        Rc::new(Self {
            id,
            socket,
            link,
            opened,
            peer: RefCell::new(None),
            requests: Semaphore::new(CLIENT_REQUESTS_MAX),
            bytes: Semaphore::new(CLIENT_BYTES_MAX),
            told_epoch: Cell::default(),
        })
    }

    /// Who is on the other side, once the handshake is over.
    pub fn entity(&self) -> EntityName {
        self.peer.borrow().as_ref().map(Peer::entity).unwrap_or_default()
    }

    /// Who it is, for messages.
    pub fn describe(&self) -> String {
        match &*self.peer.borrow() {
            Some(peer) => format!("{} at {}", peer.entity(), self.socket),
            None => format!("somebody at {}", self.socket),
        }
    }

    /// Its addresses; empty before the handshake is over.
    pub fn peer_addrs(&self) -> AddrVec {
        self.peer.borrow().as_ref().map(|peer| peer.addrs.clone()).unwrap_or_default()
    }

    /// Its first address.
    pub fn peer_addr(&self) -> Addr {
        self.peer.borrow().as_ref().and_then(|peer| peer.addrs.0.first().cloned()).unwrap_or_default()
    }

    /// Requests admitted and not answered in full.
    pub fn requests_in_progress(&self) -> u64 {
        self.requests.total() - self.requests.free()
    }

    /// Brings the peer, which has the map of epoch `have`, up to date, unless it was told already.
    pub fn share_maps(&self, osd: &Osd, have: Epoch) {
        let have = have.max(self.told_epoch.get());
        if let Some(message) = osd.maps.message_since(have) {
            self.told_epoch.set(message.newest);
            self.send(&message);
        }
    }

    fn send(&self, message: &OsdMapMessage) {
        if self.link.send(message.to_message(0), Admission::default()).is_err() {
            self.link.close();
        }
    }
}

/// Reads and handles until either side ends it.
pub async fn read_loop(osd: Rc<Osd>, session: Rc<Session>, mut reader: ReadHalf) {
    let link = session.link.clone();
    let mut bytes_since_yield = 0;
    while !link.is_closed() {
        let chunk = match select(link.closed(), reader.read()).await {
            Either::Right(Ok(chunk)) if !chunk.is_empty() => chunk,
            _ => break,
        };
        // A fast sender must not keep the core: checksums and copies of its bytes are made here.
        bytes_since_yield += chunk.len();
        if bytes_since_yield >= READ_BYTES_PER_TURN {
            bytes_since_yield = 0;
            osd.core.yield_now().await;
        }
        if let Err(error) = link.feed(chunk) {
            osd.blame(&session.describe(), &error);
            // The machine may have an answer for the peer; the writer closes the link after it.
            link.closed().await;
            break;
        }
        while let Some(event) = link.next_event() {
            if let Either::Left(()) = select(link.closed(), handle(&osd, &session, event)).await {
                break;
            }
        }
    }
    link.close();
    osd.session_closed(&session);
}

async fn handle(osd: &Rc<Osd>, session: &Rc<Session>, event: Event) {
    match event {
        Event::NeedSession(request) => settle(osd, session, &request),
        Event::Connected(peer) => {
            log::debug!("{} connected", peer.entity());
            session.peer.replace(Some(peer));
            osd.session_ready(session);
        }
        Event::Message(message) => take(osd, session, message).await,
        Event::TooLong { message, data_bytes } => take_too_long(osd, session, &message, data_bytes).await,
        // Keep-alives are answered by the machine; the rest concerns connecting sides.
        _ => {}
    }
}

fn settle(osd: &Rc<Osd>, session: &Rc<Session>, request: &SessionRequest) {
    loop {
        match osd.decide_session(session.id, request, PeerPolicy::LOSSY_CLIENT) {
            Verdict::Answer(answer) | Verdict::AnswerAfterReset(answer) => {
                if let Err(error) = session.link.answer(answer) {
                    log::info!("session of {:?}: {error}", request.peer.addrs);
                }
                return;
            }
            Verdict::CloseFirst(older) => osd.close_session(older, &request.peer.addrs),
        }
    }
}

async fn take(osd: &Rc<Osd>, session: &Rc<Session>, message: Message) {
    let done = match message.header.kind {
        OsdOp::KIND => take_request(osd, session, &message).await,
        Command::KIND => take_command(osd, session, &message).await,
        // PING, acknowledgements of back-offs, and what is not for us.
        _ => Ok(()),
    };
    if let Err(error) = done {
        close_for(osd, session, &error);
    }
}

/// Takes a request with more data than is ever kept. Its client must be told so: it would send it again otherwise.
async fn take_too_long(osd: &Rc<Osd>, session: &Rc<Session>, message: &Message, data_bytes: usize) {
    match OsdOp::without_data(message, data_bytes) {
        Ok(op) => take_op(osd, session, op, message, Payloads::Dropped).await,
        Err(error) => close_for(osd, session, &error),
    }
}

fn close_for(osd: &Osd, session: &Session, error: &MessageError) {
    osd.blame(&session.describe(), error);
    session.link.close();
}

async fn take_request(osd: &Rc<Osd>, session: &Rc<Session>, message: &Message) -> Result<(), MessageError> {
    let op = OsdOp::from_message(message)?;
    take_op(osd, session, op, message, Payloads::Whole).await;
    Ok(())
}

async fn take_op(osd: &Rc<Osd>, session: &Rc<Session>, op: OsdOp, message: &Message, payloads: Payloads) {
    let admission = admit(osd, session, cost(&op, message)).await;
    if op.epoch > osd.maps.epoch() {
        // The client knows of a map that we do not have yet; what it asked for may depend on it.
        osd.want_map(op.epoch);
        if timeout(&osd.core, MAP_WAIT_MAX, osd.maps.reach(op.epoch)).await.is_err() {
            log::warn!("{} has epoch {}, which did not come", session.entity(), op.epoch);
            session.link.close();
            return;
        }
    }
    requests::dispatch(osd, session, op, payloads, message.header.tid, admission);
}

async fn take_command(osd: &Rc<Osd>, session: &Rc<Session>, message: &Message) -> Result<(), MessageError> {
    let command = Command::from_message(message)?;
    let admission = admit(osd, session, message.data.len() as u64 + REQUEST_OVERHEAD_BYTES).await;
    let (session, tid) = (session.clone(), message.header.tid);
    osd.spawn(Group::Background, "command", move |osd| async move {
        let reply = tell::run(&osd, &command).await;
        if session.link.send(reply.to_message(tid), admission).is_err() {
            session.link.close();
        }
    });
    Ok(())
}

/// Waits until the client and the OSD have room.
async fn admit(osd: &Osd, session: &Session, bytes: u64) -> Admission {
    Admission(Some([
        session.requests.acquire(1).await,
        session.bytes.acquire(bytes).await,
        osd.requests.acquire(1).await,
        osd.request_bytes.acquire(bytes).await,
    ]))
}

/// Bytes that the request keeps in memory: what came, what it repeats, and what it is expected to read or return.
fn cost(op: &OsdOp, message: &Message) -> u64 {
    let most = pg::limits::OBJECT_BYTES_MAX;
    let worked_on = op.ops.iter().map(|op| match (op.code, op.args()) {
        (
            OpCode::READ | OpCode::SYNC_READ | OpCode::SPARSE_READ | OpCode::CHECKSUM,
            OpArgs::Extent { length: 0, .. } | OpArgs::Checksum { length: 0, .. },
        ) => READ_BYTES_EXPECTED,
        (OpCode::READ | OpCode::SYNC_READ | OpCode::SPARSE_READ, OpArgs::Extent { length, .. })
        | (_, OpArgs::Checksum { length, .. } | OpArgs::WriteSame { length, .. }) => length.min(most),
        (OpCode::OMAP_GET_VALUES | OpCode::OMAP_GET_VALUES_BY_KEYS, _) => OMAP_BYTES_EXPECTED,
        _ => 0,
    });
    let payload = (message.front.len() + message.data.len()) as u64;
    worked_on.fold(payload + REQUEST_OVERHEAD_BYTES, u64::saturating_add)
}
