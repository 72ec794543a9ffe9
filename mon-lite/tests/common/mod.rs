//! A monitor in the simulator, and a peer that talks to it message by message.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use mon_lite::{MkfsOptions, MonConfig, MonError, MonHandle, Monitor, NewOsd, mkfs};
use nvme::{BlockDevice, SimDisk, SimDiskConfig};
use rt::Core;
use rt::net::{ReadHalf, WriteHalf};
use rt::sim::{Config as SimConfig, Sim, address};
use rt::sync::timeout;
use serde_json::Value;
use uuid::Uuid;
use wire::msg::{Body, MonCommand, MonCommandAck, MonSubscribe, Subscription, decode_message};
use wire::msgr2::auth::Claim;
use wire::msgr2::{Config, Connection, Data, Event, Session};
use wire::types::{Addr, AddrVec, AuthName, EntityKind, Features};

pub const FSID: Uuid = Uuid::from_u128(7);
/// Host of the monitor.
pub const MON: u16 = 1;
const PORT: u16 = 6789;

pub fn world(seed: u64) -> (Sim, SimDisk) {
    (Sim::new(seed, SimConfig::default()), SimDisk::new(SimDiskConfig::new("mon", 16 << 20), seed))
}

pub fn mon_address() -> SocketAddr {
    address(MON, PORT)
}

pub fn osd_uuid(id: i32) -> Uuid {
    Uuid::from_u128(100 + u128::from(id.unsigned_abs()))
}

fn config() -> MonConfig {
    MonConfig { fsid: FSID, name: "a".into(), hostname: "monhost".into(), listen: mon_address() }
}

/// Makes a cluster with two OSDs that are not up.
pub fn make(sim: &Sim, disk: &SimDisk) {
    let disk = disk.clone();
    sim.run(MON, |core| async move {
        let osd = |id| NewOsd {
            id,
            uuid: osd_uuid(id),
            host: format!("h{id}"),
            device: "d".into(),
            class: "ssd".into(),
            size_bytes: 1 << 30,
        };
        let osds = (0..2).map(osd).collect();
        let options = MkfsOptions { fsid: FSID, name: "a".into(), osds, overwrite: false };
        mkfs(&core, Rc::new(disk.open(&core)), options).await.unwrap();
    });
}

pub async fn start(core: Core, disk: SimDisk) -> Result<MonHandle, MonError> {
    let device: Rc<dyn BlockDevice> = Rc::new(disk.open(&core));
    Monitor::start(core, device, config()).await
}

/// Starts the monitor as a task of its host.
pub fn spawn(sim: &Sim, disk: &SimDisk) {
    let disk = disk.clone();
    sim.run(MON, |core| async move { start(core, disk).await.map(drop).unwrap() });
}

/// One connection to the monitor.
pub struct Peer {
    core: Core,
    connection: Connection,
    reader: ReadHalf,
    writer: WriteHalf,
    inbox: VecDeque<Body>,
    tid: u64,
}

impl Peer {
    /// A client with a new id.
    pub async fn client(core: &Core) -> Self {
        let name = AuthName { kind: EntityKind::CLIENT, id: "admin".into() };
        Self::connect(core, EntityKind::CLIENT, -1, name, AddrVec::default()).await.unwrap()
    }

    /// An OSD.
    pub async fn osd(core: &Core, id: i32) -> Self {
        let name = AuthName { kind: EntityKind::OSD, id: id.to_string() };
        Self::connect(core, EntityKind::OSD, i64::from(id), name, osd_addrs(id)).await.unwrap()
    }

    async fn connect(
        core: &Core,
        kind: EntityKind,
        number: i64,
        name: AuthName,
        addrs: AddrVec,
    ) -> std::io::Result<Self> {
        let stream = core.connect(mon_address()).await?;
        let config = Config {
            kind,
            number,
            addrs,
            nonce: 5,
            supported: Features::PACIFIC,
            required: Features::MSG_ADDR2,
            revision_21: true,
            global_seq: 1,
            peer_socket: stream.peer,
        };
        let claim = Claim { name, global_id: 0 };
        let target = Addr::msgr2(mon_address(), 0);
        let connection = Connection::connect(config, target, EntityKind::MON, claim, Session::lossy());
        let (reader, writer) = (stream.reader, stream.writer);
        let mut peer =
            Self { core: core.clone(), connection, reader, writer, inbox: VecDeque::new(), tid: 0 };
        while peer.connection.global_id().is_none() || !peer.connected() {
            if !peer.turn().await? {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
        Ok(peer)
    }

    fn connected(&mut self) -> bool {
        self.connection.session().is_some() && self.tid > 0
    }

    pub fn global_id(&self) -> u64 {
        self.connection.global_id().unwrap()
    }

    async fn write(&mut self) -> std::io::Result<()> {
        let chunks = self.connection.poll_transmit();
        if chunks.is_empty() { Ok(()) } else { self.writer.write_all(chunks).await }
    }

    /// Writes, reads once, collects messages; false at the end of the connection.
    async fn turn(&mut self) -> std::io::Result<bool> {
        self.write().await?;
        let chunk = self.reader.read().await?;
        if chunk.is_empty() {
            return Ok(false);
        }
        self.connection.feed(chunk).unwrap();
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Connected(_) => self.tid = 1,
                Event::Message(message) => self.inbox.push_back(decode_message(&message).unwrap()),
                _ => {}
            }
        }
        Ok(true)
    }

    pub async fn send(&mut self, body: impl Into<Body>) {
        self.tid += 1;
        self.connection.send(body.into().to_message(self.tid)).unwrap();
        drop(self.write().await);
    }

    /// The next message; none at the end of the connection.
    pub async fn receive(&mut self) -> Option<Body> {
        while self.inbox.is_empty() {
            if !matches!(self.turn().await, Ok(true)) {
                return None;
            }
        }
        self.inbox.pop_front()
    }

    /// The next message within a while; none if there is none.
    pub async fn receive_soon(&mut self, limit: Duration) -> Option<Body> {
        let core = self.core.clone();
        timeout(&core, limit, self.receive()).await.ok().flatten()
    }

    pub async fn subscribe(&mut self, what: &str, start: u64, once: bool) {
        let what = [(what.to_owned(), Subscription { start, once })].into();
        self.send(MonSubscribe { what, hostname: "test".into() }).await;
    }

    /// Runs a command; none if the connection ended before the answer.
    pub async fn try_command(&mut self, command: Value) -> Option<MonCommandAck> {
        self.send(MonCommand { fsid: FSID, command: vec![command.to_string()], input: Data::new() }).await;
        loop {
            if let Body::MonCommandAck(ack) = self.receive().await? {
                return Some(ack);
            }
        }
    }

    /// Runs a command that must succeed, and gives its output.
    pub async fn command(&mut self, command: Value) -> Bytes {
        let ack = self.try_command(command.clone()).await.unwrap();
        assert_eq!(ack.result, 0, "{command}: {}", ack.status);
        ack.output.to_bytes()
    }
}

pub fn osd_addrs(id: i32) -> AddrVec {
    let port = 6800 + u16::try_from(id).unwrap();
    AddrVec::from(Addr::msgr2(address(10, port), 3))
}
