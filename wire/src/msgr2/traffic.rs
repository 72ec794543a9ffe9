//! The connection after its handshake: messages, acknowledgements, keepalives.

use crate::codec::decode_exact;
use crate::msgr2::control::{Ack, Control, Keepalive, KeepaliveAck};
use crate::msgr2::{Connection, Data, Event, Frame, Message, ProtocolError, Tag, WireHeader};
use crate::types::UTime;

impl Connection {
    /// Asks the peer for a sign of life; [`Event::KeepaliveAck`] brings `now` back. Does nothing before the
    /// handshake is over.
    pub fn send_keepalive(&mut self, now: UTime) {
        if self.is_ready() {
            self.transmit_control(&Keepalive { sent_at: now });
        }
    }

    pub(super) fn handle_traffic(&mut self, frame: Frame) -> Result<(), ProtocolError> {
        let [first, front, middle, data] = frame.segments;
        match frame.tag {
            Tag::KEEPALIVE2 => {
                let Keepalive { sent_at } = Keepalive::from_segment(first)?;
                self.keepalive = Some(sent_at);
                self.events.push_back(Event::Keepalive(sent_at));
            }
            Tag::KEEPALIVE2_ACK => {
                self.events.push_back(Event::KeepaliveAck(KeepaliveAck::from_segment(first)?.sent_at));
            }
            Tag::ACK => {
                let seq = Ack::from_segment(first)?.message_seq;
                self.ready_session().acknowledged(seq);
            }
            _ => {
                let header: WireHeader = decode_exact("message header", first)?;
                let session = self.ready_session();
                session.acknowledged(header.ack_seq);
                if session.received(header.seq) {
                    let data = Data::received(data, frame.data_checksums);
                    let message = Message { header: header.header, front, middle, data };
                    self.events.push_back(match frame.dropped {
                        0 => Event::Message(message),
                        data_bytes => Event::TooLong { message, data_bytes },
                    });
                }
            }
        }
        Ok(())
    }

    /// Answers the newest sign of life, which tells of those before it too.
    pub(super) fn acknowledge_keepalive(&mut self) {
        if let Some(sent_at) = self.keepalive.take() {
            self.transmit_control(&KeepaliveAck { sent_at });
        }
    }

    /// Moves queued messages to the socket; acknowledges when nothing else carries the number.
    pub(super) fn transmit_queued(&mut self) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        while let Some((seq, message)) = session.next_to_send() {
            session.acked_in_seq = session.in_seq;
            let ack_seq = session.in_seq;
            transmit_message(&mut self.transmit, self.revision, seq, ack_seq, &message);
        }
        if !session.lossy && session.acked_in_seq < session.in_seq {
            session.acked_in_seq = session.in_seq;
            let message_seq = session.in_seq;
            self.transmit_control(&Ack { message_seq });
        }
    }

    /// Sends again, with their numbers, what the peer does not have.
    pub(super) fn retransmit(&mut self) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        for (seq, message) in &session.sent {
            transmit_message(&mut self.transmit, self.revision, *seq, session.in_seq, message);
        }
        if !session.sent.is_empty() {
            session.acked_in_seq = session.in_seq;
        }
    }

    fn ready_session(&mut self) -> &mut crate::msgr2::Session {
        match self.session.as_mut() {
            Some(session) => session,
            None => panic!("invariant: a ready connection has a session"),
        }
    }
}

fn transmit_message(
    transmit: &mut crate::msgr2::Transmit,
    revision: crate::msgr2::Revision,
    seq: u64,
    ack_seq: u64,
    message: &Message,
) {
    let header = WireHeader { seq, ack_seq, header: message.header };
    transmit.message(revision, &header.bytes(), &message.front, &message.middle, &message.data);
}
