//! A monitor alone, for trying commands by hand: `cargo run -p mon-lite --example monitor -- FILE PORT`.
//!
//! Makes the file if it does not exist, prints the address, and serves until it is killed.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mon_lite::osd_life::NewOsd;
use mon_lite::{MkfsOptions, MonConfig, Monitor, mkfs};
use nvme::{BlockDevice, OpenOptions, Polling, Space, UringDevice};
use rt::{Core, CoreId};
use uuid::Uuid;

const FSID: Uuid = Uuid::from_u128(0x5b1d_4c8a_0000_4000_8000_0000_0000_0001);
const LOG_BYTES: u64 = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: monitor FILE PORT";
    let path = PathBuf::from(arguments.next().ok_or(usage)?);
    let port = arguments.next().ok_or(usage)?.parse()?;
    rt::uring::run(CoreId(0), &rt::uring::Config::default(), move |core| async move {
        if let Err(error) = serve(core, &path, port).await {
            eprintln!("error: {error}");
        }
    })?;
    Ok(())
}

async fn serve(core: Core, path: &Path, port: u16) -> Result<(), Box<dyn Error>> {
    let is_new = !path.exists();
    if is_new {
        nvme::create(path, LOG_BYTES, Space::Reserved)?;
    }
    let file = nvme::open(path, &OpenOptions::default())?;
    let device: Rc<dyn BlockDevice> = Rc::new(UringDevice::attach(&core, file, Polling::Never)?);
    if is_new {
        let osd = |id: i32| NewOsd {
            id,
            uuid: Uuid::from_u128(u128::from(id.unsigned_abs()) + 1),
            host: "example".into(),
            device: "disk0".into(),
            class: "ssd".into(),
            size_bytes: 8 << 30,
        };
        let options =
            MkfsOptions { fsid: FSID, name: "a".into(), osds: (0..3).map(osd).collect(), overwrite: false };
        mkfs(&core, device.clone(), options).await?;
    }
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = MonConfig { fsid: FSID, name: "a".into(), hostname: "example".into(), listen };
    let monitor = Monitor::start(core, device, config).await?;
    println!("mon.a serves at [v2:{}/0]", monitor.address());
    Err(monitor.failed().await.into())
}
