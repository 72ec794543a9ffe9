//! The class `hello`: the smallest methods of each kind, for trying out calls and their rules.
//!
//! Of Ceph's class of this name, without the methods whose only purpose is to fail.

use bytes::Bytes;

use crate::context::ObjectContext;
use crate::error::CallResult;
use crate::host::{Access, Reply};
use crate::limits::HELLO_INPUT_BYTES_MAX;
use crate::registry::{Class, Method};
use wire::Errno;

/// The class.
pub static CLASS: Class = Class {
    name: "hello",
    methods: &[
        Method {
            name: "say_hello",
            access: Access::Read,
            run: |_, input| Box::pin(async move { Reply::output(greeting(&input)?) }),
        },
        Method {
            name: "record_hello",
            access: Access::Write,
            run: |context, input| Box::pin(async move { record_hello(context, &input) }),
        },
        Method {
            name: "write_return_data",
            access: Access::Write,
            run: |context, input| {
                Box::pin(async move { write_and_return(context, &input, "you might see this") })
            },
        },
        Method {
            name: "writes_dont_return_data",
            access: Access::Write,
            run: |context, input| {
                Box::pin(async move { write_and_return(context, &input, "you will never see this") })
            },
        },
        Method {
            name: "write_too_much_return_data",
            access: Access::Write,
            run: |context, input| {
                // More than any write may return.
                let text = "too long to be seen. ".repeat(10);
                Box::pin(async move { write_and_return(context, &input, &text) })
            },
        },
    ],
};

/// Value of the methods that write and return something.
const RETURNED: i32 = 42;

fn greeting(input: &[u8]) -> CallResult<Bytes> {
    if input.len() > HELLO_INPUT_BYTES_MAX {
        return Err(Errno::EINVAL.into());
    }
    let whom = if input.is_empty() { b"world" } else { input };
    Ok([b"Hello, ", whom, b"!"].concat().into())
}

/// Writes the greeting and its author, once.
fn record_hello(context: &mut ObjectContext<'_>, input: &[u8]) -> CallResult<Reply> {
    let greeting = greeting(input)?;
    if context.exists() {
        return Err(Errno::EEXIST.into());
    }
    let author = context.caller().name.to_string();
    let object = context.writable()?;
    object.write_full(greeting)?;
    object.set_attr(Bytes::from_static(b"said_by"), author.into())?;
    Reply::done()
}

fn write_and_return(context: &mut ObjectContext<'_>, input: &[u8], output: &str) -> CallResult<Reply> {
    context.writable()?.set_attr(Bytes::from_static(b"foo"), Bytes::from_static(b"bar"))?;
    if !input.is_empty() {
        // A call that fails changes nothing, but may still say something.
        return Ok(Reply {
            value: Errno::EINVAL.code(),
            output: Bytes::from_static(b"too much input data!"),
        });
    }
    Ok(Reply { value: RETURNED, output: Bytes::copy_from_slice(output.as_bytes()) })
}
