//! The client's side: loads in a closed loop, over one connection to the OSD.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use client::{ClientConfig, Pool};
use engine::setup::OBJECT_BYTES;
use futures_util::future::try_join_all;
use rt::Core;
use rt::net::Stream;

use crate::Settings;
use crate::echo;
use crate::server::Remote;

/// Bytes of an operation.
const BLOCK: u64 = 4096;
/// Bytes of a write that fills.
const FILL_BYTES: u64 = 1 << 20;
const POOL: &str = "networked";
/// A call that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Messages of 4 KiB that come back.
    Echo,
    /// Reads 4 KiB at random places.
    Read,
    /// Writes 4 KiB over random blocks, durably.
    Overwrite,
}

impl Load {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Read => "read",
            Self::Overwrite => "overwrite",
        }
    }
}

/// A connected client with objects to work on.
pub struct Client {
    core: Core,
    pool: Pool,
    names: Vec<Bytes>,
    payload: Bytes,
    echoes: Vec<Stream>,
}

impl Client {
    /// Connects, makes a pool, and fills its objects.
    pub async fn connect(core: &Core, server: &Remote<'_>, settings: &Settings) -> anyhow::Result<Self> {
        let addresses = server.addresses();
        let echoes = (0..settings.depth).map(|_| core.connect(addresses.echo));
        let echoes = try_join_all(echoes).await.context("the echo")?;
        let config = ClientConfig { timeout: Some(TIMEOUT), ..ClientConfig::new(vec![addresses.mon]) };
        let cluster = client::Client::connect(core, config).await?;
        let pool = cluster.create_pool(POOL).await?;
        let random = (0..FILL_BYTES / 8).flat_map(|_| core.random_u64().to_le_bytes());
        let payload = Bytes::from_iter(random);
        let names = (0..settings.objects).map(|number| Bytes::from(format!("object-{number}"))).collect();
        let client = Self { core: core.clone(), pool, names, payload, echoes };
        for name in &client.names {
            for offset in (0..OBJECT_BYTES).step_by(usize::try_from(FILL_BYTES)?) {
                client.pool.write(name.clone(), offset, client.payload.clone()).await.context("filling")?;
            }
        }
        Ok(client)
    }

    /// Does so many operations, so many at a time.
    pub async fn run(&mut self, load: Load, operations: u64, depth: u16) -> anyhow::Result<()> {
        if load == Load::Echo {
            return echo::exchange(&mut self.echoes, operations).await;
        }
        let left = Cell::new(operations);
        let this = &*self;
        let workers = (0..depth).map(|_| async {
            while left.get() > 0 {
                left.set(left.get() - 1);
                this.one(load).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(workers).await.map(drop)
    }

    async fn one(&self, load: Load) -> anyhow::Result<()> {
        let name = self.names[self.below(self.names.len() as u64)].clone();
        let offset = self.below(OBJECT_BYTES / BLOCK) as u64 * BLOCK;
        if load == Load::Read {
            let read = self.pool.read(name, offset, BLOCK).await?;
            ensure!(read.len() as u64 == BLOCK, "{} bytes at {offset} instead of {BLOCK}", read.len());
            return Ok(());
        }
        let from = self.below(FILL_BYTES / BLOCK) * BLOCK as usize;
        let data = self.payload.slice(from..from + BLOCK as usize);
        self.pool.write(name, offset, data).await?;
        Ok(())
    }

    /// Ends the connections.
    pub fn disconnect(&mut self) {
        self.pool.client().shut_down();
        self.echoes.iter_mut().for_each(|echo| echo.writer.abort());
    }

    fn below(&self, limit: u64) -> usize {
        usize::try_from(self.core.random_u64() % limit).unwrap_or(0)
    }
}
