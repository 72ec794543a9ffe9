//! Calls as such: names, flags, and the class `hello`.

#![expect(clippy::expect_used, reason = "tests")]

mod world;

use bytes::Bytes;
use cls::{Access, CallError, Class, ClassHost, MemoryObject, Method, NATIVE, Object, Registry, Reply};
use futures_util::FutureExt;
use wire::Errno;
use world::{call, caller};

const EEXIST: i32 = -17;
const EINVAL: i32 = -22;
const EOPNOTSUPP: i32 = -95;

#[test]
fn unknown_classes_and_methods_are_not_supported() {
    let host = &NATIVE;
    for (class, method) in
        [("nosuch", "lock"), ("lock", "nosuch"), ("", ""), ("lock\0", "lock"), ("LOCK", "lock")]
    {
        assert_eq!(host.access(class.as_bytes(), method.as_bytes()), None);
        assert_eq!(call(&mut MemoryObject::default(), &caller(1), class, method, "").0, EOPNOTSUPP);
    }
    assert_eq!(host.access(b"\xff", b"lock"), None);
    assert_eq!(host.access(b"lock", b"lock"), Some(Access::ReadWrite));
    assert_eq!(host.access(b"lock", b"get_info"), Some(Access::Read));
}

static LIARS: Class = Class {
    name: "liars",
    methods: &[
        Method {
            name: "reader",
            access: Access::Read,
            run: |context, _| {
                Box::pin(async move {
                    context.writable()?.write_full(Bytes::new())?;
                    Reply::done()
                })
            },
        },
        Method {
            name: "writer",
            access: Access::Write,
            run: |context, _| Box::pin(async move { Reply::output(context.read(0, 1).await?) }),
        },
    ],
};

static LIES: &[&Class] = &[&LIARS];

#[test]
fn methods_do_only_what_they_were_registered_for() {
    let host = Registry { classes: LIES };
    let mut object = MemoryObject::default();
    object.create(false).expect("an object");
    let before = object.clone();
    for method in ["reader", "writer"] {
        let caller = caller(1);
        let done = host.call(b"liars", method.as_bytes(), &mut object, &caller, Bytes::new()).now_or_never();
        assert_eq!(done, Some(Err(CallError::Errno(Errno::EIO))), "{method}");
        assert_eq!(object, before);
    }
}

#[test]
fn hello_greets_and_writes() {
    let mut object = MemoryObject::default();
    let mut hello = |method, input: &str| call(&mut object, &caller(1), "hello", method, input.to_owned());
    assert_eq!(hello("say_hello", ""), (0, "Hello, world!".into()));
    assert_eq!(hello("say_hello", "you"), (0, "Hello, you!".into()));
    assert_eq!(hello("say_hello", &"x".repeat(100)).0, 0);
    assert_eq!(hello("say_hello", &"x".repeat(101)).0, EINVAL);
    assert_eq!(hello("record_hello", &"x".repeat(101)).0, EINVAL);
    assert_eq!(hello("record_hello", "you"), (0, Bytes::new()));
    assert_eq!(hello("record_hello", "you").0, EEXIST);
    assert_eq!(hello("write_return_data", ""), (42, "you might see this".into()));
    let refused = hello("write_return_data", "x");
    assert_eq!((refused.0, refused.1.is_empty()), (EINVAL, false));
    assert!(hello("write_too_much_return_data", "").1.len() > 64);
    assert_eq!(object.read(0, 100).now_or_never(), Some(Ok("Hello, you!".into())));
    let name = Bytes::from_static(b"said_by");
    assert_eq!(object.attr(&name).now_or_never(), Some(Ok(Some("client.1".into()))));
}
