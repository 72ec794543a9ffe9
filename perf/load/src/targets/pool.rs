//! [`PoolTarget`]: objects of a pool, through our own client.

use std::cell::RefCell;

use bytes::Bytes;
use client::{Error, Pool};

use crate::content::Content;
use crate::meter::{Party, ServerProcess};
use crate::target::{Target, TargetError};

/// How objects are cut into blocks.
#[derive(Clone, Debug)]
pub struct ObjectNames {
    /// Objects are called so, with `-` and a number.
    pub prefix: String,
    /// How many.
    pub objects: u64,
    /// Blocks of each. With one, objects are written whole.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_bytes: u64,
}

impl ObjectNames {
    /// The name of an object.
    pub fn name(&self, object: u64) -> String {
        format!("{}-{object}", self.prefix)
    }

    fn locate(&self, position: u64) -> (String, u64) {
        (self.name(position / self.blocks), position % self.blocks * self.block_bytes)
    }
}

/// See the module. Neighbouring blocks are in different objects only where an object ends.
pub struct PoolTarget {
    pool: Pool,
    names: ObjectNames,
    /// Who serves it, if somebody said so.
    servers: RefCell<Vec<(u32, ServerProcess)>>,
}

impl PoolTarget {
    /// Objects of a pool.
    pub fn new(pool: Pool, names: ObjectNames, servers: Vec<(u32, ServerProcess)>) -> Self {
        Self { pool, names, servers: RefCell::new(servers) }
    }

    fn failed(&self, op: &str, position: u64, error: &Error) -> TargetError {
        TargetError::new(format!("{op} of {}", self.place(position)), error)
    }
}

impl Target for PoolTarget {
    fn positions(&self) -> u64 {
        self.names.objects * self.names.blocks
    }

    fn place(&self, position: u64) -> String {
        let (name, offset) = self.names.locate(position);
        format!("object '{name}' at byte {offset}")
    }

    async fn read(&self, position: u64, _: bool) -> Result<Bytes, TargetError> {
        let (name, offset) = self.names.locate(position);
        let length = self.names.block_bytes;
        let read = self.pool.read(name, offset, length).await;
        let read = read.map_err(|error| self.failed("the read", position, &error))?;
        if read.len() as u64 != length {
            let why = format!("{} bytes came instead of {length}; was it filled?", read.len());
            return Err(TargetError::new(format!("the read of {}", self.place(position)), why));
        }
        Ok(read)
    }

    async fn write(&self, position: u64, content: Content) -> Result<(), TargetError> {
        let (name, offset) = self.names.locate(position);
        let written = match self.names.blocks {
            1 => self.pool.write_full(name, content.bytes()).await,
            _ => self.pool.write(name, offset, content.bytes()).await,
        };
        written.map(drop).map_err(|error| self.failed("the write", position, &error))
    }

    async fn spent(&self) -> Result<Vec<Party>, TargetError> {
        let spent = |(id, process): &mut (u32, ServerProcess)| {
            let name = format!("server process {id}");
            match process.spent() {
                Ok(spent) => Ok(Party::new(name, spent)),
                Err(error) => Err(TargetError::new(name, error)),
            }
        };
        self.servers.borrow_mut().iter_mut().map(spent).collect()
    }

    async fn device_bytes(&self) -> Result<Option<u64>, TargetError> {
        let servers = self.servers.borrow();
        if servers.is_empty() {
            return Ok(None);
        }
        // A process of another user does not tell; then nobody knows the sum.
        Ok(servers.iter().map(|(_, process)| process.device_bytes().ok()).sum())
    }
}
