//! Lent space may have blocks that cannot be read until they are written. No mount trips over one: it reads only what
//! was written.

use std::rc::Rc;

use allocator::Extent;
use bluefs::fs::{FormatOptions, LocalBlueFs, MountOptions};
use nvme::{SimDisk, SimDiskConfig};
use rt::sim::{Config, Sim};
use uuid::Uuid;

const COPIES: [u64; 2] = [0, 4096];

#[test]
fn a_log_in_space_that_cannot_be_read_is_mounted() {
    let space = Extent::new(8192, 1 << 20);
    let disk = SimDisk::new(SimDiskConfig::new("disk", 2 << 20), 1);
    disk.break_blocks(space.start..space.end());
    Sim::new(1, Config::default()).run(0, |core| async move {
        let device = Rc::new(disk.open(&core));
        let format = FormatOptions {
            alloc_unit: 4096,
            log_bytes_min: 64 << 10,
            ..FormatOptions::new(Uuid::from_u128(7), COPIES, vec![space], 1)
        };
        LocalBlueFs::format(&*device, &format).await.unwrap();
        // Each mount writes a log of its own, the second of these in other space than the first.
        for nonce in 1..4 {
            let options =
                MountOptions { superblocks: COPIES, nonce, low_water: 0, lend: 1 << 20, fast: None };
            let fs = LocalBlueFs::mount(device.clone(), options, None).await.unwrap();
            let dir = format!("dir{nonce}");
            fs.with(|machine| machine.create_dir(&dir)).unwrap();
            fs.sync_metadata().await.unwrap();
            assert_eq!(fs.with(|machine| Ok(machine.directories().len())).unwrap() as u64, nonce);
        }
    });
}
