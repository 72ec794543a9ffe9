//! Ops on extended attributes.

use bytes::Bytes;
use wire::codec::Writer;

use crate::errno::OpResult;
use crate::execute::Output;
use crate::limits::ATTR_NAME_BYTES_MAX;
use crate::object_view::ObjectView;
use crate::operation::{AttrOperand, Relation};
use wire::Errno;

/// GETXATTR.
pub async fn get(view: &ObjectView, name: &Bytes) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    match view.attr(name).await? {
        Some(value) => Ok(Output::bytes(value)),
        None => Err(Errno::ENODATA.into()),
    }
}

/// GETXATTRS.
pub async fn get_all(view: &ObjectView) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    let mut w = Writer::new();
    w.map(&view.attrs().await?);
    Ok(Output::bytes(w.finish()))
}

/// CMPXATTR: the given value on the left, the stored one (empty or zero if absent) on the right.
pub async fn compare(
    view: &ObjectView,
    name: &Bytes,
    relation: Relation,
    operand: &AttrOperand,
) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    let stored = view.attr(name).await?.unwrap_or_default();
    let holds = match operand {
        AttrOperand::Text(given) => relation.holds(given, &stored),
        AttrOperand::Number(given) => relation.holds(given, &decimal_prefix(&stored)),
    };
    if holds { Ok(Output::value(1)) } else { Err(Errno::ECANCELED.into()) }
}

/// SETXATTR.
pub fn set(view: &mut ObjectView, name: Bytes, value: Bytes) -> OpResult<Output> {
    if name.len() > ATTR_NAME_BYTES_MAX {
        return Err(Errno::ENAMETOOLONG.into());
    }
    view.set_attr(name, value);
    Ok(Output::default())
}

/// RMXATTR.
pub fn remove(view: &mut ObjectView, name: Bytes) -> OpResult<Output> {
    if !view.exists() {
        return Err(Errno::ENOENT.into());
    }
    view.remove_attr(name);
    Ok(Output::default())
}

//= ceph 16.2 osd: the stored text is read by strtoull, base 10
/// The number that `text` begins with: blanks, a sign, digits; 0 if there is none, the largest if it overflows.
fn decimal_prefix(text: &[u8]) -> u64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, text),
    };
    let mut value = 0u64;
    for digit in digits.iter().take_while(|byte| byte.is_ascii_digit()) {
        let next = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
        let Some(next) = next else { return u64::MAX };
        value = next;
    }
    if negative { value.wrapping_neg() } else { value }
}

#[cfg(test)]
mod tests {
    use super::decimal_prefix;

    #[test]
    fn reads_numbers_as_strtoull_does() {
        for (text, value) in [
            ("", 0),
            ("5000", 5000),
            (" 12abc", 12),
            ("abc", 0),
            ("-1", u64::MAX),
            ("+7", 7),
            ("18446744073709551615", u64::MAX),
            ("99999999999999999999", u64::MAX),
        ] {
            assert_eq!(decimal_prefix(text.as_bytes()), value, "{text:?}");
        }
    }
}
