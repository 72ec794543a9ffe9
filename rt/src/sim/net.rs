//! The simulated network: what is on its way, and what the kernels of the hosts hold. Within [`State`].
//!
//! Invariants: bytes of one direction of a connection arrive in order, or the connection ends with a reset; never
//! doubled or reordered, and changed only where a link is told to. Messages of different connections overtake each other. A cut link holds messages
//! back (as retransmission would) but loses resets, so connections can stay half open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;

use super::config::{Config, Link};
use super::random::RandomStream;
use super::state::{Event, State};
use super::{after, nanos};
use crate::core::Nanos;
use crate::limits::LISTEN_BACKLOG;

/// One life of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostLife {
    pub host: u16,
    pub life: u64,
}

/// One end of a connection: its number, and 0 for who connected, 1 for who accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndId {
    pub conn: u64,
    pub side: usize,
}

impl EndId {
    pub fn peer(self) -> Self {
        Self { conn: self.conn, side: 1 - self.side }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum NetEvent {
    /// The next segment arrives at this end.
    Deliver(EndId),
    /// A reset arrives at this end.
    Reset(EndId),
    /// An attempt to connect arrives at its destination.
    Knock(u64),
    /// The answer to an attempt arrives at its origin.
    Answer(u64),
    /// An attempt to connect took too long.
    GiveUp(u64),
}

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    Data(Bytes),
    Fin,
}

impl Segment {
    fn len(&self) -> usize {
        match self {
            Self::Data(bytes) => bytes.len(),
            Self::Fin => 0,
        }
    }
}

pub(super) struct Conn {
    pub ends: [End; 2],
}

/// What one host knows of a connection, and what is on its way to it.
pub(super) struct End {
    pub place: HostLife,
    pub address: SocketAddr,
    /// On the way here, in order, and when the last of it arrives.
    in_flight: VecDeque<Segment>,
    last_arrival: Nanos,
    /// Deliveries held back by a cut or a silent death.
    parked: usize,
    pub inbox: VecDeque<Bytes>,
    /// Bytes in flight or in the inbox.
    pub held: usize,
    pub fin_received: bool,
    pub fin_sent: bool,
    pub error: Option<io::ErrorKind>,
    pub reader: Option<Waker>,
    pub writer: Option<Waker>,
    /// Nobody reads any more.
    pub reader_gone: bool,
    pub writer_gone: bool,
}

impl End {
    fn new(place: HostLife, address: SocketAddr) -> Self {
        Self {
            place,
            address,
            in_flight: VecDeque::new(),
            last_arrival: Nanos(0),
            parked: 0,
            inbox: VecDeque::new(),
            held: 0,
            fin_received: false,
            fin_sent: false,
            error: None,
            reader: None,
            writer: None,
            reader_gone: false,
            writer_gone: false,
        }
    }

    fn gone(&self) -> bool {
        self.reader_gone && self.writer_gone
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn fail(&mut self, kind: io::ErrorKind) {
        self.in_flight.clear();
        self.parked = 0;
        self.held = self.inbox.iter().map(Bytes::len).sum();
        self.error.get_or_insert(kind);
        self.wake();
    }
}

pub(super) struct Attempt {
    place: HostLife,
    from: SocketAddr,
    to: SocketAddr,
    target: u16,
    parked: bool,
    give_up: (Nanos, u64),
    pub waker: Option<Waker>,
    pub result: Option<io::Result<EndId>>,
    /// Known at the destination, not yet at the origin.
    answer: Option<io::Result<EndId>>,
}

pub(super) struct ListenerState {
    place: HostLife,
    address: SocketAddr,
    pub queue: VecDeque<EndId>,
    pub waker: Option<Waker>,
}

pub(super) struct Net {
    pub links: BTreeMap<(u16, u16), Link>,
    pub cuts: BTreeSet<(u16, u16)>,
    pub conns: BTreeMap<u64, Conn>,
    pub attempts: BTreeMap<u64, Attempt>,
    /// By host and port.
    pub listeners: BTreeMap<(u16, u16), ListenerState>,
    next: u64,
    next_port: BTreeMap<u16, u16>,
    link: Link,
    loopback: Link,
    pub window: usize,
    connect_timeout: Duration,
    pub random: RandomStream,
}

const FIRST_EPHEMERAL_PORT: u16 = 32768;

impl Net {
    pub fn new(seed: u64, config: &Config) -> Self {
        Self {
            links: BTreeMap::new(),
            cuts: BTreeSet::new(),
            conns: BTreeMap::new(),
            attempts: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next: 0,
            next_port: BTreeMap::new(),
            link: config.link.clone(),
            loopback: config.loopback.clone(),
            window: config.window_bytes.max(1),
            connect_timeout: config.connect_timeout,
            random: RandomStream::new(seed, "rt/net"),
        }
    }

