//! A key-value store for crash tests: what is durable apart from what is visible, late answers, every promise of the
//! seam and no more.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use bluefs::kv::{
    KvBatch, KvError, KvOp, KvResult, KvStats, KvStore, KvView, MergeOperator, ScanLimit, ScanPage,
    merge_operator,
};
use bytes::Bytes;
use rt::{Core, LocalBoxFuture};

type Map = BTreeMap<Bytes, Bytes>;

/// What outlives the process.
#[derive(Clone, Default)]
pub struct TestKv {
    /// States that a crash may leave, oldest first; the first is durable for sure.
    states: Rc<RefCell<Vec<Rc<Map>>>>,
}

/// The store in one life.
pub struct Handle {
    core: Core,
    states: Rc<RefCell<Vec<Rc<Map>>>>,
    /// How many states were dropped from the front.
    base: Rc<RefCell<usize>>,
    view: Rc<RefCell<Rc<Map>>>,
}

impl TestKv {
    pub fn new() -> Self {
        let kv = Self::default();
        kv.states.borrow_mut().push(Rc::default());
        kv
    }

    /// What a crash may leave: how many states there are.
    pub fn choices(&self) -> usize {
        self.states.borrow().len()
    }

    /// A crash that leaves state number `choice`.
    pub fn crash(&self, choice: usize) {
        let left = self.states.borrow()[choice].clone();
        *self.states.borrow_mut() = vec![left];
    }

    /// One of its own that is as this one would be if its process had ended.
    pub fn copy(&self) -> Self {
        let newest = self.states.borrow().last().expect("one state").clone();
        Self { states: Rc::new(RefCell::new(vec![newest])) }
    }

    pub fn open(&self, core: &Core) -> Rc<dyn KvStore> {
        let newest = self.states.borrow().last().expect("one state").clone();
        Rc::new(Handle {
            core: core.clone(),
            states: Rc::clone(&self.states),
            base: Rc::default(),
            view: Rc::new(RefCell::new(newest)),
        })
    }
}

impl Handle {
    fn late(&self) -> LocalBoxFuture<'static, ()> {
        let micros = self.core.random_u64() % 300;
        self.core.sleep_until(rt::Nanos(self.core.now().0 + micros * 1000))
    }
}

fn apply(map: &mut Map, op: &KvOp) {
    match op {
        KvOp::Put(key, value) => {
            map.insert(key.clone(), value.clone());
        }
        KvOp::Delete(key) => {
            map.remove(key);
        }
        KvOp::DeleteRange(start, end) => map.retain(|key, _| key < start || key >= end),
        KvOp::Merge(key, operand) => {
            let old = map.get(key).cloned().unwrap_or_default();
            if merge_operator(key) == Some(MergeOperator::Xor) {
                let byte = |bytes: &Bytes, at: usize| bytes.get(at).copied().unwrap_or(0);
                let len = operand.len().max(old.len());
                let flipped: Vec<u8> = (0..len).map(|at| byte(&old, at) ^ byte(operand, at)).collect();
                map.insert(key.clone(), Bytes::from(flipped));
                return;
            }
            assert_eq!(merge_operator(key), Some(MergeOperator::AddI64));
            let get = |bytes: &Bytes, at: usize| {
                bytes.get(at..at + 8).map_or(0, |b| i64::from_le_bytes(b.try_into().expect("eight")))
            };
            let sum = (0..operand.len().max(old.len()))
                .step_by(8)
                .flat_map(|at| get(&old, at).wrapping_add(get(operand, at)).to_le_bytes())
                .collect::<Vec<u8>>();
            map.insert(key.clone(), Bytes::from(sum));
        }
    }
}

impl KvStore for Handle {
    fn view(&self) -> KvView {
        KvView::new(Rc::new(Rc::clone(&self.view.borrow())))
    }

    fn apply(&self, batch: KvBatch) -> LocalBoxFuture<'static, KvResult<KvView>> {
        let mut next = self.states.borrow().last().expect("one state").as_ref().clone();
        batch.ops.iter().for_each(|op| apply(&mut next, op));
        let next = Rc::new(next);
        self.states.borrow_mut().push(Rc::clone(&next));
        let (late, view) = (self.late(), Rc::clone(&self.view));
        Box::pin(async move {
            late.await;
            *view.borrow_mut() = Rc::clone(&next);
            Ok(KvView::new(Rc::new(next)))
        })
    }

    fn flush(&self) -> LocalBoxFuture<'static, KvResult<()>> {
        let applied = *self.base.borrow() + self.states.borrow().len() - 1;
        let (late, states, base) = (self.late(), Rc::clone(&self.states), Rc::clone(&self.base));
        Box::pin(async move {
            late.await;
            let gone = applied - *base.borrow();
            states.borrow_mut().drain(..gone);
            *base.borrow_mut() += gone;
            Ok(())
        })
    }

    fn get(&self, view: &KvView, keys: Vec<Bytes>) -> LocalBoxFuture<'static, KvResult<Vec<Option<Bytes>>>> {
        let map = view.get::<Rc<Map>>().expect("a view of this store").clone();
        let late = self.late();
        Box::pin(async move {
            late.await;
            Ok(keys.iter().map(|key| map.get(key).cloned()).collect())
        })
    }

    fn scan(
        &self,
        view: &KvView,
        start: Bytes,
        end: Bytes,
        limit: ScanLimit,
    ) -> LocalBoxFuture<'static, KvResult<ScanPage>> {
        let map = view.get::<Rc<Map>>().expect("a view of this store").clone();
        let late = self.late();
        // Short pages, so that scans take several and things happen in between.
        let keys = limit.keys.min(1 + usize::try_from(self.core.random_u64() % 8).expect("small"));
        Box::pin(async move {
            late.await;
            let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end.clone()) };
            let mut page = ScanPage::default();
            if !end.is_empty() && start >= end {
                return Ok(page);
            }
            for (key, value) in map.range((Bound::Included(start), upper)) {
                if page.entries.len() >= keys {
                    page.more = true;
                    break;
                }
                page.entries.push((key.clone(), value.clone()));
            }
            Ok(page)
        })
    }

    fn stats(&self) -> KvStats {
        KvStats::default()
    }

    fn close(&self) -> LocalBoxFuture<'static, Result<(), KvError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
