//! What is not carried out because it would move data, and moving does not exist yet.
//!
//! Announced all the same, so that the answer is a reason rather than "no such command".

use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Request};
use crate::view::View;
use wire::Errno;

const IDS: Argument = Argument::new("ids", Kind::String).many();
const ID: Argument = Argument::new("id", Kind::OsdName);
const WEIGHT: Argument = Argument::new("weight", Kind::Float).range("0.0");
const NAME: Argument = Argument::new("name", Kind::String);
const ARGS: Argument = Argument::new("args", Kind::String).many();
const SURE: Argument = Argument::new("yes_i_really_mean_it", Kind::Bool).optional();
const FORCE: Argument = Argument::new("force", Kind::Bool).optional();
const PGID: Argument = Argument::new("pgid", Kind::PgId);
const OSDS: Argument = Argument::new("id", Kind::OsdName).many();

const fn refuse(prefix: &'static str, arguments: &'static [Argument], handler: Handler) -> Command {
    Command::write(prefix, Module::Osd, arguments, "not offered yet: it would move data", handler)
}

pub const COMMANDS: &[Command] = &[
    refuse("osd out", &[IDS], |_, _| Err(moves_data("marking an OSD out"))),
    refuse("osd reweight", &[ID, WEIGHT], reweight),
    refuse("osd crush reweight", &[NAME, WEIGHT], |_, _| {
        Err(moves_data("changing a weight in the CRUSH map"))
    }),
    refuse("osd crush set", &[ID, WEIGHT, ARGS], |_, _| Err(moves_data("moving an OSD in the CRUSH map"))),
    refuse("osd crush add", &[ID, WEIGHT, ARGS], |_, _| Err(moves_data("adding an OSD to the CRUSH map"))),
    refuse("osd crush move", &[NAME, ARGS], |_, _| Err(moves_data("moving a bucket in the CRUSH map"))),
    refuse("osd crush rm", &[NAME], |_, _| Err(moves_data("removing an item from the CRUSH map"))),
    refuse("osd rm", &[IDS], |_, _| Err(moves_data("removing an OSD"))),
    refuse("osd purge", &[ID, FORCE, SURE], |_, _| Err(moves_data("removing an OSD"))),
    refuse("osd destroy", &[ID, FORCE, SURE], |_, _| Err(moves_data("removing an OSD"))),
    refuse("osd pg-upmap", &[PGID, OSDS], |_, _| Err(moves_data("placing a PG by hand"))),
    refuse("osd pg-upmap-items", &[PGID, OSDS], |_, _| Err(moves_data("placing a PG by hand"))),
    refuse("osd pg-temp", &[PGID, OSDS.optional()], |_, _| Err(moves_data("placing a PG by hand"))),
];

/// The refusal of `what`.
pub fn moves_data(what: &str) -> Refusal {
    let text = format!(
        "{what} would move data to other OSDs, which this version cannot do yet; nothing was changed"
    );
    Refusal::new(Errno::EPERM, text)
}

fn reweight(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let id = super::shared::existing_osd(view.osd_map(), request)?;
    let weight = request.need_float("weight")?;
    let now = view.osd_map().osd(id).map_or(0, |osd| osd.weight);
    if (weight * 65536.0 - f64::from(now)).abs() < 1.0 {
        let status = format!("reweighted osd.{id} to {weight} ({now:x})");
        return Ok(crate::commands::Reply::status(status).into());
    }
    Err(moves_data(&format!("giving osd.{id} another weight")))
}