    pub fn end(&mut self, id: EndId) -> Option<&mut End> {
        self.conns.get_mut(&id.conn).and_then(|conn| conn.ends.get_mut(id.side))
    }

    fn link(&self, from: u16, to: u16) -> &Link {
        let usual = if from == to { &self.loopback } else { &self.link };
        self.links.get(&(from, to)).unwrap_or(usual)
    }

    fn delay(&mut self, from: u16, to: u16) -> Duration {
        let link = self.link(from, to).clone();
        let most = if self.random.chance(link.slow_ppm) { link.slow_max } else { link.delay_max };
        Duration::from_nanos(self.random.between(nanos(link.delay_min), nanos(most)))
    }

    /// Flips a bit, if the link does that and it is this message's turn.
    fn damage(&mut self, from: u16, to: u16, bytes: &mut Bytes) {
        let flip_ppm = self.link(from, to).flip_ppm;
        if bytes.is_empty() || !self.random.chance(flip_ppm) {
            return;
        }
        let mut changed = bytes.to_vec();
        let bit = self.random.below(8 * changed.len() as u64);
        changed[(bit / 8) as usize] ^= 1 << (bit % 8);
        *bytes = changed.into();
    }

    fn is_cut(&self, from: u16, to: u16) -> bool {
        from != to && self.cuts.contains(&(from, to))
    }

    /// A port nobody on this host listens on.
    fn free_port(&mut self, host: u16) -> Option<u16> {
        for _ in FIRST_EPHEMERAL_PORT..=u16::MAX {
            let next = self.next_port.entry(host).or_insert(FIRST_EPHEMERAL_PORT);
            let port = *next;
            *next = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
            if !self.listeners.contains_key(&(host, port)) {
                return Some(port);
            }
        }
        None
    }
}

/// Which host an address belongs to, as seen from `from`.
fn owner(from: u16, address: SocketAddr) -> Option<u16> {
    match address.ip() {
        ip if ip.is_loopback() => Some(from),
        std::net::IpAddr::V4(ip) => match ip.octets() {
            [10, 0, high, low] => Some(u16::from_be_bytes([high, low])),
            _ => None,
        },
        std::net::IpAddr::V6(_) => None,
    }
}

impl State {
    pub fn listen(&mut self, place: HostLife, mut address: SocketAddr) -> io::Result<SocketAddr> {
        if !address.ip().is_unspecified() && owner(place.host, address) != Some(place.host) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if address.port() == 0 {
            address.set_port(self.net.free_port(place.host).ok_or(io::ErrorKind::AddrInUse)?);
        }
        let key = (place.host, address.port());
        if self.net.listeners.contains_key(&key) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.note("listen", &[place.host.into(), address.port().into()], &[]);
        let listener = ListenerState { place, address, queue: VecDeque::new(), waker: None };
        self.net.listeners.insert(key, listener);
        Ok(address)
    }

    /// Closes a listener; connections nobody accepted are reset.
    pub fn unlisten(&mut self, place: HostLife, port: u16) {
        let key = (place.host, port);
        if self.net.listeners.get(&key).is_none_or(|listener| listener.place != place) {
            return;
        }
        let queue = self.net.listeners.remove(&key).map(|listener| listener.queue);
        for end in queue.into_iter().flatten() {
            self.abort(end);
        }
    }

    /// Starts an attempt to connect.
    pub fn connect(&mut self, place: HostLife, to: SocketAddr) -> io::Result<u64> {
        let target = owner(place.host, to).ok_or(io::ErrorKind::NetworkUnreachable)?;
        let port = self.net.free_port(place.host).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut from = super::address(place.host, port);
        if to.ip().is_loopback() {
            from.set_ip(to.ip());
        }
        let number = self.net.next;
        self.net.next += 1;
        let give_up = self.schedule_in(self.net.connect_timeout, Event::Net(NetEvent::GiveUp(number)));
        let attempt = Attempt {
            place,
            from,
            to,
            target,
            parked: false,
            give_up,
            waker: None,
            result: None,
            answer: None,
        };
        self.net.attempts.insert(number, attempt);
        let delay = self.net.delay(place.host, target);
        self.schedule_in(delay, Event::Net(NetEvent::Knock(number)));
        Ok(number)
    }

