//! The file system below the key-value store, read without opening either: also when RocksDB refuses to.

mod import;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use allocator::Extent;
use anyhow::{Context, bail, ensure};
use bluefs::fs::{BlueFs, Inode};
use nvme::DmaBuf;
use rt::{Core, Lane};
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::FileSystemAction;
use crate::backend::{self, FileSystem, SliceStore};
use crate::progress;
use crate::size::show_size;

/// Bytes that are copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// Does what is asked with the file system of a slice.
pub async fn act(
    core: &Core,
    slice: &SliceStore,
    fsid: Uuid,
    action: &FileSystemAction,
    json: bool,
) -> anyhow::Result<()> {
    if let FileSystemAction::Import { folder } = action {
        let (folder, osd) = (folder.clone(), slice.osd);
        let fs = backend::mount_file_system(core, slice, fsid).await?;
        return core.alien(Lane::Read, move || import::import(osd, &fs, &folder, json)).await;
    }
    let found = backend::load_file_system(core, slice, fsid).await?;
    let (osd, action) = (slice.osd, action.clone());
    // It blocks.
    core.alien(Lane::Read, move || match action {
        FileSystemAction::Stats => stats(osd, &found, json),
        FileSystemAction::LogDump => log_dump(&found, json),
        FileSystemAction::Export { folder } => export(&found, &folder),
        FileSystemAction::Import { .. } => unreachable!("it is done by whoever may write"),
    })
    .await
}

/// Paths of all files, with what is known of them.
fn files(found: &FileSystem) -> impl Iterator<Item = (String, &Inode)> {
    let tree = &found.loaded.tree;
    tree.dirs.iter().flat_map(move |(dir, names)| {
        names.iter().filter_map(move |(name, ino)| Some((format!("{dir}/{name}"), tree.files.get(ino)?)))
    })
}

fn stats(osd: u32, found: &FileSystem, json: bool) -> anyhow::Result<()> {
    let place = |extent: &Extent| json!({ "offset": extent.start, "length": extent.len });
    let (superblock, tree) = (&found.loaded.superblock, &found.loaded.tree);
    let (mut size, mut allocated) = (0, 0);
    for (_, inode) in files(found) {
        size += inode.size;
        allocated += inode.allocated;
    }
    let space = tree.space_bytes();
    let fast = superblock.fast.map_or(0, |fast| fast.len);
    let is_fast = |extent: &&Extent| superblock.fast.is_some_and(|fast| fast.contains(extent));
    let in_fast: u64 = files(found)
        .flat_map(|(_, inode)| &inode.extents)
        .chain(&superblock.log)
        .filter(is_fast)
        .map(|extent| extent.len)
        .sum();
    let spilled = if fast > 0 { allocated + superblock.log_bytes() - in_fast } else { 0 };
    let problems: Vec<String> =
        found.loaded.check(found.superblocks).iter().map(|problem| format!("{problem:?}")).collect();
    if json {
        let listed: Vec<Value> = files(found)
            .map(|(path, inode)| {
                let extents: Vec<_> = inode.extents.iter().map(place).collect();
                json!({ "path": path, "size": inode.size, "allocated": inode.allocated, "extents": extents })
            })
            .collect();
        let all = json!({
            "osd": osd, "id": superblock.uuid.to_string(), "generation": superblock.generation,
            "alloc_unit": superblock.alloc_unit, "space": space, "size": size, "allocated": allocated,
            "db_space": fast, "db_used": in_fast, "spilled": spilled,
            "log_bytes": superblock.log_bytes(), "log": superblock.log.iter().map(place).collect::<Vec<_>>(),
            "spaces": tree.spaces.iter().map(|(start, len)| place(&Extent::new(*start, *len))).collect::<Vec<_>>(),
            "files": listed, "problems": problems,
        });
        writeln!(io::stdout(), "{all}")?;
        return Ok(());
    }
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "osd.{osd}: {} files of {} in {}, a log of {}, {} of space in {} pieces, units of {}",
        tree.files.len(),
        show_size(size),
        show_size(allocated),
        show_size(superblock.log_bytes()),
        show_size(space),
        tree.spaces.len(),
        show_size(superblock.alloc_unit.into())
    )?;
    if fast > 0 {
        writeln!(
            out,
            "osd.{osd}: {} of {} of the device for keys used, {} of files and log on the main device",
            show_size(in_fast),
            show_size(fast),
            show_size(spilled)
        )?;
    }
    write!(out, "{}", found.loaded.listing())?;
    ensure!(problems.is_empty(), "{}", problems.join("; "));
    Ok(())
}

