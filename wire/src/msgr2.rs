//! msgr2, revisions 2.0 and 2.1, crc mode: bytes in, events out.
//!
//! [`Connection`] is one TCP connection, of either side. [`Session`] is what a lossless peer keeps across
//! connections; [`SessionTable`] is where an accepting daemon finds it again. None of them does I/O, knows a
//! clock or draws random numbers: the shell passes in what it read, writes out what it is given, and closes
//! the socket when it is told to.
//!
//! ```text
//! shell:  feed(chunk)?  ──►  while poll_event() ──►  act, send(message)
//!         poll_transmit()  ──►  write_all
//! ```
//!
//! After an error the shell still writes what [`Connection::poll_transmit`] gives, then closes.

mod acceptor;
mod assembler;
pub mod auth;
mod banner;
mod connection;
mod connector;
pub mod control;
mod error;
mod event;
mod frame;
mod input;
mod message;
mod session;
mod table;
mod traffic;
mod transmit;

pub use assembler::{Assembler, Frame};
pub use connection::{Config, Connection, SendError};
pub use error::ProtocolError;
pub use event::{Answer, Event, Peer, SessionIntent, SessionRequest};
pub use frame::{LongData, Preamble, Revision, Tag};
pub use input::Input;
pub use message::{Data, MESSAGE_HEADER_BYTES, Message, MessageHeader, WireHeader, priority};
pub use session::Session;
pub use table::{ConnectionId, PeerPolicy, SessionTable, Verdict};
pub use transmit::Transmit;
