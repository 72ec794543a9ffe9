//! Finding and running the handler of a command. Pure.

use super::{Outcome, Permission, Refusal, Reply, Request, Table};
use crate::view::View;
use wire::Errno;

const DESCRIPTIONS: &str = "get_command_descriptions";

/// Whether a command only looks, so that it needs not wait for its turn to change things.
pub fn only_reads(table: Table, request: &Request) -> bool {
    table.find(&request.prefix).is_none_or(|command| command.permission == Permission::Read)
}

/// Decides what a command changes and answers.
pub fn run(view: &View<'_>, table: Table, request: &Request) -> Outcome {
    if request.prefix == DESCRIPTIONS {
        return Reply::output(table.descriptions().to_string()).into();
    }
    let Some(command) = table.find(&request.prefix) else {
        let text = match table {
            Table::Cluster => "command not known".to_owned(),
            Table::Tell => format!("unknown command prefix {}", request.prefix),
        };
        return Reply::from(Refusal::new(Errno::EINVAL, text)).into();
    };
    let outcome = (command.handler)(view, request).unwrap_or_else(|refusal| Reply::from(refusal).into());
    assert!(
        outcome.changes.is_empty() || command.permission == Permission::Write,
        "'{}' changes something but is said only to look",
        command.prefix
    );
    outcome
}
