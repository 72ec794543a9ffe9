//! The commands by family. Each file has the rows of the table and their handlers.

mod auth;
mod config;
mod config_key;
mod crush;
mod df;
mod filesystem;
mod log;
mod mgr;
mod mon;
mod osd_change;
mod osd_dump;
mod osd_read;
mod osd_tree;
mod osd_usage;
mod pg;
pub(super) mod pool;
mod pool_application;
mod pool_options;
mod pool_read;
mod pool_set;
mod quorum;
mod refused;
mod shared;
mod status;
pub(super) mod tell;

use super::Command;

pub(super) use shared::edit;
pub use shared::pool_room;

/// Every command, in the order in which clients look for a match.
pub const FAMILIES: &[&[Command]] = &[
    status::COMMANDS,
    df::COMMANDS,
    quorum::COMMANDS,
    mon::COMMANDS,
    log::COMMANDS,
    config::COMMANDS,
    config_key::COMMANDS,
    osd_read::COMMANDS,
    osd_dump::COMMANDS,
    osd_tree::COMMANDS,
    osd_usage::COMMANDS,
    osd_change::COMMANDS,
    pool::COMMANDS,
    pool_read::COMMANDS,
    pool_set::COMMANDS,
    pool_application::COMMANDS,
    crush::COMMANDS,
    pg::COMMANDS,
    mgr::COMMANDS,
    auth::COMMANDS,
    filesystem::COMMANDS,
    refused::COMMANDS,
];
