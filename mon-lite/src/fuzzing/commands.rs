//! Commands: any JSON, and commands of the table with arguments made of the input, on a state that they change.

use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::cluster::{NOW, apply, live, small_cluster};
use crate::commands::{Request, Table, run};
use crate::live::Live;
use crate::state::State;
use crate::view::View;

/// Commands of one history.
const COMMANDS_MAX: usize = 12;
/// Most that a command says about a cluster this small.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Words that mean something in some command.
const WORDS: [&str; 40] = [
    "rbd",
    "other",
    "0",
    "1",
    "2",
    "osd.0",
    "osd.7",
    "1.0",
    "1.7",
    "2.ffffffff",
    "a",
    "mon.a",
    "osd",
    "global",
    "client.admin",
    "default",
    "host",
    "device0",
    "host.device0",
    "replicated_rule",
    "replicated",
    "erasure",
    "all",
    "any",
    "detail",
    "size",
    "min_size",
    "pg_num",
    "pgp_num",
    "quota",
    "8",
    "0.5",
    "-1",
    "127.0.0.1:0/1",
    "mon_allow_pool_delete",
    "true",
    "json-pretty",
    "--yes-i-really-really-mean-it",
    "nearfull",
    "\u{fc}\0\n",
];
const NUMBERS: [i64; 12] = [0, 1, 2, 3, 8, 16, 255, 256, 65536, -1, i64::MIN, i64::MAX];

/// A command of the table as clients are told of it.
struct Row {
    table: Table,
    prefix: String,
    arguments: Vec<Value>,
}

/// One command, as its JSON text: first byte odd for a command to this monitor alone.
pub(super) fn json(input: &[u8]) {
    let Some((first, text)) = input.split_first() else {
        return;
    };
    let table = if first & 1 == 1 { Table::Tell } else { Table::Cluster };
    if let Ok(text) = String::from_utf8(text.to_vec()) {
        let mut state = small_cluster();
        execute(&mut state, &mut None, table, text, Bytes::from_static(b"input"));
    }
}

/// Commands of the table one after the other.
pub(super) fn history(mut input: &[u8]) {
    let mut state = small_cluster();
    let mut known = None;
    for _ in 0..COMMANDS_MAX {
        if input.is_empty() {
            break;
        }
        let (table, text, data) = command(&mut input);
        execute(&mut state, &mut known, table, text, data);
    }
    let encoded = wire::codec::encode_to_bytes(&state);
    match wire::codec::decode_exact::<State>("fuzz", encoded) {
        Ok(again) => assert_eq!(again, state),
        Err(error) => panic!("the snapshot of a state cannot be read: {error}"),
    }
}

/// Commands without arguments that only look.
const LOOKS: [&str; 9] =
    ["status", "health", "df", "osd df", "osd tree", "osd dump", "pg dump", "pg stat", "log last"];

/// Runs one of the commands that only look; the last byte of the input says which, and how it answers. All of them would
/// take a hundred times as long as decoding what they look at.
pub(super) fn look_around(state: &State, live: &Live, input: &[u8]) {
    let choice = usize::from(input.last().copied().unwrap_or_default());
    let format = ["plain", "json"][choice % 2];
    let prefix = LOOKS[choice / 2 % LOOKS.len()];
    let text = serde_json::json!({"prefix": prefix, "format": format, "detail": "detail"}).to_string();
    match Request::parse(&[text], Bytes::new()) {
        Ok(request) => {
            assert!(run(&View { state, live, now: NOW }, Table::Cluster, &request).changes.is_empty())
        }
        Err(refusal) => panic!("{refusal}"),
    }
}

/// Executes a command. What is known besides of the state is `known`, if it was made before.
fn execute(state: &mut State, known: &mut Option<Live>, table: Table, text: String, input: Bytes) {
    let Ok(request) = Request::parse(&[text], input) else {
        return;
    };
    let live = known.get_or_insert_with(|| live(state));
    let outcome = run(&View { state, live, now: NOW }, table, &request);
    let said = outcome.reply.output.len() + outcome.reply.status.len();
    assert!(said <= OUTPUT_BYTES_MAX, "{} says {said} bytes", request.prefix);
    if !outcome.changes.is_empty() {
        *known = None;
        apply(state, outcome.changes);
    }
}

fn rows() -> &'static [Row] {
    static ROWS: OnceLock<Vec<Row>> = OnceLock::new();
    ROWS.get_or_init(|| [Table::Cluster, Table::Tell].into_iter().flat_map(rows_of).collect())
}

