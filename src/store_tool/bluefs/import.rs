//! Replacing the files of the file system by those of a folder. The new ones are written beside the old ones; then one commit
//! removes the old ones and gives the new ones their names, so a crash leaves all of the one or all of the other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail, ensure};
use bluefs::fs::{BlueFs, FsError, FsResult, Machine};
use serde_json::json;

use super::COPY_BYTES;
use crate::progress;
use crate::size::show_size;

/// Where new files are until all are there. What a call that was killed left here goes first.
const ASIDE: &str = "import";

/// Does it.
pub fn import(osd: u32, fs: &BlueFs, folder: &Path, json: bool) -> anyhow::Result<()> {
    let known = fs.with(|machine| Ok(machine.directories()))?;
    let files = list(folder, &known)?;
    ensure!(!files.is_empty(), "there are no files in {}", folder.display());
    let bytes: u64 = files.values().map(|(_, bytes)| bytes).sum();
    fs.with(|machine| {
        remove_all(machine, |dir| dir == ASIDE)?;
        machine.create_dir(ASIDE)
    })?;
    let bar = progress::bar("importing", bytes);
    let copied = files.values().enumerate().try_for_each(|(number, (path, _))| {
        copy(fs, path, &format!("{ASIDE}/{number}"), |bytes| bar.inc(bytes))
            .with_context(|| format!("{}", path.display()))
    });
    bar.finish_and_clear();
    if let Err(error) = copied {
        fs.with(|machine| remove_all(machine, |dir| dir == ASIDE))?;
        fs.sync_metadata()?;
        return Err(error.context("nothing was imported"));
    }
    fs.with(|machine| {
        remove_all(machine, |dir| dir != ASIDE)?;
        for (number, path) in files.keys().enumerate() {
            let (dir, _) = Machine::split_path(path)?;
            if !machine.directories().iter().any(|there| there == dir) {
                machine.create_dir(dir)?;
            }
            machine.rename(&format!("{ASIDE}/{number}"), path)?;
        }
        machine.remove_dir(ASIDE)
    })?;
    fs.sync_metadata()?;
    let count = files.len();
    match json {
        true => writeln!(io::stdout(), "{}", json!({ "osd": osd, "files": count, "bytes": bytes }))?,
        false => writeln!(io::stdout(), "osd.{osd}: {count} files of {} are imported", show_size(bytes))?,
    }
    Ok(())
}

/// Files below a folder: their names in the file system, their paths, their bytes. Directories that the file system has keep
/// the way in which it writes them.
fn list(folder: &Path, known: &[String]) -> anyhow::Result<BTreeMap<String, (PathBuf, u64)>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let entries = fs::read_dir(&next).with_context(|| format!("{} cannot be read", next.display()))?;
        for entry in entries {
            let (path, shown) = entry.map(|entry| (entry.path(), next.display()))?;
            let kind = fs::symlink_metadata(&path).with_context(|| format!("{shown}"))?;
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            ensure!(kind.is_file(), "{} is neither a file nor a folder", path.display());
            let Some(name) = path.strip_prefix(folder).ok().and_then(|name| name_in(name, known)) else {
                bail!("{}: its name cannot be one of BlueFS's, which are UTF-8", path.display());
            };
            let is_aside = Machine::split_path(&name).is_ok_and(|(dir, _)| dir == ASIDE);
            ensure!(!is_aside, "{}: the name '{ASIDE}' is taken for the import itself", path.display());
            found.insert(name, (path, kind.len()));
        }
    }
    Ok(found)
}

/// The name of a file in the file system, by its path in the folder.
fn name_in(path: &Path, known: &[String]) -> Option<String> {
    let plain = |dir: &str| -> PathBuf {
        let parts = Path::new(dir).components();
        parts.filter(|part| !matches!(part, Component::RootDir | Component::CurDir)).collect()
    };
    let (dir, name) = (path.parent()?, path.file_name()?.to_str()?);
    let known = known.iter().find(|known| plain(known) == dir).map(String::as_str);
    let dir = match dir.to_str()? {
        "" => known.unwrap_or("."),
        dir => known.unwrap_or(dir),
    };
    Some(format!("{dir}/{name}")).filter(|name| Machine::split_path(name).is_ok())
}

fn copy(fs: &BlueFs, from: &Path, to: &str, progress: impl Fn(u64)) -> anyhow::Result<()> {
    let mut file = File::open(from)?;
    let mut writer = fs.create(to)?;
    let mut buffer = vec![0; usize::try_from(COPY_BYTES)?];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        writer.append(&buffer[..read])?;
        // Not more in memory than that.
        writer.flush().map_err(no_room)?;
        progress(read as u64);
    }
    writer.sync().map_err(no_room)
}

fn no_room(error: FsError) -> anyhow::Error {
    let advice = "there is no room for the files beside those that they are to replace: start the OSD, which lends more, or \
                  make some";
    match error {
        error @ FsError::NoSpace { .. } => anyhow::Error::new(error).context(advice),
        error => error.into(),
    }
}

/// Removes the directories that are meant, with their files. Durable with the next commit.
fn remove_all(machine: &mut Machine, is_meant: impl Fn(&str) -> bool) -> FsResult<()> {
    for dir in machine.directories().into_iter().filter(|dir| is_meant(dir)) {
        for name in machine.list(&dir)? {
            machine.unlink(&format!("{dir}/{name}"))?;
        }
        machine.remove_dir(&dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_keep_the_way_in_which_they_are_written() {
        let name = |path: &str, known: &[&str]| {
            name_in(Path::new(path), &known.iter().map(|dir| (*dir).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(name("CURRENT", &["."]).as_deref(), Some("./CURRENT"));
        assert_eq!(name("CURRENT", &[]).as_deref(), Some("./CURRENT"));
        assert_eq!(name("db/CURRENT", &["db"]).as_deref(), Some("db/CURRENT"));
        assert_eq!(name("db/CURRENT", &["./db", "."]).as_deref(), Some("./db/CURRENT"));
        assert_eq!(name("db/wal/1.log", &["db"]).as_deref(), Some("db/wal/1.log"));
    }
}
