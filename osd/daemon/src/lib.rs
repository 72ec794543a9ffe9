//! The OSD daemon core: clients' connections and requests, placement groups, maps, and the monitor's session, over one
//! object store on one core.
//!
//! It knows neither device nor operating system; everything comes through [`rt::Core`] and [`store::ObjectStore`], so
//! the same code runs in the simulated world.

mod answer;
mod clear;
mod config;
mod connections;
mod defrag;
mod fault;
mod frontier;
mod fsck;
pub mod fuzzing;
mod groups;
mod handle;
mod latency;
mod limits;
mod link;
mod listener;
mod maps;
mod memory;
mod monitor;
mod object_context;
mod osd;
mod pace;
mod placement_group;
mod pool_options;
mod report;
mod requests;
mod scrub;
mod session;
mod space;
mod superblock;
mod tell;
mod tracker;

pub use config::{OptionSource, Options, OsdConfig};
pub use fault::Planted;
pub use groups::MapError;
pub use handle::OsdHandle;
pub use osd::{Osd, StartError};
pub use superblock::{Identity, SuperblockError, stored_map};
