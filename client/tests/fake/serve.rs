//! Accepting connections: wire's machine between a simulated socket and a handler of messages.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use rt::net::{ReadHalf, Stream, WriteHalf};
use rt::sync::{Notify, select};
use rt::{Core, Group};
use wire::msg::Payload;
use wire::msgr2::{Answer, Config, Connection, Event, Message, Session};
use wire::types::{Addr, EntityKind, EntityName, Features};

/// A connected client.
#[derive(Clone)]
pub struct Peer(Rc<Shared>);

struct Shared {
    connection: RefCell<Connection>,
    work: Notify,
    name: Cell<EntityName>,
    ended: Cell<bool>,
}

impl Peer {
    pub fn send(&self, body: &impl Payload, tid: u64) {
        // A connection that ends takes nothing, and its peer expects nothing.
        let _ = self.0.connection.borrow_mut().send(body.to_message(tid));
        self.0.work.notify_one();
    }

    pub fn name(&self) -> EntityName {
        self.0.name.get()
    }

    pub fn is_same(&self, other: &Peer) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    pub fn has_ended(&self) -> bool {
        self.0.ended.get()
    }
}

/// What is done with a message.
pub type Handler = Rc<dyn Fn(&Peer, Message)>;
/// Gives out ids.
pub type GiveId = Rc<dyn Fn() -> u64>;

/// Listens and serves for ever. `give_id` is there for monitors.
pub fn listen(core: &Core, own: Addr, kind: EntityKind, give_id: Option<GiveId>, handle: Handler) {
    let mut listener = core.listen(own.socket_addr().unwrap()).unwrap();
    let core = core.clone();
    let spawner = core.clone();
    drop(core.spawn(Group::Client, "fake listener", async move {
        loop {
            if let Ok(stream) = listener.accept().await {
                let config = config(own, kind, stream.peer);
                let connection = Connection::accept(config, give_id.is_some());
                let shared = Rc::new(Shared {
                    connection: RefCell::new(connection),
                    work: Notify::default(),
                    name: Cell::new(EntityName::default()),
                    ended: Cell::new(false),
                });
                let peer = Peer(shared);
                let serving = serve(stream, peer, give_id.clone(), handle.clone());
                drop(spawner.spawn(Group::Client, "fake connection", serving));
            }
        }
    }));
}

fn config(own: Addr, kind: EntityKind, peer_socket: SocketAddr) -> Config {
    Config {
        kind,
        number: 0,
        addrs: own.into(),
        nonce: 1,
        supported: Features::PACIFIC,
        required: Features::NONE,
        revision_21: true,
        global_seq: 1,
        peer_socket,
    }
}

async fn serve(stream: Stream, peer: Peer, give_id: Option<GiveId>, handle: Handler) {
    let Stream { reader, writer, .. } = stream;
    select(read(reader, &peer, give_id, handle), write(writer, &peer)).await;
    peer.0.ended.set(true);
}

async fn read(mut reader: ReadHalf, peer: &Peer, give_id: Option<GiveId>, handle: Handler) {
    while let Ok(chunk) = reader.read().await {
        if chunk.is_empty() || peer.0.connection.borrow_mut().feed(chunk).is_err() {
            return;
        }
        loop {
            let event = peer.0.connection.borrow_mut().poll_event();
            match event {
                None => break,
                Some(Event::NeedGlobalId { .. }) => {
                    let id = give_id.as_ref().map(|give| give()).unwrap();
                    peer.0.connection.borrow_mut().assign_global_id(id).unwrap();
                }
                Some(Event::NeedSession(_)) => {
                    let answer = Answer::Accept(Box::new(Session::lossy()));
                    peer.0.connection.borrow_mut().answer(answer).unwrap();
                }
                Some(Event::Connected(info)) => peer.0.name.set(info.entity()),
                Some(Event::Message(message)) => handle(peer, message),
                Some(_) => {}
            }
        }
        peer.0.work.notify_one();
    }
}

async fn write(mut writer: WriteHalf, peer: &Peer) {
    loop {
        let chunks = peer.0.connection.borrow_mut().poll_transmit();
        if chunks.is_empty() {
            peer.0.work.notified().await;
        } else if writer.write_all(chunks).await.is_err() {
            return;
        }
    }
}
