//! Moves bytes for one connection of a test.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use rt::net::Stream;
use rt::sync::{Event as Flag, Notify, QueueReceiver, queue};
use rt::{Core, Group};
use wire::msgr2::{Answer, Connection, Event, Message, Session};

/// One end of a connection.
pub struct Pump {
    pub connection: RefCell<Connection>,
    /// Written after what the connection has.
    raw: RefCell<Vec<Bytes>>,
    wake: Notify,
    pub closed: Flag,
}

impl Pump {
    /// Starts moving. Events come in order.
    pub fn start(core: &Core, stream: Stream, connection: Connection) -> (Rc<Self>, QueueReceiver<Event>) {
        let pump = Rc::new(Self {
            connection: RefCell::new(connection),
            raw: RefCell::default(),
            wake: Notify::default(),
            closed: Flag::default(),
        });
        let (sender, receiver) = queue(1 << 16);
        let (mut reader, mut writer) = (stream.reader, stream.writer);
        let reading = pump.clone();
        drop(core.spawn(Group::Client, "test reads", async move {
            while let Ok(chunk) = reader.read().await {
                if chunk.is_empty() || reading.closed.is_set() || reading.feed(chunk, &sender).is_err() {
                    break;
                }
            }
            reading.close();
        }));
        let writing = pump.clone();
        drop(core.spawn(Group::Client, "test writes", async move {
            loop {
                let mut chunks = writing.connection.borrow_mut().poll_transmit();
                chunks.append(&mut writing.raw.borrow_mut());
                if writing.closed.is_set() {
                    break;
                }
                if chunks.is_empty() {
                    writing.wake.notified().await;
                } else if writer.write_all(chunks).await.is_err() {
                    break;
                }
            }
            writer.abort();
            writing.close();
        }));
        (pump, receiver)
    }

    fn feed(&self, chunk: Bytes, events: &rt::sync::QueueSender<Event>) -> Result<(), ()> {
        let fed = self.connection.borrow_mut().feed(chunk);
        loop {
            let event = self.connection.borrow_mut().poll_event();
            let Some(event) = event else { break };
            let answered = match event {
                Event::NeedGlobalId { .. } => self.connection.borrow_mut().assign_global_id(77),
                Event::NeedSession(_) => {
                    self.connection.borrow_mut().answer(Answer::Accept(Box::new(Session::lossy())))
                }
                event => {
                    drop(events.try_send(event));
                    Ok(())
                }
            };
            answered.map_err(drop)?;
        }
        self.wake.notify_one();
        fed.map_err(drop)
    }

    /// Sends.
    pub fn send(&self, message: Message) {
        // A test that sends on a closed connection sees that nothing comes back.
        drop(self.connection.borrow_mut().send(message));
        self.wake.notify_one();
    }

    /// Sends bytes as they are.
    pub fn send_raw(&self, chunks: Vec<Bytes>) {
        self.raw.borrow_mut().extend(chunks);
        self.wake.notify_one();
    }

    /// Drops the connection.
    pub fn close(&self) {
        self.closed.set();
        self.wake.notify_one();
    }
}
