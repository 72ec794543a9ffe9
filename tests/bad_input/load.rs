//! A full device and damaged data, under a client's load: the error goes to the client, the OSD stays, everything else works.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, ClientConfig, Errno, Pool};
use futures_util::future::join_all;
use rt::uring::Config;
use rt::{Core, CoreId};

use crate::process::{Cluster, Folder, spirula};

/// Operations in flight.
const DEPTH: u64 = 16;
/// Space that was freed comes back within this.
const RECOVERY: Duration = Duration::from_secs(60);

/// Runs `work` against the cluster's pool `p`, which is made if it is not there.
pub fn with_pool<T: Send + 'static>(
    cluster: &Cluster,
    work: impl AsyncFnOnce(Core, Pool) -> T + Send + 'static,
) -> T {
    let config =
        ClientConfig { timeout: Some(Duration::from_secs(60)), ..ClientConfig::new(vec![cluster.monitor]) };
    let done = rt::uring::run(CoreId(0), &Config::default(), move |core| async move {
        let client = Client::connect(&core, config).await.expect("connects");
        let pool = match client.pool("p").await {
            Ok(pool) => pool,
            Err(_) => client.create_pool("p").await.expect("a pool"),
        };
        work(core, pool).await
    });
    done.expect("io_uring")
}

#[derive(Clone, Copy)]
enum Kind {
    Data,
    Omap,
}

