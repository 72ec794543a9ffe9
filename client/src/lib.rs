//! A librados-like client over `rt`, so that it runs in the real and in the simulated world alike.
//!
//! What happens is decided by plain machines: `monitor` keeps a session with a monitor, `objecter` gets requests to
//! the right OSD, whatever fails on the way. `client` pumps them; a `link` is one connection.
//!
//! ```no_run
//! # async fn example(core: rt::Core) -> client::Result<()> {
//! use client::{Client, ClientConfig};
//! let cluster = Client::connect(&core, ClientConfig::new(vec!["127.0.0.1:3300".parse().expect("an address")])).await?;
//! let pool = cluster.pool("data").await?;
//! pool.write_full("greeting", "hello").await?;
//! assert_eq!(pool.read("greeting", 0, 0).await?, "hello");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod admin;
mod client;
mod error;
pub mod fuzzing;
mod io;
pub mod limits;
mod link;
mod listing;
mod maps;
mod monitor;
mod objecter;
mod operation;
mod request;
mod time;

pub use admin::CommandOutput;
pub use client::{Client, ClientConfig};
pub use error::{Error, Result};
pub use io::Pool;
pub use listing::{ALL_NAMESPACES, Cursor, Lister};
pub use operation::{
    Comparison, Creation, ObjectOperation, OmapPage, OpOutput, OpResult, Reply, Slot, SparseRead, Stat,
};
pub use wire::Errno;
pub use wire::msg::ListedObject;
