//! [`Tree`]: the metadata as the log tells it. Replay and running changes go through the same [`Tree::apply`].
//!
//! Invariant: a record that would break a rule (unknown file, name twice, size beyond allocation) is refused and
//! changes nothing. Overlaps of extents are for [`crate::fs::check`], which sees the whole.

use std::collections::BTreeMap;

use allocator::Extent;

use crate::fs::error::{FsError, FsResult};
use crate::fs::limits::{
    DIRECTORIES_MAX, FILE_BYTES_MAX, FILE_EXTENTS_MAX, FILES_MAX, NAME_BYTES_MAX, RECORD_EXTENTS_MAX,
    SPACES_MAX,
};
use crate::fs::record::{Ino, Record};

/// A file as logged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inode {
    /// In the order of the file's bytes; adjacent ones are joined.
    pub extents: Vec<Extent>,
    /// Sum of the extents, bytes.
    pub allocated: u64,
    /// Bytes.
    pub size: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Lent space: start to length.
    pub spaces: BTreeMap<u64, u64>,
    /// Directory to file name to file. Directories are flat: a path's last `/` divides it.
    pub dirs: BTreeMap<String, BTreeMap<String, Ino>>,
    /// Files; each has exactly one name.
    pub files: BTreeMap<Ino, Inode>,
    /// Numbers below were given out.
    pub next_ino: u64,
}

/// Appends an extent to a list, joined to the last if they touch.
pub(crate) fn push_joined(extents: &mut Vec<Extent>, extent: Extent) {
    match extents.last_mut().filter(|last| last.end() == extent.start) {
        Some(last) => last.len += extent.len,
        None => extents.push(extent),
    }
}

/// Cuts a list to its first `bytes` bytes; gives what was cut off.
pub(crate) fn split_extents(extents: &mut Vec<Extent>, bytes: u64) -> Vec<Extent> {
    let mut kept = Vec::new();
    let mut cut = Vec::new();
    let mut left = bytes;
    for extent in extents.drain(..) {
        let head = extent.len.min(left);
        left -= head;
        if head > 0 {
            kept.push(Extent::new(extent.start, head));
        }
        if head < extent.len {
            cut.push(Extent::new(extent.start + head, extent.len - head));
        }
    }
    *extents = kept;
    cut
}

/// What a list has of the `len` bytes from `at` on.
pub(crate) fn extents_within(extents: &[Extent], at: u64, len: u64) -> Vec<Extent> {
    let (mut skip, mut left) = (at, len);
    let mut within = Vec::new();
    for extent in extents {
        let skipped = extent.len.min(skip);
        skip -= skipped;
        let taken = (extent.len - skipped).min(left);
        left -= taken;
        if taken > 0 {
            push_joined(&mut within, Extent::new(extent.start + skipped, taken));
        }
    }
    within
}

/// Replaces what a list has from `at` on by as many bytes elsewhere; gives what it had there.
fn replace_extents(extents: &mut Vec<Extent>, at: u64, new: &[Extent]) -> Vec<Extent> {
    let len = new.iter().map(|extent| extent.len).sum();
    let old = extents_within(extents, at, len);
    let after = split_extents(extents, at);
    let after = extents_within(&after, len, u64::MAX);
    new.iter().copied().chain(after).for_each(|extent| push_joined(extents, extent));
    old
}

fn path(dir: &str, name: &str) -> String {
    format!("{dir}/{name}")
}

/// Refuses names that cannot be held.
pub(crate) fn check_name(name: &str) -> FsResult<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(FsError::Name { path: name.to_owned() });
    }
    Ok(())
}

impl Tree {
    /// Applies one record; gives the extents it freed.
    pub fn apply(&mut self, record: &Record) -> FsResult<Vec<Extent>> {
        match record {
            Record::AddSpace { extent } => self.add_space(*extent)?,
            Record::RemoveSpace { extent } => self.remove_space(*extent)?,
            Record::DirCreate { dir } => self.dir_create(dir)?,
            Record::DirRemove { dir } => self.dir_remove(dir)?,
            Record::FileCreate { ino, dir, name } => self.file_create(*ino, dir, name)?,
            Record::FileAppend { ino, allocated_before, size, extents } => {
                self.file_append(*ino, *allocated_before, *size, extents)?;
            }
            Record::FileTruncate { ino, size, allocated } => {
                return self.file_truncate(*ino, *size, *allocated);
            }
            Record::Rename { dir, name, to_dir, to_name } => return self.rename(dir, name, to_dir, to_name),
            Record::Unlink { dir, name } => return self.unlink(dir, name),
            Record::FileMove { ino, at, extents } => return self.file_move(*ino, *at, extents),
            Record::NextIno { next } => self.next_ino = self.next_ino.max(*next),
        }
        Ok(Vec::new())
    }

