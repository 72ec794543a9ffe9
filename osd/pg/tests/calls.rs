//! Calls beside other ops: what a request with calls returns, and that it happens whole or not at all.

mod world;

use wire::msg::{OpCode as O, OpFlags, RequestFlags};
use world::{World, attr, class_call, extent, op, write};

const ENOENT: i32 = -2;
const EEXIST: i32 = -17;
const EINVAL: i32 = -22;
const ENODATA: i32 = -61;
const EOVERFLOW: i32 = -75;

#[test]
fn calls_that_write_return_only_what_they_are_asked_for() {
    let mut world = World::new();
    let quiet = world.run("x", &[class_call("hello", "write_return_data", b"")]);
    assert_eq!((quiet.result, quiet.values, quiet.data), (0, vec![42], vec![vec![]]));
    let mut vector = world.request("x", &[class_call("hello", "write_return_data", b"")]);
    vector.flags = RequestFlags::RETURN_VECTOR;
    let told = world.serve(&vector);
    assert_eq!((told.result, &told.data[0][..]), (42, &b"you might see this"[..]));
    let mut long = world.request("y", &[class_call("hello", "write_too_much_return_data", b"")]);
    long.flags = RequestFlags::RETURN_VECTOR;
    let refused = world.serve(&long);
    assert_eq!((refused.result, refused.values, refused.data), (EOVERFLOW, vec![EOVERFLOW], vec![vec![]]));
    assert_eq!(world.run("y", &[op(O::STAT)]).result, ENOENT);
}

#[test]
fn a_call_that_fails_takes_the_request_with_it_and_may_say_why() {
    let mut world = World::new();
    let call = class_call("hello", "write_return_data", b"x");
    let reply = world.run("x", &[write(O::WRITE_FULL, 0, b"data"), call.clone(), op(O::STAT)]);
    assert_eq!((reply.result, reply.values), (EINVAL, vec![0, EINVAL, 0]));
    assert_eq!(reply.data[1], b"too much input data!");
    assert_eq!(world.run("x", &[op(O::STAT)]).result, ENOENT);
    let forgiven = call.with_flags(OpFlags::FAIL_OK);
    let reply = world.run("x", &[forgiven, write(O::WRITE_FULL, 0, b"data")]);
    assert_eq!((reply.result, reply.values), (0, vec![EINVAL, 0]));
}

#[test]
fn a_call_sees_the_ops_before_it_and_is_undone_by_those_after_it() {
    let mut world = World::new();
    let record = || class_call("hello", "record_hello", b"");
    assert_eq!(world.run("x", &[op(O::CREATE), record()]).result, EEXIST);
    assert_eq!(world.run("x", &[record(), attr(O::GETXATTR, "nothing", b"", (0, 0))]).result, ENODATA);
    assert_eq!(world.run("x", &[op(O::STAT)]).result, ENOENT);
    assert_eq!(world.run("x", &[record(), write(O::APPEND, 0, b"!")]).result, 0);
    assert_eq!(world.run("x", &[extent(O::READ, 0, 0)]).data[0], b"Hello, world!!");
}

#[test]
fn calls_that_read_need_an_object_and_return_everything() {
    let mut world = World::new();
    let say = class_call("hello", "say_hello", &[b'x'; 90]);
    assert_eq!(world.run("x", std::slice::from_ref(&say)).result, ENOENT);
    let reply = world.run("x", &[op(O::CREATE)]);
    assert_eq!(reply.result, 0);
    let said = world.run("x", &[say]);
    assert_eq!((said.result, said.data[0].len()), (0, 98));
    assert_eq!(said.versions.replay.version, 0, "a read is not logged");
}
