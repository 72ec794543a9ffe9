//! The table of commands as data, and its announcement to clients. Pure.
//!
//! No command carries the flag that sends it to a manager daemon: there is none, and clients would wait for it.

use serde_json::{Map, Value, json};

use super::families::{FAMILIES, tell};
use super::{Outcome, Refusal, Request};
use crate::view::View;

/// A command: words, arguments, what it is for, and who answers it.
pub struct Command {
    /// Literal words, joined by blanks.
    pub prefix: &'static str,
    /// Arguments in the order in which they are typed.
    pub arguments: &'static [Argument],
    /// One line for `--help`.
    pub help: &'static str,
    /// Which service it belongs to.
    pub module: Module,
    /// What the caller must be allowed to.
    pub permission: Permission,
    /// Decides.
    pub handler: Handler,
}

/// Decides what a command does and answers.
pub type Handler = fn(&View<'_>, &Request) -> Result<Outcome, Refusal>;

impl Command {
    /// A row of a command that only looks.
    pub const fn read(
        prefix: &'static str,
        module: Module,
        arguments: &'static [Argument],
        help: &'static str,
        handler: Handler,
    ) -> Self {
        Self { prefix, arguments, help, module, permission: Permission::Read, handler }
    }

    /// A row of a command that changes something.
    pub const fn write(
        prefix: &'static str,
        module: Module,
        arguments: &'static [Argument],
        help: &'static str,
        handler: Handler,
    ) -> Self {
        Self { prefix, arguments, help, module, permission: Permission::Write, handler }
    }
}

/// Service a command belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Module {
    Mon,
    Osd,
    Pg,
    Auth,
    Mds,
    Fs,
    ConfigKey,
    Config,
    Log,
    Mgr,
}

impl Module {
    fn name(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Osd => "osd",
            Self::Pg => "pg",
            Self::Auth => "auth",
            Self::Mds => "mds",
            Self::Fs => "fs",
            Self::ConfigKey => "config-key",
            Self::Config => "config",
            Self::Log => "log",
            Self::Mgr => "mgr",
        }
    }
}

/// What a caller must be allowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Read; a command with only this never changes anything.
    Read,
    /// Read and write.
    Write,
}

/// Type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the announcement")]
pub enum Kind {
    Bool,
    Choices,
    EntityAddr,
    Float,
    Int,
    Name,
    ObjectName,
    OsdName,
    PgId,
    PoolName,
    String,
    Uuid,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "CephBool",
            Self::Choices => "CephChoices",
            Self::EntityAddr => "CephEntityAddr",
            Self::Float => "CephFloat",
            Self::Int => "CephInt",
            Self::Name => "CephName",
            Self::ObjectName => "CephObjectname",
            Self::OsdName => "CephOsdName",
            Self::PgId => "CephPgid",
            Self::PoolName => "CephPoolname",
            Self::String => "CephString",
            Self::Uuid => "CephUUID",
        }
    }
}

/// One argument.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    name: &'static str,
    kind: Kind,
    required: bool,
    many: bool,
    attribute: Option<(&'static str, &'static str)>,
}

impl Argument {
    /// A required argument.
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true, many: false, attribute: None }
    }

    /// One of the words in `strings`, separated by bars.
    pub const fn choice(name: &'static str, strings: &'static str) -> Self {
        Self { attribute: Some(("strings", strings)), ..Self::new(name, Kind::Choices) }
    }

    /// May be left out.
    pub const fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    /// May be repeated.
    pub const fn many(self) -> Self {
        Self { many: true, ..self }
    }

    /// A number within `range`, such as `0|100`.
    pub const fn range(self, range: &'static str) -> Self {
        Self { attribute: Some(("range", range)), ..self }
    }

    /// A text of these characters only, such as `[A-Za-z0-9-_.]`.
    pub const fn chars(self, chars: &'static str) -> Self {
        Self { attribute: Some(("goodchars", chars)), ..self }
    }

    fn describe(&self) -> Value {
        let mut object = Map::new();
        if let Some((key, value)) = self.attribute {
            object.insert(key.into(), value.into());
        }
        if self.many {
            object.insert("n".into(), "N".into());
        }
        object.insert("name".into(), self.name.into());
        if !self.required {
            object.insert("req".into(), "false".into());
        }
        object.insert("type".into(), self.kind.name().into());
        Value::Object(object)
    }
}

/// A table of commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// For the cluster.
    Cluster,
    /// For this monitor alone: `ceph tell mon.X`.
    Tell,
}

impl Table {
    /// The row for `prefix`.
    pub fn find(self, prefix: &str) -> Option<&'static Command> {
        self.rows().find(|command| command.prefix == prefix)
    }

    /// The answer to `get_command_descriptions`.
    pub fn descriptions(self) -> Value {
        let describe =
            |(number, command): (usize, &Command)| (format!("cmd{number:03}"), self.describe(command));
        Value::Object(self.rows().enumerate().map(describe).collect())
    }

    fn describe(self, command: &Command) -> Value {
        let words = command.prefix.split(' ').map(Value::from);
        let signature: Vec<Value> = words.chain(command.arguments.iter().map(Argument::describe)).collect();
        if self == Self::Tell {
            return json!({"sig": signature, "help": command.help});
        }
        let permission = if command.permission == Permission::Read { "r" } else { "rw" };
        let module = command.module.name();
        json!({"sig": signature, "help": command.help, "module": module, "perm": permission, "flags": 0})
    }

    fn rows(self) -> impl Iterator<Item = &'static Command> {
        let families: &[&[Command]] = match self {
            Self::Cluster => FAMILIES,
            Self::Tell => &[tell::COMMANDS],
        };
        families.iter().flat_map(|family| family.iter())
    }
}