    /// Forgets an attempt; what it may have established is reset.
    pub fn forget_attempt(&mut self, number: u64) {
        let Some(attempt) = self.net.attempts.remove(&number) else { return };
        self.events.remove(&attempt.give_up);
        if let Some(Ok(end)) = attempt.answer.or(attempt.result) {
            self.abort(end);
        }
    }

    /// Sends one segment from `end` to its peer. The caller has seen that the window has room.
    pub fn send(&mut self, end: EndId, segment: Segment) {
        let now = self.now;
        let Some(conn) = self.net.conns.get(&end.conn) else { return };
        let (from, to) = (conn.ends[end.side].place.host, conn.ends[1 - end.side].place.host);
        let delay = self.net.delay(from, to);
        let Some(peer) = self.net.end(end.peer()) else { return };
        let arrival = after(now, delay).max(peer.last_arrival);
        peer.last_arrival = arrival;
        peer.held += segment.len();
        peer.in_flight.push_back(segment);
        self.schedule(arrival, Event::Net(NetEvent::Deliver(end.peer())));
    }

    /// Drops the connection at this end; the peer gets a reset.
    pub fn abort(&mut self, end: EndId) {
        self.note("abort", &[end.conn, end.side as u64], &[]);
        let Some(own) = self.net.end(end) else { return };
        let known = own.error.is_some();
        own.inbox.clear();
        own.fail(io::ErrorKind::ConnectionAborted);
        if !known {
            self.send_reset(end);
        }
    }

    /// Sends a reset from `end` to its peer: after what is in flight, or overtaking it.
    fn send_reset(&mut self, end: EndId) {
        let Some(conn) = self.net.conns.get(&end.conn) else { return };
        let (from, to) = (conn.ends[end.side].place.host, conn.ends[1 - end.side].place.host);
        let last = conn.ends[1 - end.side].last_arrival;
        let delay = self.net.delay(from, to);
        let mut arrival = after(self.now, delay);
        if self.net.random.one_in(2) {
            arrival = arrival.max(last);
        }
        self.schedule(arrival, Event::Net(NetEvent::Reset(end.peer())));
    }

    /// A half was dropped. Forgets the connection once both ends have let go.
    pub fn detach(&mut self, end: EndId, reader: bool) {
        let Some(own) = self.net.end(end) else { return };
        if reader {
            // What nobody reads stays where it is, and holds the peer back once the window is full.
            own.reader_gone = true;
            own.reader = None;
        } else {
            own.writer_gone = true;
            own.writer = None;
        }
        if own.gone() && own.error.is_none() && !own.inbox.is_empty() {
            // As kernels do: closing with unread bytes resets.
            self.abort(end);
        }
        self.forget_if_gone(end.conn);
    }

    fn forget_if_gone(&mut self, conn: u64) {
        // Segments still on their way are for nobody.
        if self.net.conns.get(&conn).is_some_and(|conn| conn.ends.iter().all(End::gone)) {
            self.net.conns.remove(&conn);
        }
    }

    pub fn net_event(&mut self, event: NetEvent) {
        match event {
            NetEvent::Deliver(end) => self.deliver(end),
            NetEvent::Reset(end) => self.reset(end),
            NetEvent::Knock(attempt) => self.knock(attempt),
            NetEvent::Answer(attempt) => self.answer(attempt),
            NetEvent::GiveUp(attempt) => self.give_up(attempt),
        }
    }

