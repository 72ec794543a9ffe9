//! The device or file that a bench uses: made if it is not there, and looked at before anything is written.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use load::STAMP_MAGIC;
use nvme::{DeviceFile, OpenOptions, OwnMagic, Space};

use crate::mkfs::refuse_to_overwrite;
use crate::size::show_size;

/// What an earlier bench leaves at the beginning of a device.
const OF_A_BENCH: OwnMagic<'static> = OwnMagic { magic: STAMP_MAGIC, offset: 0 };

/// What is wanted of a place.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlaceOptions {
    /// Bytes that are used, from the beginning; all if none are given.
    pub size: Option<u64>,
    /// It is written to.
    pub writes: bool,
    /// Also over somebody's data.
    pub force: bool,
    /// Whether it rotates, where the kernel is wrong about it.
    pub rotational: Option<bool>,
}

/// A device, open for this process alone.
pub struct Place {
    file: Arc<DeviceFile>,
    bytes: u64,
    /// Removed at the end.
    made: Option<Made>,
}

struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            log::warn!("{} was made for this run and cannot be removed: {error}", self.0.display());
        }
    }
}

impl Place {
    /// Opens it. One that does not exist is made if a size is given; one that is written to must hold nobody's data, unless
    /// `force`.
    pub fn open(path: &Path, options: &PlaceOptions) -> anyhow::Result<Self> {
        let PlaceOptions { size, writes, force, rotational } = *options;
        let mut made = None;
        if !path.exists() {
            let Some(size) = size else {
                bail!(
                    "there is no {}: name a device or file, or give --size to have a file made",
                    path.display()
                );
            };
            ensure!(
                writes,
                "there is no {}, and nothing to read in a new file: give --fill always",
                path.display()
            );
            nvme::create(path, size, Space::Reserved)?;
            made = Some(Made(path.to_owned()));
        }
        let file = nvme::open(path, &OpenOptions { rotational, ..OpenOptions::default() })?;
        if writes {
            refuse_to_overwrite(&file, OF_A_BENCH, force)?;
        }
        let has = file.geometry().size;
        let bytes = size.unwrap_or(has);
        ensure!(
            bytes <= has,
            "--size {} is more than {} has, which is {}",
            show_size(bytes),
            path.display(),
            show_size(has)
        );
        Ok(Self { file, bytes, made })
    }

    /// The device.
    pub fn file(&self) -> &Arc<DeviceFile> {
        &self.file
    }

    /// Bytes that are used, from the beginning.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rows of the report.
    pub fn about(&self) -> Vec<(&'static str, String)> {
        let geometry = self.file.geometry();
        let yes_or_no = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let kind = match (self.file.is_block_device(), self.made.is_some()) {
            (true, _) => "block device",
            (false, true) => "file made for this run",
            (false, false) => "file",
        };
        vec![
            ("path", self.file.path().display().to_string()),
            ("kind", kind.to_owned()),
            ("used", show_size(self.bytes)),
            ("logical block", show_size(geometry.block_size.into())),
            ("volatile cache", yes_or_no(geometry.volatile_cache)),
            ("rotating", yes_or_no(geometry.rotational)),
        ]
    }
}

/// Where a block cannot be read or written by itself.
pub fn check_block_size(block_size: u64, file: &DeviceFile) -> anyhow::Result<usize> {
    let unit = u64::from(file.geometry().block_size);
    ensure!(
        block_size.is_multiple_of(unit),
        "--block-size {block_size} is not a multiple of the {unit} bytes that {} reads and writes at a time",
        file.name()
    );
    usize::try_from(block_size).context("--block-size")
}
