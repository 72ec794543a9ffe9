//! Decoders of values: encoding what was decoded is a fixed point, and no larger than the input allows.

use std::fmt::Debug;

use bytes::Bytes;

use crate::codec::{Reader, Wire, decode_exact, encode_to_bytes};
use crate::msg::{Body, OpArgs, OpCode, OsdOp, Payload, decode_message};
use crate::msgr2::{Data, Message, MessageHeader, auth};

/// Old forms are decoded into new ones, which have a few more fields per element; and an empty element of a
/// list, the smallest there is, may gain as much as this many times its own size.
const GROWTH_MAX: usize = 8;
const GROWTH_FIXED: usize = 4096;

fn check_growth(input: usize, output: usize) {
    assert!(output <= GROWTH_MAX * input + GROWTH_FIXED, "{input} bytes became {output}");
}

/// A value that starts the input.
pub fn value<T: Wire + Debug>(input: &[u8]) {
    let mut r = Reader::new("fuzz", Bytes::copy_from_slice(input));
    let Ok(value) = T::decode(&mut r) else {
        return;
    };
    let encoded = encode_to_bytes(&value);
    check_growth(input.len(), encoded.len());
    assert!(encoded.len() >= T::BYTES_MIN, "the least size is overstated: {value:?}");
    match decode_exact::<T>("fuzz", encoded.clone()) {
        // Compared as bytes, because floating-point values need not equal themselves.
        Ok(again) => assert_eq!(encode_to_bytes(&again), encoded, "{value:?}"),
        Err(error) => panic!("{value:?} was encoded to something that is refused: {error}"),
    }
}

/// The input of [`payload`] entries for a message: length of the front, front, data.
pub fn payload_input(message: &Message) -> Vec<u8> {
    let front = message.front.len().to_le_bytes();
    [&front[..4], &message.front, &message.data.to_bytes()].concat()
}

/// The input of the entry "message": type, versions, then as [`payload_input`].
pub fn message_input(message: &Message) -> Vec<u8> {
    let header = &message.header;
    let mut input = header.kind.to_le_bytes().to_vec();
    input.extend(header.version.to_le_bytes());
    input.extend(header.compat_version.to_le_bytes());
    input.extend(payload_input(message));
    input
}

fn split(kind: u16, version: u16, compat_version: u16, input: &[u8]) -> Message {
    let (length, rest) = input.split_at(input.len().min(4));
    let length = length.iter().rev().fold(0usize, |n, byte| n << 8 | usize::from(*byte));
    let (front, data) = rest.split_at(length.min(rest.len()));
    Message {
        header: MessageHeader { tid: 7, kind, priority: 1, version, compat_version, data_offset: 0 },
        front: Bytes::copy_from_slice(front),
        middle: Bytes::new(),
        data: Data::from(Bytes::copy_from_slice(data)),
    }
}

/// A message of one type.
pub fn payload<P: Payload + Debug + PartialEq>(input: &[u8]) {
    let message = split(P::KIND, P::VERSION, P::COMPAT, input);
    if let Ok(body) = P::from_message(&message) {
        let again = body.to_message(7);
        check_growth(input.len(), again.front.len() + again.data.len());
        assert_eq!(P::from_message(&again).as_ref(), Ok(&body));
        let encoded = body.to_message(7);
        assert_eq!((&encoded.front, &encoded.data), (&again.front, &again.data));
    }
}

/// A message of any type in any version.
pub fn any_message(input: &[u8]) {
    let (header, rest) = input.split_at(input.len().min(6));
    let field = |at: usize| {
        u16::from_le_bytes(std::array::from_fn(|i| header.get(at + i).copied().unwrap_or_default()))
    };
    let message = split(field(0), field(2), field(4), rest);
    if let Ok(body) = decode_message(&message) {
        let again = body.to_message(7);
        assert_eq!(decode_message(&again), Ok(body.clone()));
        if let Body::Unknown(unknown) = body {
            assert_eq!(unknown, message);
        }
    }
}

/// Operations of a request: without the data, arguments, and what is taken out of their payloads.
pub fn op_arguments(input: &[u8]) {
    let message = split(OsdOp::KIND, OsdOp::VERSION, OsdOp::COMPAT, input);
    let decoded = OsdOp::from_message(&message);
    let bare = decoded.clone().map(|mut request| {
        request.ops.iter_mut().for_each(|op| op.data = Data::new());
        request
    });
    assert_eq!(
        OsdOp::without_data(&message, message.data.len()),
        bare,
        "dropping the data changes nothing else"
    );
    let Ok(request) = decoded else {
        return;
    };
    for op in &request.ops {
        let again = crate::msg::Op::new(op.code, op.args(), op.data.clone());
        assert_eq!(again.args(), op.args());
        if let Some((name, value)) = op.xattr() {
            assert!(name.len() + value.len() <= op.data.len());
        }
        if let Some((class, method, input)) = op.call() {
            assert!(class.len() + method.len() + input.len() <= op.data.len());
        }
        if op.code == OpCode::PGNLS && matches!(op.args(), OpArgs::PgList { .. }) {
            drop(crate::msg::pg_list_cursor(op.data.to_bytes()));
        }
    }
    let target = request.target();
    assert_eq!(target.cmp(&target), std::cmp::Ordering::Equal);
}

/// Credentials of auth none.
pub fn auth_claim(input: &[u8]) {
    if let Ok(claim) = auth::claim(Bytes::copy_from_slice(input)) {
        for peer in [crate::types::EntityKind::MON, crate::types::EntityKind::OSD] {
            let again = auth::request(&claim, peer);
            assert_eq!(auth::claim(again.payload), Ok(claim.clone()));
        }
    }
}