    fn deliver(&mut self, id: EndId) {
        let Some(conn) = self.net.conns.get(&id.conn) else { return };
        let (place, from) = (conn.ends[id.side].place, conn.ends[1 - id.side].place.host);
        let life = self.hosts.get(&place.host).map(|core| core.life());
        if self.net.is_cut(from, place.host) || life.is_none() {
            if let Some(end) = self.net.end(id) {
                end.parked += 1;
            }
            return;
        }
        let reset_ppm = self.net.link(from, place.host).reset_ppm;
        if self.net.random.chance(reset_ppm) {
            self.break_conn(id.conn);
            return;
        }
        let Some(end) = self.net.end(id) else { return };
        let Some(mut segment) = end.in_flight.pop_front() else { return };
        if let Segment::Data(bytes) = &mut segment {
            self.net.damage(from, place.host, bytes);
        }
        let Some(end) = self.net.end(id) else { return };
        let stranger = life != Some(place.life)
            || end.error.is_some()
            || (end.gone() && !matches!(segment, Segment::Fin));
        let content = match &segment {
            Segment::Data(bytes) => bytes.clone(),
            Segment::Fin => Bytes::new(),
        };
        self.note("deliver", &[id.conn, id.side as u64, stranger.into()], &content);
        if stranger {
            self.send_reset(id);
            return;
        }
        let Some(end) = self.net.end(id) else { return };
        match segment {
            Segment::Data(bytes) => {
                end.inbox.push_back(bytes);
                end.reader.take().into_iter().for_each(Waker::wake);
            }
            Segment::Fin => {
                end.fin_received = true;
                end.reader.take().into_iter().for_each(Waker::wake);
            }
        }
    }

    fn reset(&mut self, id: EndId) {
        let Some(conn) = self.net.conns.get(&id.conn) else { return };
        let (place, from) = (conn.ends[id.side].place, conn.ends[1 - id.side].place.host);
        // Resets are not retransmitted.
        if self.net.is_cut(from, place.host) {
            return;
        }
        let keep = self.net.random.one_in(2);
        self.note("reset", &[id.conn, id.side as u64, keep.into()], &[]);
        if let Some(end) = self.net.end(id) {
            if !keep {
                end.inbox.clear();
            }
            end.fail(io::ErrorKind::ConnectionReset);
        }
        self.forget_if_gone(id.conn);
    }

    /// Both ends see a reset now.
    fn break_conn(&mut self, conn: u64) {
        self.note("break", &[conn], &[]);
        if let Some(conn) = self.net.conns.get_mut(&conn) {
            for end in &mut conn.ends {
                end.inbox.clear();
                end.fail(io::ErrorKind::ConnectionReset);
            }
        }
        self.forget_if_gone(conn);
    }

    pub fn reset_between(&mut self, a: u16, b: u16) {
        let matches = |conn: &Conn| {
            let hosts = [conn.ends[0].place.host, conn.ends[1].place.host];
            hosts == [a, b] || hosts == [b, a]
        };
        let conns: Vec<u64> =
            self.net.conns.iter().filter(|(_, conn)| matches(conn)).map(|(&number, _)| number).collect();
        conns.into_iter().for_each(|conn| self.break_conn(conn));
    }

    fn knock(&mut self, number: u64) {
        let Some(attempt) = self.net.attempts.get(&number) else { return };
        let (place, from, to, target) = (attempt.place, attempt.from, attempt.to, attempt.target);
        if !self.hosts.contains_key(&target) || self.net.is_cut(place.host, target) {
            if let Some(attempt) = self.net.attempts.get_mut(&number) {
                attempt.parked = true;
            }
            return;
        }
        let listener = self.net.listeners.get(&(target, to.port()));
        let listener = listener
            .filter(|listener| listener.address.ip().is_unspecified() || listener.address.ip() == to.ip());
        let answer = match listener {
            None => Err(io::ErrorKind::ConnectionRefused.into()),
            Some(listener) if listener.queue.len() >= LISTEN_BACKLOG => {
                // As if the knock had been lost: knock again.
                self.schedule_in(Duration::from_secs(1), Event::Net(NetEvent::Knock(number)));
                return;
            }
            Some(listener) => {
                let ends = [End::new(place, from), End::new(listener.place, to)];
                self.net.conns.insert(number, Conn { ends });
                Ok(EndId { conn: number, side: 0 })
            }
        };
        if answer.is_ok()
            && let Some(listener) = self.net.listeners.get_mut(&(target, to.port()))
        {
            listener.queue.push_back(EndId { conn: number, side: 1 });
            listener.waker.take().into_iter().for_each(Waker::wake);
        }
        self.note(
            "knock",
            &[number, place.host.into(), target.into(), to.port().into(), answer.is_ok().into()],
            &[],
        );
        let delay = self.net.delay(target, place.host);
        if let Some(attempt) = self.net.attempts.get_mut(&number) {
            attempt.answer = Some(answer);
        }
        let key = self.schedule_in(delay, Event::Net(NetEvent::Answer(number)));
        // What the accepting side sends must not arrive before the answer.
        if let Some(end) = self.net.end(EndId { conn: number, side: 0 }) {
            end.last_arrival = key.0;
        }
    }