impl Kind {
    async fn write(self, pool: &Pool, number: u64) -> Result<(), Errno> {
        let noise = |n: u64| -> Bytes {
            let word =
                |i: u64| (number ^ (n << 40) ^ (i << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            (0..32u64).flat_map(|i| (word(i) ^ (word(i) >> 31)).wrapping_mul(n | 1).to_le_bytes()).collect()
        };
        let written = match self {
            Self::Data => pool.write_full(format!("o{number}"), vec![number as u8; 1 << 18]).await,
            Self::Omap => {
                let entries = (0..60).map(|n| (Bytes::from(format!("{number}-{n}")), noise(n))).collect();
                pool.set_omap(format!("o{}", number % 100), &entries).await
            }
        };
        written.map(drop).map_err(|error| error.errno().unwrap_or_else(|| panic!("{error}")))
    }

    /// Writes until the OSD refuses; how many were taken. Refusals must be ENOSPC.
    async fn fill(self, pool: &Pool, from: u64) -> u64 {
        let mut number = from;
        loop {
            let writes = (0..DEPTH).map(|n| self.write(pool, number + n));
            let refused: Vec<Errno> = join_all(writes).await.into_iter().filter_map(Result::err).collect();
            number += DEPTH;
            if !refused.is_empty() {
                assert!(refused.iter().all(|errno| *errno == Errno::ENOSPC), "{refused:?}");
                return number - from;
            }
            assert!(number - from < 100_000, "it never fills up");
        }
    }
}

/// The operator was told that there is no room: by the OSD that looked at its store's space, or, as it looks only now and
/// then, by the store that refused before.
#[track_caller]
fn says_that_it_is_full(log: &str) {
    let looked = "the store is full: nothing may grow";
    let refused = "osd.0: the store refuses a write to pg ";
    assert!(log.contains(looked) || log.contains(refused), "{log}");
    assert!(log.matches(refused).count() < 5, "not for every write: {log}");
    assert!(!log.contains("ERROR"), "{log}");
}

fn a_full_device(kind: Kind) {
    let folder = Folder::new();
    let dir = folder.path("c");
    let mut cluster = Cluster::up(&dir, &[]);
    let taken = with_pool(&cluster, async move |_, pool| kind.fill(&pool, 0).await);
    assert!(taken > 5 * DEPTH, "{taken}");
    assert!(cluster.running.is_running());
    // A crash while full, and a start while full.
    says_that_it_is_full(&cluster.kill());
    let said = spirula(&["fsck", "--dir", dir.to_str().expect("UTF-8"), "--deep"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let mut cluster = Cluster::up(&dir, &[]);
    with_pool(&cluster, async move |core, pool| {
        // Full again, if the start made some room.
        kind.fill(&pool, taken).await;
        let names: Vec<_> =
            pool.list().collect().await.expect("lists").into_iter().map(|one| one.object).collect();
        assert!(names.len() > 50);
        for name in &names {
            pool.read(name.clone(), 0, 16).await.expect("reads work on a full device");
        }
        for name in &names[..names.len() * 3 / 4] {
            pool.remove(name.clone()).await.expect("removing works on a full device");
        }
        let begin = core.now();
        while let Err(errno) = kind.write(&pool, 1).await {
            assert_eq!(errno, Errno::ENOSPC);
            assert!(u128::from(core.now().0 - begin.0) < RECOVERY.as_nanos(), "space does not come back");
            core.sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(cluster.running.is_running());
    says_that_it_is_full(&cluster.stop());
    let said = spirula(&["fsck", "--dir", dir.to_str().expect("UTF-8"), "--deep"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_device_full_of_data() {
    a_full_device(Kind::Data);
}

#[test]
fn a_device_full_of_keys() {
    a_full_device(Kind::Omap);
}

/// Flips a bit in the middle of the device's only block that is full of `byte`; its address.
fn damage(device: &Path, byte: u8) -> u64 {
    let image = fs::read(device).expect("read");
    let blocks: Vec<usize> = (0..image.len() / 4096)
        .filter(|block| image[block * 4096..(block + 1) * 4096].iter().all(|found| *found == byte))
        .collect();
    assert_eq!(blocks.len(), 1, "{byte:#x}");
    let address = blocks[0] as u64 * 4096;
    let file = fs::File::options().write(true).open(device).expect("there");
    file.write_all_at(&[byte ^ 4], address + 2000).expect("written");
    address
}

#[test]
fn a_damaged_block_costs_itself_only() {
    let folder = Folder::new();
    let dir = folder.path("c");
    let cluster = Cluster::up(&dir, &[]);
    let content: Vec<u8> = (1..=16u8).flat_map(|block| [block; 4096]).collect();
    let (first, second) = (content.clone(), vec![0xee; 5000]);
    with_pool(&cluster, async move |_, pool| {
        pool.write_full("damaged", first).await.expect("written");
        pool.write_full("other", second).await.expect("written");
    });
    cluster.stop();
    let address = damage(&dir.join("osd.0").join("block"), 7);
    let cluster = Cluster::up(&dir, &[]);
    with_pool(&cluster, async move |_, pool| {
        for block in 0..16u64 {
            let read = pool.read("damaged", block * 4096, 4096).await;
            match read {
                Ok(bytes) => assert!(block != 6 && bytes == content[block as usize * 4096..][..4096]),
                Err(error) => assert!(block == 6 && error.errno() == Some(Errno::EIO), "{block}: {error}"),
            }
        }
        let whole = pool.read("damaged", 0, 65_536).await.expect_err("it holds the bad block");
        assert_eq!(whole.errno(), Some(Errno::EIO));
        for _ in 0..100 {
            pool.read("damaged", 6 * 4096 + 5, 1).await.expect_err("still bad");
        }
        assert_eq!(pool.read("other", 0, 5000).await.expect("reads"), vec![0xee; 5000]);
    });
    let log = cluster.stop();
    let slice = address - (1 << 20);
    let words = [
        "wrong checksum in object \"damaged\" of pool",
        "byte 24576,",
        &format!("at {slice:#x} of osd.0"),
        "expected crc32c 0x",
        "got crc32c 0x",
        "who reads it gets EIO",
    ];
    for word in words {
        assert!(log.contains(word), "{word:?} is missing: {log}");
    }
    assert!(log.lines().count() <= 12, "it is not repeated for every read: {log}");
    let name = dir.to_str().expect("UTF-8");
    let said = spirula(&["fsck", "--dir", name]);
    assert_eq!(said.code, Some(0), "without --deep no data is read: {said:?}");
    let said = spirula(&["fsck", "--dir", name, "--deep"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    for word in words[..5].iter().chain(&["osd.0: fatal: checksum: ", "osd.0: DAMAGED"]) {
        assert!(said.out.contains(word), "{word:?} is missing: {said:?}");
    }
    let json = spirula(&["fsck", "--dir", name, "--deep", "--json"]);
    assert_eq!((json.code, json.out.matches("\"kind\":\"checksum\"").count()), (Some(2), 1), "{json:?}");
    // Writing the block anew heals it.
    let cluster = Cluster::up(&dir, &[]);
    with_pool(&cluster, async move |_, pool| {
        pool.write("damaged", 6 * 4096, vec![9; 4096]).await.expect("written");
        assert_eq!(pool.read("damaged", 0, 65_536).await.expect("reads").len(), 65_536);
    });
    cluster.stop();
    assert_eq!(spirula(&["fsck", "--dir", name, "--deep"]).code, Some(0));
}
