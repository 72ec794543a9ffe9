//! What every key-value store must pass. `open` gives an empty store each time it is called.
//!
//! Durability needs a crash, which only the caller can arrange: [`Workload`] and [`contents`] are for that.

#![expect(clippy::unwrap_used, reason = "a suite fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::kv::{KvBatch, KvError, KvOp, KvStore, KvView, MemKv, ScanLimit};

/// No limit that a test reaches.
pub const ALL: ScanLimit = ScanLimit { keys: 1 << 20, bytes: 1 << 30 };

/// Runs everything.
pub async fn run<S: KvStore>(open: impl AsyncFn() -> S) {
    starts_empty(&open().await).await;
    reads_what_was_written(&open().await).await;
    pages_a_scan(&open().await).await;
    orders_within_a_batch(&open().await).await;
    deletes_ranges(&open().await).await;
    merges(&open().await).await;
    keeps_views(&open().await).await;
    applies_in_order_of_calls(&open().await).await;
    survives_dropped_futures(&open().await).await;
    for seed in 0..4 {
        agrees_with_the_oracle(&open().await, seed, 250).await;
    }
    refuses_after_close(&open().await).await;
}

/// A batch of puts.
pub fn puts(entries: &[(&str, &str)]) -> KvBatch {
    KvBatch { ops: entries.iter().map(|(key, value)| KvOp::Put(bytes(key), bytes(value))).collect() }
}

/// Everything a view shows, in pages of a few keys.
pub async fn contents(store: &impl KvStore, view: &KvView) -> BTreeMap<Bytes, Bytes> {
    let mut all = BTreeMap::new();
    let mut start = Bytes::new();
    loop {
        let page =
            store.scan(view, start, Bytes::new(), ScanLimit { keys: 7, bytes: 1 << 20 }).await.unwrap();
        let last = page.entries.last().map(|(key, _)| key.clone());
        all.extend(page.entries);
        match last.filter(|_| page.more) {
            Some(last) => start = [&last[..], &[0]].concat().into(),
            None => return all,
        }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn texts(all: &BTreeMap<Bytes, Bytes>) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    all.iter().map(|(key, value)| (text(key), text(value))).collect()
}

async fn check(store: &impl KvStore, view: &KvView, expect: &[(&str, &str)]) {
    let expect: Vec<_> = expect.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    assert_eq!(texts(&contents(store, view).await), expect);
}

async fn starts_empty(store: &impl KvStore) {
    check(store, &store.view(), &[]).await;
    let got = store.get(&store.view(), vec![bytes("a"), bytes("")]).await.unwrap();
    assert_eq!(got, [None, None]);
    store.flush().await.unwrap();
}

async fn reads_what_was_written(store: &impl KvStore) {
    let view = store.apply(puts(&[("Mb", "2"), ("Ma", "1"), ("O", ""), ("Mc\0x", "3")])).await.unwrap();
    check(store, &view, &[("Ma", "1"), ("Mb", "2"), ("Mc\0x", "3"), ("O", "")]).await;
    store.flush().await.unwrap();
    let view = store.apply(KvBatch { ops: vec![KvOp::Delete(bytes("Mb")), KvOp::Delete(bytes("absent"))] });
    let view = view.await.unwrap();
    let keys = vec![bytes("Mc\0x"), bytes("Mb"), bytes("Ma"), bytes("O"), bytes("Ma")];
    let got = store.get(&view, keys).await.unwrap();
    assert_eq!(got, [Some(bytes("3")), None, Some(bytes("1")), Some(bytes("")), Some(bytes("1"))]);
    let page = store.scan(&view, bytes("Ma\0"), bytes("O"), ALL).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (1, false));
    let large = "x".repeat(300_000);
    let view = store.apply(puts(&[("Mlarge", &large)])).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(store.get(&view, vec![bytes("Mlarge")]).await.unwrap(), [Some(bytes(&large))]);
    assert_eq!(store.get(&store.view(), vec![bytes("Mlarge")]).await.unwrap(), [Some(bytes(&large))]);
}

async fn pages_a_scan(store: &impl KvStore) {
    let entries: Vec<(String, String)> = (0..50).map(|i| (format!("M{i:02}"), "v".repeat(100))).collect();
    let borrowed: Vec<(&str, &str)> = entries.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let view = store.apply(puts(&borrowed)).await.unwrap();
    let scan = |start: &str, end: &str, keys, bytes_max| {
        store.scan(&view, bytes(start), bytes(end), ScanLimit { keys, bytes: bytes_max })
    };
    let page = scan("M10", "M20", 100, 1 << 20).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (10, false));
    let page = scan("M10", "M20", 4, 1 << 20).await.unwrap();
    assert_eq!((page.entries.len(), page.entries[3].0.clone(), page.more), (4, bytes("M13"), true));
    let page = scan("M10", "", 1000, 350).await.unwrap();
    assert!((1..=5).contains(&page.entries.len()) && page.more, "{} entries", page.entries.len());
    let page = scan("M10", "", 1, 0).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (1, true), "at least one key if there is one");
    assert_eq!(scan("N", "", 5, 5).await.unwrap().entries, []);
    assert_eq!(scan("M20", "M20", 5, 5).await.unwrap().entries, []);
    assert_eq!(scan("M20", "M10", 5, 5).await.unwrap().entries, []);
}