fn rows_of(table: Table) -> Vec<Row> {
    let Value::Object(all) = table.descriptions() else { panic!("the table is an object") };
    let row = |described: Value| {
        let signature = described["sig"].as_array().cloned().unwrap_or_default();
        let words: Vec<&str> = signature.iter().filter_map(Value::as_str).collect();
        let prefix = words.join(" ");
        Row { table, prefix, arguments: signature.into_iter().filter(Value::is_object).collect() }
    };
    all.into_iter().map(|(_, described)| row(described)).collect()
}

/// Every command of the table with several sets of arguments, as inputs of [`json`]: made of JSON alone, a fuzzer would
/// look for most of them for ever.
pub(super) fn samples() -> Vec<Vec<u8>> {
    const EACH: u64 = 12;
    let rows = u16::try_from(rows().len()).unwrap_or(u16::MAX);
    let sample = |row: u16, salt: u64| {
        let noise =
            (0..64_u64).map(|n| (salt * 64 + n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[7]);
        let bytes: Vec<u8> = row.to_le_bytes().into_iter().chain(noise).collect();
        text_of(&bytes)
    };
    (0..rows).flat_map(|row| (0..EACH).map(move |salt| sample(row, salt))).collect()
}

/// What arguments of these names can be in the small cluster.
const SENSIBLE: [(&str, &str); 33] = [
    ("pool", "rbd"),
    ("pool_name", "rbd"),
    ("poolstr", "rbd"),
    ("srcpool", "rbd"),
    ("destpool", "renamed"),
    ("id", "0"),
    ("ids", "0"),
    ("osd", "0"),
    ("who", "osd.0"),
    ("name", "default"),
    ("key", "noout"),
    ("pgid", "1.0"),
    ("ratio", "0.9"),
    ("weight", "0.5"),
    ("epoch", "1"),
    ("addr", "v1:127.0.0.1:0/3"),
    ("var", "size"),
    ("val", "1"),
    ("app", "rbd"),
    ("value", "v"),
    ("node", "default"),
    ("bucket", "default"),
    ("entity", "client.x"),
    ("property", "hostname"),
    ("logtext", "hi"),
    ("type", "host"),
    ("class", "device0"),
    ("rule", "replicated_rule"),
    ("srcname", "replicated_rule"),
    ("dstname", "renamed"),
    ("args", "root=default"),
    ("states", "active"),
    ("level", "info"),
];

/// Every command of the table with arguments that are right, each of which is once left out, once each word, and once
/// something else; with each of its choices where it has some. As [`command`] reads them.
pub(super) fn variations() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (number, row) in rows().iter().enumerate() {
        let number = u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
        let mut add = |format: u8, arguments: &[Vec<u8>]| {
            all.push([&number[..], &[format], &arguments.concat(), &[0]].concat());
        };
        let choices =
            |argument: &Value| argument["strings"].as_str().map_or(0, |some| some.split('|').count());
        let right = |argument: &Value| match choices(argument) {
            0 => {
                let name = argument["name"].as_str().unwrap_or_default();
                given_text(SENSIBLE.iter().find(|(other, _)| *other == name).map_or("x", |(_, value)| value))
            }
            _ => vec![0],
        };
        let right: Vec<Vec<u8>> = row.arguments.iter().map(right).collect();
        (0..4).for_each(|format| add(format, &right));
        for (at, argument) in row.arguments.iter().enumerate() {
            let mut with = right.clone();
            let choices: Vec<u8> =
                (0..choices(argument).min(128)).filter_map(|n| u8::try_from(n).ok()).collect();
            for given in choices.iter().map(|choice| vec![*choice]).chain(anything()) {
                with[at] = given;
                add(1, &with);
            }
            // What a choice is for, the argument behind it says.
            if at + 1 == with.len() {
                continue;
            }
            for choice in choices {
                with[at] = vec![choice];
                for given in anything() {
                    with[at + 1] = given;
                    add(1, &with);
                }
            }
        }
    }
    all
}

/// The same as inputs of [`json`].
pub(super) fn variations_as_json() -> Vec<Vec<u8>> {
    variations().iter().map(|bytes| text_of(bytes)).collect()
}

