//! [`PoolTarget`]: objects of a pool, through our own client.

use std::cell::RefCell;

use bytes::Bytes;
use client::{Error, Pool};

use crate::content::Content;
use crate::meter::{Party, ServerProcess, Spent, process_cpu};
use crate::one_osd::Remote;
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

/// Who serves a pool, as far as somebody is to be asked what he spent.
pub enum Servers {
    /// Processes of this machine, by their numbers.
    Processes(RefCell<Vec<(u32, ServerProcess)>>),
    /// A core of this process.
    Core(Remote),
}

/// See the module. Neighbouring blocks are in different objects only where an object ends.
pub struct PoolTarget {
    pool: Pool,
    names: ObjectNames,
    servers: Servers,
}

impl PoolTarget {
    /// Objects of a pool.
    pub fn new(pool: Pool, names: ObjectNames, servers: Servers) -> Self {
        Self { pool, names, servers }
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
        match &self.servers {
            Servers::Processes(processes) => processes.borrow_mut().iter_mut().map(spent_by).collect(),
            Servers::Core(remote) => {
                let answer = remote.ask().await.ok_or_else(is_gone)?;
                let all = Spent { cpu: Some(process_cpu()), ..Spent::default() };
                Ok(vec![Party::new("OSD core", answer.spent), Party::new("whole process", all)])
            }
        }
    }

    async fn device_bytes(&self) -> Result<Option<u64>, TargetError> {
        match &self.servers {
            Servers::Processes(processes) => {
                let processes = processes.borrow();
                if processes.is_empty() {
                    return Ok(None);
                }
                // A process of another user does not tell; then nobody knows the sum.
                Ok(processes.iter().map(|(_, process)| process.device_bytes().ok()).sum())
            }
            Servers::Core(remote) => Ok(Some(remote.ask().await.ok_or_else(is_gone)?.device_bytes)),
        }
    }
}

fn spent_by((id, process): &mut (u32, ServerProcess)) -> Result<Party, TargetError> {
    let name = format!("server process {id}");
    match process.spent() {
        Ok(spent) => Ok(Party::new(name, spent)),
        Err(error) => Err(TargetError::new(name, error)),
    }
}

fn is_gone() -> TargetError {
    TargetError::new("the OSD", "its core has ended")
}