async fn orders_within_a_batch(store: &impl KvStore) {
    let view = store.apply(KvBatch {
        ops: vec![
            KvOp::Put(bytes("Ma"), bytes("1")),
            KvOp::Put(bytes("Ma"), bytes("2")),
            KvOp::Delete(bytes("Mb")),
            KvOp::Put(bytes("Mb"), bytes("3")),
            KvOp::Put(bytes("Mc"), bytes("4")),
            KvOp::DeleteRange(bytes("Mb"), bytes("Md")),
            KvOp::Put(bytes("Mc"), bytes("5")),
        ],
    });
    check(store, &view.await.unwrap(), &[("Ma", "2"), ("Mc", "5")]).await;
    store.flush().await.unwrap();
    check(store, &store.view(), &[("Ma", "2"), ("Mc", "5")]).await;
}

async fn deletes_ranges(store: &impl KvStore) {
    store.apply(puts(&[("Ma", "1"), ("Mb", "2"), ("Mc", "3"), ("Md", "4")])).await.unwrap();
    store.flush().await.unwrap();
    let batch = KvBatch {
        ops: vec![
            KvOp::DeleteRange(bytes("Mb"), bytes("Md")),
            KvOp::DeleteRange(bytes("Md"), bytes("Md")),
            KvOp::DeleteRange(bytes("Mz"), bytes("Ma")),
            KvOp::DeleteRange(bytes("Ma"), bytes("")),
        ],
    };
    let view = store.apply(batch).await.unwrap();
    check(store, &view, &[("Ma", "1"), ("Md", "4")]).await;
    store.apply(puts(&[("Mb", "again")])).await.unwrap();
    store.flush().await.unwrap();
    check(store, &store.view(), &[("Ma", "1"), ("Mb", "again"), ("Md", "4")]).await;
    check(store, &view, &[("Ma", "1"), ("Md", "4")]).await;
}

async fn merges(store: &impl KvStore) {
    let add = |amounts: &[i64]| {
        let operand: Vec<u8> = amounts.iter().flat_map(|amount| amount.to_le_bytes()).collect();
        KvOp::Merge(bytes("Tpool"), operand.into())
    };
    let xor = |operand: &'static [u8]| KvOp::Merge(bytes("B0"), Bytes::from_static(operand));
    store.apply(KvBatch { ops: vec![add(&[5]), add(&[-2, 7]), xor(&[0b1100])] }).await.unwrap();
    store.flush().await.unwrap();
    let view = store.apply(KvBatch { ops: vec![add(&[10]), xor(&[0b1010, 0xff])] }).await.unwrap();
    let expect =
        |amounts: &[i64]| Some(Bytes::from_iter(amounts.iter().flat_map(|amount| amount.to_le_bytes())));
    let keys = || vec![bytes("Tpool"), bytes("B0")];
    let got = store.get(&view, keys()).await.unwrap();
    assert_eq!(got, [expect(&[13, 7]), Some(Bytes::from_static(&[0b0110, 0xff]))]);
    store.flush().await.unwrap();
    assert_eq!(store.get(&store.view(), keys()).await.unwrap(), got);
    let ops = vec![KvOp::Delete(bytes("Tpool")), add(&[1]), KvOp::Put(bytes("B0"), bytes("\x01")), xor(&[2])];
    let view = store.apply(KvBatch { ops }).await.unwrap();
    store.flush().await.unwrap();
    let got = store.get(&view, keys()).await.unwrap();
    assert_eq!(got, [expect(&[1]), Some(Bytes::from_static(&[3]))]);
    let ops = vec![add(&[4]), KvOp::DeleteRange(bytes("T"), bytes("U")), add(&[2])];
    let view = store.apply(KvBatch { ops }).await.unwrap();
    assert_eq!(store.get(&view, keys()).await.unwrap()[0], expect(&[2]));
    store.flush().await.unwrap();
    assert_eq!(store.get(&store.view(), keys()).await.unwrap()[0], expect(&[2]));
}

async fn keeps_views(store: &impl KvStore) {
    let mut views = Vec::new();
    for round in 0..30 {
        let value = round.to_string();
        let mut batch = puts(&[("Mkey", &value), (&format!("M{round:02}"), "x")]);
        if round % 7 == 6 {
            batch.ops.push(KvOp::DeleteRange(bytes("M0"), bytes("M9")));
        }
        views.push((value, store.apply(batch).await.unwrap()));
        if round % 5 == 0 {
            store.flush().await.unwrap();
        }
    }
    for (value, view) in &views {
        assert_eq!(store.get(view, vec![bytes("Mkey")]).await.unwrap(), [Some(bytes(value))]);
        let round: usize = value.parse().unwrap();
        let since = (round + 1) / 7 * 7;
        assert_eq!(contents(store, view).await.len(), 1 + round + 1 - since, "view {round}");
    }
}