    /// Records that build this tree from nothing.
    pub fn snapshot(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let spaces = self.spaces.iter().map(|(start, len)| Extent::new(*start, *len));
        records.extend(spaces.map(|extent| Record::AddSpace { extent }));
        for (dir, names) in &self.dirs {
            records.push(Record::DirCreate { dir: dir.clone() });
            for (name, ino) in names {
                records.push(Record::FileCreate { ino: *ino, dir: dir.clone(), name: name.clone() });
                if let Some(inode) = self.files.get(ino).filter(|inode| inode.allocated > 0) {
                    records.extend(append_records(*ino, 0, inode.size, &inode.extents));
                }
            }
        }
        records.push(Record::NextIno { next: self.next_ino });
        records
    }

    /// The file of a name.
    pub fn find(&self, dir: &str, name: &str) -> FsResult<Ino> {
        let names = self.dirs.get(dir).ok_or_else(|| FsError::NotFound { path: dir.to_owned() })?;
        names.get(name).copied().ok_or_else(|| FsError::NotFound { path: path(dir, name) })
    }

    /// The file of a number.
    pub fn inode(&self, ino: Ino) -> FsResult<&Inode> {
        self.files.get(&ino).ok_or_else(|| FsError::NotFound { path: format!("file {}", ino.0) })
    }

    /// Bytes lent.
    pub fn space_bytes(&self) -> u64 {
        self.spaces.values().sum()
    }

    /// Of these, what lies in an extent that no lent one reaches out of.
    pub fn space_bytes_within(&self, extent: Extent) -> u64 {
        self.spaces.range(extent.start..extent.end()).map(|(_, len)| len).sum()
    }

    /// What of an extent is not lent, which no lent one reaches out of.
    pub fn not_lent_within(&self, extent: Extent) -> Vec<Extent> {
        let mut missing = Vec::new();
        let mut from = extent.start;
        for (start, len) in self.spaces.range(extent.start..extent.end()) {
            if *start > from {
                missing.push(Extent::new(from, start - from));
            }
            from = start + len;
        }
        if from < extent.end() {
            missing.push(Extent::new(from, extent.end() - from));
        }
        missing
    }

    fn add_space(&mut self, extent: Extent) -> FsResult<()> {
        if self.spaces.len() >= SPACES_MAX {
            return Err(FsError::Limit { what: "lent extents" });
        }
        let before = self.spaces.range(..extent.end()).next_back();
        if before.is_some_and(|(start, len)| start + len > extent.start) {
            return Err(FsError::Space { extent, reason: "overlaps space that was lent before" });
        }
        self.spaces.insert(extent.start, extent.len);
        Ok(())
    }

    fn remove_space(&mut self, extent: Extent) -> FsResult<()> {
        let around =
            self.spaces.range(..=extent.start).next_back().map(|(start, len)| Extent::new(*start, *len));
        let Some(around) = around.filter(|around| around.contains(&extent)) else {
            return Err(FsError::Space { extent, reason: "is not lent" });
        };
        self.spaces.remove(&around.start);
        if around.start < extent.start {
            self.spaces.insert(around.start, extent.start - around.start);
        }
        if extent.end() < around.end() {
            self.spaces.insert(extent.end(), around.end() - extent.end());
        }
        Ok(())
    }

    fn dir_create(&mut self, dir: &str) -> FsResult<()> {
        check_name(dir)?;
        if self.dirs.len() >= DIRECTORIES_MAX {
            return Err(FsError::Limit { what: "directories" });
        }
        if self.dirs.contains_key(dir) {
            return Err(FsError::Exists { path: dir.to_owned() });
        }
        self.dirs.insert(dir.to_owned(), BTreeMap::new());
        Ok(())
    }

    fn dir_remove(&mut self, dir: &str) -> FsResult<()> {
        match self.dirs.get(dir) {
            None => Err(FsError::NotFound { path: dir.to_owned() }),
            Some(names) if !names.is_empty() => Err(FsError::NotEmpty { path: dir.to_owned() }),
            Some(_) => {
                self.dirs.remove(dir);
                Ok(())
            }
        }
    }

    fn file_create(&mut self, ino: Ino, dir: &str, name: &str) -> FsResult<()> {
        check_name(name)?;
        if self.files.len() >= FILES_MAX {
            return Err(FsError::Limit { what: "files" });
        }
        let reused = self.files.contains_key(&ino) || ino.0 == u64::MAX;
        let names = self.dirs.get_mut(dir).ok_or_else(|| FsError::NotFound { path: dir.to_owned() })?;
        if reused || names.contains_key(name) {
            return Err(FsError::Exists { path: path(dir, name) });
        }
        names.insert(name.to_owned(), ino);
        self.files.insert(ino, Inode::default());
        self.next_ino = self.next_ino.max(ino.0 + 1);
        Ok(())
    }

