//! Two checkouts on one machine: neither builds into the other's folder, nor runs what is there.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::process::Folder;

/// What a shell that sources `env.sh` of these checkouts in turn says of where builds go, each time.
fn builds(checkouts: &[&Path], before: &str) -> Vec<String> {
    let lines = checkouts
        .iter()
        .map(|path| format!(". '{}/scripts/env.sh'; echo \"$CARGO_TARGET_DIR\"\n", path.display()));
    let script = format!("set -eu\n{before}\n{}", lines.collect::<String>());
    let mut shell = Command::new("bash");
    for name in ["CARGO_TARGET_DIR", "SPIRULA_BUILD", "SPIRULA_ROOT"] {
        shell.env_remove(name);
    }
    let done = shell.args(["-c", &script]).output().expect("bash");
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn one_shell_may_use_several() {
    let folder = Folder::new();
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (one, other) = (folder.path("one"), folder.path("other"));
    for copy in [&one, &other] {
        fs::create_dir_all(copy.join("scripts")).expect("made");
        for file in ["scripts/env.sh", "Cargo.lock"] {
            fs::copy(own.join(file), copy.join(file)).expect("copied");
        }
    }
    let found = builds(&[&one, &other, &one], "");
    assert!(found[0] == found[2] && found[0] != found[1], "{found:?}");
    // Who wants a folder has it.
    assert_eq!(builds(&[&one, &other], "export CARGO_TARGET_DIR=/mine"), ["/mine", "/mine"]);
}