    fn answer(&mut self, number: u64) {
        let Some(attempt) = self.net.attempts.get_mut(&number) else { return };
        if self.net.cuts.contains(&(attempt.target, attempt.place.host)) {
            attempt.parked = true;
            return;
        }
        attempt.result = attempt.answer.take();
        attempt.waker.take().into_iter().for_each(Waker::wake);
        let give_up = attempt.give_up;
        self.events.remove(&give_up);
    }

    fn give_up(&mut self, number: u64) {
        let Some(attempt) = self.net.attempts.get_mut(&number) else { return };
        attempt.result = Some(Err(io::ErrorKind::TimedOut.into()));
        attempt.waker.take().into_iter().for_each(Waker::wake);
        if let Some(Ok(end)) = attempt.answer.take() {
            self.abort(end);
            self.drop_end(end);
        }
    }

    /// Both halves of an end that never came to its owner.
    pub fn drop_end(&mut self, end: EndId) {
        self.detach(end, true);
        self.detach(end, false);
    }

    /// A host's life ended.
    pub fn net_kill(&mut self, place: HostLife, resets: bool) {
        let ports: Vec<u16> = self
            .net
            .listeners
            .iter()
            .filter(|(_, listener)| listener.place == place)
            .map(|(&(_, port), _)| port)
            .collect();
        for port in ports {
            self.net.listeners.remove(&(place.host, port));
        }
        let attempts: Vec<u64> = self
            .net
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.place == place)
            .map(|(&number, _)| number)
            .collect();
        for number in attempts {
            if let Some(attempt) = self.net.attempts.remove(&number) {
                self.events.remove(&attempt.give_up);
            }
        }
        let ends: Vec<EndId> = self
            .net
            .conns
            .iter()
            .flat_map(|(&conn, state)| {
                [0, 1]
                    .into_iter()
                    .filter(|&side| state.ends[side].place == place)
                    .map(move |side| EndId { conn, side })
            })
            .collect();
        for id in ends {
            if resets && self.net.end(id).is_some_and(|end| end.error.is_none()) {
                self.send_reset(id);
            }
            if let Some(end) = self.net.end(id) {
                end.error.get_or_insert(io::ErrorKind::NetworkDown);
                end.inbox.clear();
                end.reader = None;
                end.writer = None;
                end.reader_gone = true;
                end.writer_gone = true;
            }
            self.forget_if_gone(id.conn);
        }
    }

    /// Lets go on what waited for a link or a host.
    pub fn unpark(&mut self) {
        let parked: Vec<(EndId, usize, u16)> = self
            .net
            .conns
            .iter_mut()
            .flat_map(|(&conn, state)| {
                let hosts = [state.ends[0].place.host, state.ends[1].place.host];
                state.ends.iter_mut().enumerate().map(move |(side, end)| {
                    (EndId { conn, side }, std::mem::take(&mut end.parked), hosts[1 - side])
                })
            })
            .filter(|(_, count, _)| *count > 0)
            .collect();
        for (id, count, from) in parked {
            let Some(to) = self.net.end(id).map(|end| end.place.host) else { continue };
            let delay = self.net.delay(from, to);
            let now = self.now;
            let Some(end) = self.net.end(id) else { continue };
            // Later segments may not overtake those that were held back: they were scheduled before, but find
            // the first segment of the line, whichever event comes first.
            let arrival = after(now, delay);
            end.last_arrival = end.last_arrival.max(arrival);
            for _ in 0..count {
                self.schedule(arrival, Event::Net(NetEvent::Deliver(id)));
            }
        }
        let attempts: Vec<(u64, bool, u16, u16)> = self
            .net
            .attempts
            .iter_mut()
            .filter_map(|(&number, attempt)| {
                let parked = std::mem::take(&mut attempt.parked);
                parked.then_some((number, attempt.answer.is_some(), attempt.place.host, attempt.target))
            })
            .collect();
        for (number, answered, from, to) in attempts {
            let delay = self.net.delay(from, to);
            let event = if answered { NetEvent::Answer(number) } else { NetEvent::Knock(number) };
            self.schedule_in(delay, Event::Net(event));
        }
    }
}
