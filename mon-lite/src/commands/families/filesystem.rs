//! `fs …` and `mds …`: there are no file systems yet, and these say so in the shape that clients expect.

use serde_json::{Value, json};

use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::view::View;
use wire::Errno;

const FS: Argument = Argument::new("fs", Kind::String).optional();
const FS_NAME: Argument = Argument::new("fs_name", Kind::String);
const WHO: Argument = Argument::new("who", Kind::String).optional();
const EPOCH: Argument = Argument::new("epoch", Kind::Int).optional().range("0");

const fn fs(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Fs, arguments, help, handler)
}

const fn mds(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Mds, arguments, help, handler)
}

const NEW: &[Argument] =
    &[FS_NAME, Argument::new("metadata", Kind::String), Argument::new("data", Kind::String)];

pub const COMMANDS: &[Command] = &[
    fs("fs ls", &[], "list file systems", list),
    fs("fs dump", &[EPOCH], "show the map of file systems", dump),
    fs("fs status", &[FS], "show the state of file systems", status),
    fs("fs get", &[FS_NAME], "show a file system", missing),
    mds("mds stat", &[], "summarise the metadata servers", mds_stat),
    mds("mds metadata", &[WHO], "show what a metadata server says of itself", none),
    mds("mds versions", &[], "count the versions of metadata servers", versions),
    Command::write("fs new", Module::Fs, NEW, "not offered yet", refuse),
];

/// Features of the metadata servers' disk format that Ceph 16.2 has, by number.
const INCOMPAT: [(&str, &str); 9] = [
    ("feature_1", "base v0.20"),
    ("feature_2", "client writeable ranges"),
    ("feature_3", "default file layouts on dirs"),
    ("feature_4", "dir inode in separate object"),
    ("feature_5", "mds uses versioned encoding"),
    ("feature_6", "dirfrag is stored in omap"),
    ("feature_8", "no anchor table"),
    ("feature_9", "file layout v2"),
    ("feature_10", "snaprealm v2"),
];

fn fsmap_value() -> Value {
    let incompat: serde_json::Map<String, Value> =
        INCOMPAT.iter().map(|(key, text)| ((*key).to_owned(), (*text).into())).collect();
    json!({
        "epoch": 1,
        "default_fscid": -1,
        "compat": {"compat": {}, "ro_compat": {}, "incompat": incompat},
        "feature_flags": {"enable_multiple": true, "ever_enabled_multiple": true},
        "standbys": [],
        "filesystems": [],
    })
}

fn list(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::formatted(request, || "No filesystems enabled\n".to_owned(), || json!([])).into())
}

fn dump(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let text = || "e1\nNo filesystems configured\n".to_owned();
    Ok(Reply::formatted(request, text, fsmap_value).with_status("dumped fsmap epoch 1").into())
}

fn status(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::formatted(request, String::new, || json!({})).into())
}

fn mds_stat(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let value = || json!({"fsmap": fsmap_value(), "mdsmap_first_committed": 1, "mdsmap_last_committed": 1});
    Ok(Reply::formatted(request, || "\n".to_owned(), value).into())
}

fn none(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::value(request, &json!([])).into())
}

fn versions(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::value(request, &json!({})).into())
}

fn missing(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let name = request.need_text("fs_name")?;
    Err(Refusal::new(Errno::ENOENT, format!("filesystem '{name}' not found")))
}

fn refuse(_: &View<'_>, _: &Request) -> Result<Outcome, Refusal> {
    Err(Refusal::new(Errno::EOPNOTSUPP, "file systems are not offered yet"))
}