fn log_dump(found: &FileSystem, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for (number, record) in BlueFs::records(&*found.device, &found.loaded)?.iter().enumerate() {
        match json {
            true => writeln!(out, "{}", json!({ "number": number, "record": format!("{record:?}") }))?,
            false => writeln!(out, "{number} {record:?}")?,
        }
    }
    Ok(())
}

/// Writes every file into a folder that must not be there. What cannot be read is zeroes there, and is told.
fn export(found: &FileSystem, folder: &Path) -> anyhow::Result<()> {
    let paths = files(found)
        .map(|(path, inode)| Ok((inside(folder, &path)?, inode)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    found.loaded.check(found.superblocks).iter().for_each(|problem| log::warn!("{problem:?}"));
    fs::create_dir(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let bar = progress::bar("exporting", paths.iter().map(|(_, inode)| inode.size).sum());
    let mut damaged = 0;
    for (path, inode) in paths {
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
        let copied = copy(found, inode, &path, |bytes| bar.inc(bytes));
        let unread = copied.with_context(|| format!("{} cannot be written", path.display()))?;
        if unread > 0 {
            log::warn!("{}: {unread} bytes cannot be read and are zeroes", path.display());
            damaged += 1;
        }
    }
    bar.finish_and_clear();
    ensure!(damaged == 0, "{damaged} files could not be read whole; what could is in {}", folder.display());
    Ok(())
}

/// A path of the file system's below `folder`. It may be anything: nothing leads out of there.
fn inside(folder: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let relative: Option<PathBuf> = Path::new(path)
        .components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .map(|part| matches!(part, Component::Normal(_)).then_some(part))
        .collect();
    match relative {
        Some(relative) if !relative.as_os_str().is_empty() => Ok(folder.join(relative)),
        _ => bail!("a file has the name {path:?}: nothing was exported"),
    }
}

/// Copies a file; gives how many of its bytes cannot be read.
fn copy(found: &FileSystem, inode: &Inode, path: &Path, progress: impl Fn(u64)) -> anyhow::Result<u64> {
    let mut file = File::create_new(path)?;
    let (mut left, mut unread) = (inode.size, 0);
    for extent in &inode.extents {
        let mut at = extent.start;
        while at < extent.end() && left > 0 {
            let len = (extent.end() - at).min(COPY_BYTES);
            let mut memory = DmaBuf::zeroed(usize::try_from(len)?);
            let used = len.min(left);
            if let Err(error) = found.device.read_at(at, &mut memory) {
                log::warn!("{}: {error}", path.display());
                memory.fill(0);
                unread += used;
            }
            file.write_all(&memory[..usize::try_from(used)?])?;
            progress(used);
            (at, left) = (at + len, left - used);
        }
    }
    file.set_len(inode.size)?;
    file.sync_all()?;
    Ok(unread + left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let folder = Path::new("/tmp/there");
        assert_eq!(inside(folder, "db/CURRENT").expect("plain"), folder.join("db/CURRENT"));
        assert_eq!(inside(folder, "/db/a").expect("plain"), folder.join("db/a"));
        assert_eq!(inside(folder, "./a").expect("plain"), folder.join("a"));
        for wrong in ["../a", "db/../../a", "", "/", "a/./../../b"] {
            assert!(inside(folder, wrong).is_err(), "{wrong}");
        }
    }
}
