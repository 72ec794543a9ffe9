//! Commands on options.

use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::{Answer, Arguments, Failure};
use crate::config::{KNOWN_OPTIONS, OptionSource};
use crate::memory::{self, TARGET_OPTION};
use crate::osd::Osd;
use crate::scrub::INTERVAL_OPTION;
use crate::space::FULL_RATIO_OPTION;

/// Everything in force.
pub fn show(osd: &Osd) -> Value {
    osd.options.all().into_iter().map(|(name, value, _)| (name, Value::from(value))).collect()
}

/// One value.
pub fn get(osd: &Osd, arguments: &Arguments) -> Answer {
    let name = variable(arguments)?;
    match osd.options.get(name) {
        Some(value) => Ok(json!({ name: value })),
        None => Err(Failure { errno: wire::Errno::ENOENT, text: format!("there is no option {name}") }),
    }
}

/// Sets a value that can change while the OSD runs.
pub fn set(osd: &Rc<Osd>, arguments: &Arguments) -> Answer {
    let name = variable(arguments)?;
    let value = arguments.words("val").ok_or_else(|| Failure::invalid("val is missing"))?;
    if name == TARGET_OPTION {
        return set_memory_target(osd, &value);
    }
    let most = match name {
        FULL_RATIO_OPTION => 1.0,
        INTERVAL_OPTION => 1e9,
        _ => return Err(Failure::invalid(format!("{name} cannot be changed while the OSD runs"))),
    };
    match value.parse::<f64>() {
        Ok(number) if (0.0..=most).contains(&number) => {}
        _ => return Err(Failure::invalid(format!("{name} is a number from 0 to {most}, not {value:?}"))),
    }
    osd.options.set(OptionSource::Override, name, &value);
    crate::space::look(osd);
    Ok(json!({ "success": format!("{name} = '{value}'") }))
}

/// What was in force stays so if the new value is not possible.
fn set_memory_target(osd: &Rc<Osd>, value: &str) -> Answer {
    memory::parse(value).map_err(Failure::invalid)?;
    let before = osd.options.of(OptionSource::Override, TARGET_OPTION);
    osd.options.set(OptionSource::Override, TARGET_OPTION, value);
    if let Err(reason) = memory::apply(osd) {
        match before {
            Some(before) => osd.options.set(OptionSource::Override, TARGET_OPTION, &before),
            None => drop(osd.options.unset(OptionSource::Override, TARGET_OPTION)),
        }
        return Err(Failure::invalid(reason));
    }
    Ok(json!({ "success": format!("{TARGET_OPTION} = '{value}'") }))
}

/// Undoes [`set`].
pub fn unset(osd: &Rc<Osd>, arguments: &Arguments) -> Answer {
    let name = variable(arguments)?;
    let removed = osd.options.unset(OptionSource::Override, name);
    crate::space::look(osd);
    if name == TARGET_OPTION {
        memory::apply(osd).map_err(Failure::invalid)?;
    }
    Ok(json!({ "success": if removed { format!("{name} is unset") } else { String::new() } }))
}

/// What differs from the defaults.
pub fn diff(osd: &Osd) -> Value {
    let default =
        |name: &str| KNOWN_OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let differing: Map<String, Value> = osd
        .options
        .all()
        .into_iter()
        .filter(|(_, _, source)| *source != OptionSource::Default)
        .map(|(name, value, source)| {
            let entry = json!({ "default": default(&name).unwrap_or_default(), source.name(): value.clone(), "final": value });
            (name, entry)
        })
        .collect();
    json!({ "diff": differing })
}

fn variable(arguments: &Arguments) -> Result<&str, Failure> {
    arguments.text("var").ok_or_else(|| Failure::invalid("var is missing"))
}
