//! Opening, creating and the blocking view of files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{OpenError, OpenOptions, Space, create, open};
use crate::blocking::BlockingDevice;
use crate::buffer::DmaBuf;
use crate::device::DeviceError;
use crate::suite;
use crate::testing::options;

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place { path: directory.path().join("device"), _directory: directory }
}

fn refusal(path: &std::path::Path, options: &OpenOptions) -> String {
    open(path, options).unwrap_err().to_string()
}

#[test]
fn the_blocking_view_conforms() {
    for space in [Space::Reserved, Space::Sparse] {
        let place = place();
        create(&place.path, 32 << 20, space).unwrap();
        let file = open(&place.path, &options()).unwrap();
        assert_eq!(file.geometry().discard, space == Space::Sparse);
        let device: Arc<dyn BlockingDevice> = Arc::new(file.blocking());
        suite::blocking_conforms(&device, crate::testing::on_threads);
    }
}

#[test]
fn the_second_to_open_is_told_who_was_first() {
    let place = place();
    create(&place.path, 1 << 20, Space::Sparse).unwrap();
    let first = open(&place.path, &options()).unwrap();
    let refused = refusal(&place.path, &options());
    assert!(refused.contains("it is in use by this process; stop that first"), "{refused}");
    drop(first);
    open(&place.path, &options()).unwrap();
}

#[test]
fn says_what_is_wrong_with_a_path() {
    let place = place();
    let options = OpenOptions { size_min: 1 << 20, ..options() };
    let is = |what: &str, refused: String| assert!(refused.contains(what), "{refused}");
    is("there is no such file or device", refusal(&place.path, &options));
    is("it is a directory, not a block device or a regular file; name a file in it", {
        refusal(place.path.parent().unwrap(), &options)
    });
    is("it is a character device", refusal(std::path::Path::new("/dev/null"), &options));
    create(&place.path, 8192, Space::Sparse).unwrap();
    is("it has 8192 bytes and at least 1048576 are needed", refusal(&place.path, &options));
    let again = create(&place.path, 8192, Space::Sparse).unwrap_err();
    assert!(matches!(again, OpenError::Exists { .. }), "{again}");
}

#[test]
fn a_file_that_does_not_fit_is_not_left_behind() {
    let place = place();
    let error = create(&place.path, 1 << 60, Space::Reserved).unwrap_err();
    assert!(matches!(error, OpenError::NoSpace { .. }), "{error}");
    assert!(!place.path.exists());
}

#[test]
fn a_failed_flush_poisons_every_view() {
    let place = place();
    create(&place.path, 1 << 20, Space::Sparse).unwrap();
    let file = open(&place.path, &options()).unwrap();
    let (one, other) = (file.blocking(), file.blocking());
    one.flush().unwrap();
    let error = file.poisoned_by(&io::Error::from_raw_os_error(libc::EIO));
    assert!(error.to_string().contains("the device reports an I/O error"), "{error}");
    for view in [one, other] {
        let mut buf = DmaBuf::zeroed(4096);
        let results =
            [view.read_at(0, &mut buf), view.write_at(0, &buf), view.flush(), view.discard(0, 4096)];
        for result in results {
            assert!(matches!(result, Err(DeviceError::Poisoned { .. })), "{result:?}");
        }
    }
}

#[test]
fn a_file_that_shrinks_is_an_error_and_not_a_hang() {
    let place = place();
    create(&place.path, 1 << 20, Space::Sparse).unwrap();
    let file = open(&place.path, &options()).unwrap();
    std::fs::OpenOptions::new().write(true).open(&place.path).unwrap().set_len(4096).unwrap();
    let mut buf = DmaBuf::zeroed(8192);
    let error = file.blocking().read_at(0, &mut buf).unwrap_err().to_string();
    assert!(error.contains("shorter than when it was opened"), "{error}");
}
