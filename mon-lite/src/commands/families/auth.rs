//! `auth …`: with authentication none there are no keys; who connects is believed.

use serde_json::json;

use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::view::View;
use wire::Errno;

const ENTITY: Argument = Argument::new("entity", Kind::String);
const CAPS: Argument = Argument::new("caps", Kind::String).optional().many();

const fn read(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Auth, arguments, help, handler)
}

const fn write(prefix: &'static str, arguments: &'static [Argument], handler: Handler) -> Command {
    Command::write(prefix, Module::Auth, arguments, "not offered: authentication is none", handler)
}

pub const COMMANDS: &[Command] = &[
    read("auth ls", &[], "list who has a key", list),
    read("auth list", &[], "list who has a key", list),
    read("auth get", &[ENTITY], "show a key", missing),
    read("auth get-key", &[ENTITY], "show a key", missing),
    read("auth print-key", &[ENTITY], "show a key", missing),
    write("auth add", &[ENTITY, CAPS], refuse),
    write("auth get-or-create", &[ENTITY, CAPS], refuse),
    write("auth get-or-create-key", &[ENTITY, CAPS], refuse),
    write("auth caps", &[ENTITY, CAPS], refuse),
    write("auth rm", &[ENTITY], remove),
    write("auth del", &[ENTITY], remove),
];

fn list(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let reply = Reply::formatted(request, || "\n".to_owned(), || json!({"auth_dump": []}));
    Ok(reply.with_status("authentication is none: nobody has a key").into())
}

fn missing(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let entity = request.need_text("entity")?;
    Err(Refusal::new(Errno::ENOENT, format!("failed to find {entity} in keyring: authentication is none")))
}

fn refuse(_: &View<'_>, _: &Request) -> Result<Outcome, Refusal> {
    let text = "this cluster has authentication none: keys are not offered yet, and nobody needs one";
    Err(Refusal::new(Errno::EOPNOTSUPP, text))
}

/// Removing what is not there succeeds, as everywhere.
fn remove(_: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    request.need_text("entity")?;
    Ok(Reply::status("updated").into())
}
