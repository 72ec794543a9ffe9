//! A placement group on a memory store, served as the daemon serves it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use cls::Caller;
use store::{MemStore, ObjectId, ObjectStore};
use wire::msg::{Op, RequestFlags};
use wire::types::{EntityName, Epoch, PgId, RequestId, SnapId, UTime};

use crate::execute::{Output, execute};
use crate::group::Group;
use crate::listing::hash_bits;
use crate::object_info::{INFO_ATTR, ObjectInfo};
use crate::object_view::{ObjectView, load_state};
use crate::request::Request;
use wire::Errno;

const EPOCH: Epoch = Epoch(3);
const STORE_BYTES: u64 = 1 << 30;

/// The group and its store.
pub(super) struct World {
    store: Rc<MemStore>,
    group: Group,
    requests: u64,
}

/// What the client gets.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) result: i32,
    /// Empty if the request was refused before or after it was executed.
    pub(super) outputs: Vec<Output>,
    /// The store did not take the transaction: it exceeds one of its limits.
    pub(super) is_refused_by_store: bool,
}

/// An object as clients see it, without its versions and times.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Visible {
    data: Bytes,
    attrs: Vec<(Bytes, Bytes)>,
    omap: Vec<(Bytes, Bytes)>,
    omap_header: Bytes,
    info: ObjectInfo,
}

impl World {
    pub(super) fn new() -> Self {
        let store = MemStore::new(STORE_BYTES);
        let (group, transaction) = Group::create(PgId::new(1, 0), hash_bits(0, 1), EPOCH);
        if let Err(error) = store.apply(&transaction) {
            panic!("an empty store takes a collection: {error}");
        }
        Self { store: Rc::new(store), group, requests: 0 }
    }

    /// A request of the next id.
    pub(super) fn request(&mut self, object: ObjectId, flags: RequestFlags, ops: Vec<Op>) -> Request {
        self.requests += 1;
        Request {
            reqid: RequestId { name: EntityName::client(4100), incarnation: 0, tid: self.requests },
            caller: Caller::client(4100),
            object,
            snap: SnapId::HEAD,
            snap_seq: SnapId(0),
            snaps: Vec::new(),
            flags,
            mtime: UTime::default(),
            ops,
        }
    }

    /// Serves a request, and checks that it does what it says and no more.
    pub(super) fn serve(&mut self, request: &Request) -> Reply {
        let refused = |errno: Errno, is_refused_by_store| Reply {
            result: errno.code(),
            outputs: Vec::new(),
            is_refused_by_store,
        };
        if let Err(errno) = request.check() {
            return refused(errno, false);
        }
        if request.is_group_request() {
            return refused(Errno::EINVAL, false);
        }
        let visible_before = self.visible(&request.object);
        let collection = self.group.collection();
        let before = must(now(load_state(&*self.store, collection, &request.object)));
        if before.is_none() && !request.may_write() {
            return refused(Errno::ENOENT, false);
        }
        let view = ObjectView::new(self.store.clone(), collection, request.object.clone(), before);
        let mut execution = must(now(execute(request, view)));
        assert_eq!(execution.outputs.len(), request.ops.len());
        let Some(sealed) = self.group.seal(EPOCH, request, &mut execution, before) else {
            assert_eq!(self.visible(&request.object), visible_before, "a read changes nothing");
            return Reply {
                result: execution.result,
                outputs: execution.outputs,
                is_refused_by_store: false,
            };
        };
        assert_eq!(sealed.versions.replay, self.group.info().last_update);
        if let Err(error) = self.store.apply(&sealed.transaction) {
            assert!(matches!(error, store::StoreError::TooLarge(_)), "a transaction nobody can do: {error}");
            self.group.forget(request);
            assert!(self.group.duplicate(request).is_none());
            return refused(Errno::EFBIG, true);
        }
        let after = must(now(load_state(&*self.store, collection, &request.object)));
        assert_eq!(after, sealed.after, "the state foretold is the state stored");
        if execution.result < 0 {
            assert_eq!(self.visible(&request.object), visible_before, "a failed request changes nothing");
        }
        let recorded = self.group.duplicate(request);
        assert!(
            recorded.is_some_and(|r| r.result == execution.result && r.version == sealed.versions.replay)
        );
        Reply { result: execution.result, outputs: execution.outputs, is_refused_by_store: false }
    }

    /// Opens the group from what is stored, as after a restart.
    pub(super) fn check_restart(&self) {
        let collection = self.group.collection();
        let all = must(now(self.store.collections()));
        let Some((_, _, meta)) = all.into_iter().find(|(id, ..)| *id == collection) else {
            panic!("the collection is gone");
        };
        let log = must(now(self.store.log(collection)));
        let forgotten = log.is_empty();
        let again = must(Group::open(self.group.id(), meta, log));
        // A version that the store refused stays unused, and is not known after a restart.
        assert!(forgotten || again.info().last_update <= self.group.info().last_update);
        assert!(again.info().last_user_version <= self.group.info().last_user_version);
    }

    pub(super) fn visible(&self, object: &ObjectId) -> Option<Visible> {
        let collection = self.group.collection();
        let state = must(now(load_state(&*self.store, collection, object)))?;
        let mut attrs: BTreeMap<Bytes, Bytes> =
            must(now(self.store.attrs(collection, object))).into_iter().collect();
        assert!(attrs.remove(INFO_ATTR).is_some());
        let data = must(now(self.store.read(collection, object, 0, state.size)));
        let omap = now(self.store.omap_scan(collection, object, None, Bytes::new(), usize::MAX, usize::MAX));
        Some(Visible {
            data: crate::chunks::concat(&data),
            attrs: attrs.into_iter().collect(),
            omap: must(omap).entries,
            omap_header: must(now(self.store.omap_header(collection, object))),
            info: ObjectInfo { user_version: 0, ..state.info },
        })
    }
}

/// Head of an object of the group.
pub(super) fn object(name: &[u8]) -> ObjectId {
    ObjectId {
        pool: 1,
        hash: 7,
        namespace: Bytes::new(),
        key: Bytes::new(),
        name: Bytes::copy_from_slice(name),
        snap: ObjectId::HEAD,
    }
}

fn must<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a sound memory store fails: {error}"),
    }
}

/// Futures on the memory store are ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the memory store never waits"),
    }
}