/// Values of every kind, as [`value`] reads them: kinds from 128 on are never taken for a choice.
fn anything() -> impl Iterator<Item = Vec<u8>> {
    let count = |n: usize| 0..u8::try_from(n).unwrap_or(u8::MAX);
    let texts =
        ["", "unset", "1.5", "none", "force", "crc32c", "any:127.0.0.1:6800/1", "v2:[::1]:0/2", "a b=c"];
    let words = count(WORDS.len()).map(|n| vec![131, n]);
    let numbers = count(NUMBERS.len()).map(|n| vec![136, n]);
    let fractions = [0, 100, 110, 190].map(|n| vec![137, n]);
    let arrays = [vec![138, 0], vec![138, 1, 2], vec![138, 3, 0, 12, 13]];
    let others = (0..4).map(|n| vec![139, n]);
    let texts = texts.map(given_text);
    std::iter::once(vec![130])
        .chain(words)
        .chain(numbers)
        .chain(fractions)
        .chain(arrays)
        .chain(others)
        .chain(texts)
}

fn given_text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 32);
    let Some(length) = length else { panic!("at most 31 bytes: {text}") };
    [&[135, length][..], text.as_bytes()].concat()
}

fn text_of(mut bytes: &[u8]) -> Vec<u8> {
    let (table, text, _) = command(&mut bytes);
    let first = if table == Table::Tell { "!" } else { " " };
    format!("{first}{text}").into_bytes()
}

fn take(input: &mut &[u8]) -> u8 {
    let Some((first, rest)) = input.split_first() else {
        return 0;
    };
    *input = rest;
    *first
}

/// Up to 31 bytes of the input, as text.
fn take_text(input: &mut &[u8]) -> String {
    let length = usize::from(take(input) & 31).min(input.len());
    let (text, rest) = input.split_at(length);
    *input = rest;
    String::from_utf8_lossy(text).into_owned()
}

fn command(input: &mut &[u8]) -> (Table, String, Bytes) {
    let number = usize::from(take(input)) | usize::from(take(input)) << 8;
    let row = &rows()[number % rows().len()];
    let mut arguments = Map::new();
    arguments.insert("prefix".into(), row.prefix.clone().into());
    let format = ["plain", "json", "json-pretty", "xml"][usize::from(take(input) & 3)];
    arguments.insert("format".into(), format.into());
    for argument in &row.arguments {
        let name = argument["name"].as_str().unwrap_or_default().to_owned();
        if let Some(value) = value(input, argument) {
            arguments.insert(name, value);
        }
    }
    let data = Bytes::from(take_text(input));
    (row.table, Value::Object(arguments).to_string(), data)
}

/// A value for an argument: often of its type, now and then anything.
fn value(input: &mut &[u8], argument: &Value) -> Option<Value> {
    let kind = take(input);
    if let Some(choices) = argument["strings"].as_str().filter(|_| kind < 128) {
        let choices: Vec<&str> = choices.split('|').collect();
        return Some(choices[usize::from(kind) % choices.len()].into());
    }
    let word = |input: &mut &[u8]| WORDS[usize::from(take(input)) % WORDS.len()];
    Some(match kind % 10 {
        0 => return None,
        1..=4 => word(input).into(),
        5 => take_text(input).into(),
        6 => NUMBERS[usize::from(take(input)) % NUMBERS.len()].into(),
        7 => (f64::from(take(input)) / 100.0 - 1.0).into(),
        8 => Value::Array((0..take(input) % 4).map(|_| word(input).into()).collect()),
        _ => [Value::Null, true.into(), false.into(), Value::Object(Map::new())]
            [usize::from(take(input) & 3)]
        .clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variations_say_what_they_are_meant_to() {
        let all = variations_as_json();
        let texts: Vec<Value> =
            all.iter().filter_map(|text| serde_json::from_slice(text.get(1..)?).ok()).collect();
        assert_eq!(texts.len(), all.len(), "all are JSON");
        for row in rows() {
            let of_row = |text: &&Value| text["prefix"] == row.prefix.as_str();
            let with =
                |name: &str, value: &Value| texts.iter().filter(of_row).any(|text| text[name] == *value);
            for argument in &row.arguments {
                let name = argument["name"].as_str().expect("a name");
                let (number, word) = (NUMBERS[NUMBERS.len() - 1], WORDS[WORDS.len() - 1]);
                let odd = [Value::Null, true.into(), number.into(), "unset".into(), word.into()];
                for value in odd.iter() {
                    assert!(with(name, value), "{}: no {name} is {value}", row.prefix);
                }
                for choice in argument["strings"].as_str().into_iter().flat_map(|choices| choices.split('|'))
                {
                    assert!(with(name, &choice.into()), "{}: no {name} is {choice}", row.prefix);
                }
            }
        }
    }

    #[test]
    fn sensible_values_are_of_arguments_that_there_are() {
        for (name, _) in SENSIBLE {
            let has = |row: &Row| row.arguments.iter().any(|argument| argument["name"] == name);
            assert!(rows().iter().any(has), "no command has an argument {name}");
        }
    }
}