    fn file_append(&mut self, ino: Ino, before: u64, size: u64, extents: &[Extent]) -> FsResult<()> {
        let Some(inode) = self.files.get_mut(&ino) else {
            return Err(FsError::NotFound { path: format!("file {}", ino.0) });
        };
        let added = extents.iter().try_fold(0_u64, |sum, extent| sum.checked_add(extent.len));
        let allocated = added.and_then(|added| inode.allocated.checked_add(added));
        let Some(allocated) = allocated.filter(|all| inode.allocated == before && size <= *all) else {
            return Err(FsError::corrupt(format!(
                "file {}: {size} bytes in {} + {extents:?}, allocated before: {before}",
                ino.0, inode.allocated
            )));
        };
        if inode.extents.len() + extents.len() > FILE_EXTENTS_MAX || size > FILE_BYTES_MAX {
            return Err(FsError::Limit { what: "extents or bytes of a file" });
        }
        extents.iter().for_each(|extent| push_joined(&mut inode.extents, *extent));
        inode.allocated = allocated;
        inode.size = size;
        Ok(())
    }

    fn file_truncate(&mut self, ino: Ino, size: u64, allocated: u64) -> FsResult<Vec<Extent>> {
        let Some(inode) = self.files.get_mut(&ino) else {
            return Err(FsError::NotFound { path: format!("file {}", ino.0) });
        };
        if size > inode.size || allocated > inode.allocated || size > allocated {
            return Err(FsError::corrupt(format!("file {}: truncated to {size} of {allocated}", ino.0)));
        }
        let freed = split_extents(&mut inode.extents, allocated);
        inode.size = size;
        inode.allocated = allocated;
        Ok(freed)
    }

    fn file_move(&mut self, ino: Ino, at: u64, new: &[Extent]) -> FsResult<Vec<Extent>> {
        let Some(inode) = self.files.get_mut(&ino) else {
            return Err(FsError::NotFound { path: format!("file {}", ino.0) });
        };
        let end = new.iter().try_fold(at, |sum, extent| sum.checked_add(extent.len));
        if new.is_empty() || end.is_none_or(|end| end > inode.allocated) {
            let held = inode.allocated;
            return Err(FsError::corrupt(format!("file {}: {new:?} for bytes from {at} of {held}", ino.0)));
        }
        let mut extents = inode.extents.clone();
        let old = replace_extents(&mut extents, at, new);
        if extents.len() > FILE_EXTENTS_MAX {
            return Err(FsError::Limit { what: "extents or bytes of a file" });
        }
        inode.extents = extents;
        Ok(old)
    }

    fn rename(&mut self, dir: &str, name: &str, to_dir: &str, to_name: &str) -> FsResult<Vec<Extent>> {
        check_name(to_name)?;
        let ino = self.find(dir, name)?;
        let names = self.dirs.get(to_dir).ok_or_else(|| FsError::NotFound { path: to_dir.to_owned() })?;
        let replaced = names.get(to_name).copied();
        if replaced == Some(ino) {
            return Ok(Vec::new());
        }
        self.dirs.get_mut(dir).and_then(|names| names.remove(name));
        self.dirs.get_mut(to_dir).and_then(|names| names.insert(to_name.to_owned(), ino));
        let gone = replaced.and_then(|ino| self.files.remove(&ino));
        Ok(gone.map(|inode| inode.extents).unwrap_or_default())
    }

    fn unlink(&mut self, dir: &str, name: &str) -> FsResult<Vec<Extent>> {
        let ino = self.find(dir, name)?;
        self.dirs.get_mut(dir).and_then(|names| names.remove(name));
        let gone = self.files.remove(&ino);
        Ok(gone.map(|inode| inode.extents).unwrap_or_default())
    }
}

/// Records for an allocation that grows from `before` by `extents` and a size that becomes `size`; no more
/// extents in each than a record holds.
pub(crate) fn append_records(ino: Ino, before: u64, size: u64, extents: &[Extent]) -> Vec<Record> {
    let mut allocated_before = before;
    let mut records = Vec::new();
    let mut chunks = extents.chunks(RECORD_EXTENTS_MAX);
    loop {
        let extents = chunks.next().unwrap_or_default().to_vec();
        let after = allocated_before + extents.iter().map(|extent| extent.len).sum::<u64>();
        records.push(Record::FileAppend { ino, allocated_before, size: size.min(after), extents });
        allocated_before = after;
        if chunks.len() == 0 {
            return records;
        }
    }
}