async fn applies_in_order_of_calls(store: &impl KvStore) {
    let calls: Vec<_> = (0..40).map(|i| store.apply(puts(&[("Mkey", &i.to_string())]))).collect();
    let flush = store.flush();
    let mut views = Vec::new();
    for call in calls {
        views.push(call.await.unwrap());
    }
    flush.await.unwrap();
    let last = store.get(views.last().unwrap(), vec![bytes("Mkey")]).await.unwrap();
    assert_eq!(last, [Some(bytes("39"))]);
    for (index, view) in views.iter().enumerate() {
        let value = store.get(view, vec![bytes("Mkey")]).await.unwrap()[0].clone().unwrap();
        let value: usize = String::from_utf8(value.to_vec()).unwrap().parse().unwrap();
        assert!(value >= index, "view {index} shows {value}");
    }
}

async fn survives_dropped_futures(store: &impl KvStore) {
    drop(store.apply(puts(&[("Ma", "1")])));
    drop(store.flush());
    drop(store.get(&store.view(), vec![bytes("Ma")]));
    let view = store.apply(puts(&[("Mb", "2")])).await.unwrap();
    check(store, &view, &[("Ma", "1"), ("Mb", "2")]).await;
}

async fn refuses_after_close(store: &impl KvStore) {
    store.apply(puts(&[("Ma", "1")])).await.unwrap();
    let view = store.view();
    store.close().await.unwrap();
    let closed = |error: KvError| assert!(matches!(error, KvError::Closed(_)), "{error}");
    closed(store.apply(puts(&[("Mb", "2")])).await.err().unwrap());
    closed(store.flush().await.unwrap_err());
    closed(store.get(&view, vec![bytes("Ma")]).await.unwrap_err());
    closed(store.scan(&view, bytes(""), bytes(""), ALL).await.unwrap_err());
}

/// Random batches over few keys, so that every kind of change meets every other.
pub struct Workload(u64);

impl Workload {
    /// The batches of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn draw(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }

    /// The next batch: one to five changes.
    pub fn batch(&mut self) -> KvBatch {
        let count = 1 + self.draw(5);
        KvBatch { ops: (0..count).map(|_| self.op()).collect() }
    }

    fn key(&mut self) -> Bytes {
        let prefix = ["M", "O", "T", "B"][self.draw(4) as usize];
        bytes(&format!("{prefix}{:02}", self.draw(30)))
    }

    fn op(&mut self) -> KvOp {
        let key = self.key();
        match self.draw(10) {
            0 | 1 => KvOp::Delete(key),
            2 => KvOp::DeleteRange(key, self.key()),
            _ if matches!(key[0], b'T' | b'B') && self.draw(4) > 0 => {
                let len = 1 + self.draw(16) as usize;
                KvOp::Merge(key, Bytes::from_iter((0..len).map(|_| self.draw(256) as u8)))
            }
            _ => {
                let len = if self.draw(10) == 0 { 3000 } else { self.draw(40) } as usize;
                KvOp::Put(key, Bytes::from(vec![self.draw(256) as u8; len]))
            }
        }
    }
}

async fn agrees_with_the_oracle(store: &impl KvStore, seed: u64, batches: usize) {
    let oracle = MemKv::new();
    let mut workload = Workload::new(seed);
    let mut held: Vec<(KvView, KvView)> = Vec::new();
    for round in 0..batches {
        let batch = workload.batch();
        let theirs = store.apply(batch.clone()).await.unwrap();
        let ours = oracle.apply(batch).await.unwrap();
        if workload.draw(8) == 0 {
            held.push((theirs, ours));
        }
        if workload.draw(12) == 0 {
            store.flush().await.unwrap();
        }
        if held.len() > 5 {
            let index = workload.draw(held.len() as u64) as usize;
            let (theirs, ours) = held.swap_remove(index);
            assert_eq!(
                contents(store, &theirs).await,
                contents(&oracle, &ours).await,
                "seed {seed} round {round}"
            );
        }
        if round % 50 == 0 {
            let keys: Vec<Bytes> = (0..20).map(|_| workload.key()).collect();
            let theirs = store.get(&store.view(), keys.clone()).await.unwrap();
            assert_eq!(theirs, oracle.get(&oracle.view(), keys).await.unwrap(), "seed {seed} round {round}");
        }
    }
    for (theirs, ours) in held {
        assert_eq!(contents(store, &theirs).await, contents(&oracle, &ours).await, "seed {seed}: held views");
    }
    assert_eq!(contents(store, &store.view()).await, oracle.contents(), "seed {seed}: the end");
}
