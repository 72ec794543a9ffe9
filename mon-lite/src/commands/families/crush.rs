//! `osd crush …`: the CRUSH map, and rules, which move nothing until a pool uses them.

use serde_json::{Map, Value, json};
use wire::crush::{CrushMap, ReplicatedRule, Rule, Step, TYPE_DEVICE, TYPE_OSD, Tunables};

use super::shared::edit;
use crate::commands::{Argument, Command, Handler, Kind, Module, Outcome, Refusal, Reply, Request};
use crate::crush_view;
use crate::view::View;
use wire::Errno;

const NAME: Argument = Argument::new("name", Kind::String).chars("[A-Za-z0-9-_.]");
const ROOT: Argument = Argument::new("root", Kind::String).chars("[A-Za-z0-9-_.]");
const TYPE: Argument = Argument::new("type", Kind::String).chars("[A-Za-z0-9-_.]");
const CLASS: Argument = Argument::new("class", Kind::String);
const NODE: Argument = Argument::new("node", Kind::String);
const SOURCE: Argument = Argument::new("srcname", Kind::String);
const TARGET: Argument = Argument::new("dstname", Kind::String);
const MODE: Argument = Argument::choice("mode", "firstn|indep").optional();

const fn read(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::read(prefix, Module::Osd, arguments, help, handler)
}

const fn write(
    prefix: &'static str,
    arguments: &'static [Argument],
    help: &'static str,
    handler: Handler,
) -> Command {
    Command::write(prefix, Module::Osd, arguments, help, handler)
}

pub const COMMANDS: &[Command] = &[
    read("osd crush rule ls", &[], "list rules", rule_ls),
    read("osd crush rule list", &[], "list rules", rule_ls),
    read("osd crush rule dump", &[NAME.optional()], "show rules", rule_dump),
    write(
        "osd crush rule create-replicated",
        &[NAME, ROOT, TYPE, CLASS.optional()],
        "make a rule",
        rule_create,
    ),
    write("osd crush rule create-simple", &[NAME, ROOT, TYPE, MODE], "make a rule", rule_create),
    write("osd crush rule rm", &[NAME], "remove a rule that no pool uses", rule_remove),
    write("osd crush rule rename", &[SOURCE, TARGET], "give a rule another name", rule_rename),
    read("osd crush dump", &[], "show the CRUSH map", dump),
    read("osd crush show-tunables", &[], "show the constants of CRUSH", show_tunables),
    read("osd crush ls", &[NODE], "list what is below a bucket", ls),
    read("osd crush class ls", &[], "list device classes", class_ls),
    read("osd crush class ls-osd", &[CLASS], "list the OSDs of a class", class_ls_osd),
];

fn rule_ls(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let names = || view.osd_map().crush.rule_names.values();
    let text = || names().map(|name| format!("{name}\n")).collect();
    Ok(Reply::formatted(request, text, || names().cloned().collect()).into())
}

fn step_value(crush: &CrushMap, step: Step) -> Value {
    let type_name = |number: i32| {
        u16::try_from(number).map_or_else(|_| number.to_string(), |kind| crush_view::type_name(crush, kind))
    };
    let choose = |op: &str| json!({"op": op, "num": step.arg1, "type": type_name(step.arg2)});
    let set = |op: &str| json!({"op": op, "num": step.arg1});
    match step.op {
        Step::TAKE => {
            json!({"op": "take", "item": step.arg1, "item_name": crush_view::name_of(crush, step.arg1)})
        }
        Step::EMIT => json!({"op": "emit"}),
        Step::CHOOSE_FIRSTN => choose("choose_firstn"),
        Step::CHOOSE_INDEP => choose("choose_indep"),
        Step::CHOOSELEAF_FIRSTN => choose("chooseleaf_firstn"),
        Step::CHOOSELEAF_INDEP => choose("chooseleaf_indep"),
        Step::SET_CHOOSE_TRIES => set("set_choose_tries"),
        Step::SET_CHOOSELEAF_TRIES => set("set_chooseleaf_tries"),
        other => json!({"opcode": other, "arg1": step.arg1, "arg2": step.arg2}),
    }
}

fn rule_value(crush: &CrushMap, number: usize, rule: &Rule) -> Value {
    let name = i32::try_from(number).ok().and_then(|number| crush.rule_names.get(&number));
    json!({
        "rule_id": number,
        "rule_name": name,
        "ruleset": rule.ruleset,
        "type": rule.kind,
        "min_size": rule.min_size,
        "max_size": rule.max_size,
        "steps": rule.steps.iter().map(|step| step_value(crush, *step)).collect::<Vec<_>>(),
    })
}

fn rules(crush: &CrushMap) -> impl Iterator<Item = (usize, &Rule)> {
    crush.rules.iter().enumerate().filter_map(|(number, rule)| Some((number, rule.as_ref()?)))
}

fn rule_dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let crush = &view.osd_map().crush;
    let Some(name) = request.text("name")? else {
        let all: Value = rules(crush).map(|(number, rule)| rule_value(crush, number, rule)).collect();
        return Ok(Reply::value(request, &all).into());
    };
    let number = usize::from(super::pool::rule_named(view.osd_map(), &name)?);
    let rule =
        crush.rule(number).ok_or_else(|| Refusal::new(Errno::ENOENT, format!("rule {name} is gone")))?;
    Ok(Reply::value(request, &rule_value(crush, number, rule)).into())
}

fn rule_create(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (name, root, kind) =
        (request.need_text("name")?, request.need_text("root")?, request.need_text("type")?);
    let crush = &view.osd_map().crush;
    if crush.rule_names.values().any(|other| *other == name) {
        return Ok(Reply::status(format!("rule {name} already exists")).into());
    }
    let number = crush
        .type_names
        .iter()
        .find(|(_, other)| **other == kind)
        .and_then(|(kind, _)| u16::try_from(*kind).ok());
    let number = number.ok_or_else(|| Refusal::new(Errno::EINVAL, format!("unknown type {kind}")))?;
    // Two copies on slices of one device would be lost together.
    let failure_domain = if number == TYPE_OSD { TYPE_DEVICE } else { number };
    let rule = ReplicatedRule { name: name.clone(), root, failure_domain, class: request.text("class")? };
    let changes = edit(view, |map| {
        let crush = std::sync::Arc::make_mut(&mut map.crush);
        crush.add_replicated_rule(&rule).map_err(|error| Refusal::new(Errno::EINVAL, error.to_string()))?;
        Ok(())
    })?;
    let mut status = String::new();
    if number != failure_domain {
        status = "the failure domain is 'device' instead of 'osd', because OSDs of one device fail together"
            .to_owned();
    }
    Ok(Outcome::commit(changes, status))
}

fn rule_remove(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let name = request.need_text("name")?;
    let map = view.osd_map();
    let Ok(number) = super::pool::rule_named(map, &name) else {
        return Ok(Reply::status(format!("rule {name} does not exist")).into());
    };
    if map.pools.values().any(|pool| pool.crush_rule == number) {
        return Err(Refusal::new(Errno::EBUSY, format!("a pool uses rule {name}")));
    }
    let changes = edit(view, |map| {
        let crush = std::sync::Arc::make_mut(&mut map.crush);
        if let Some(slot) = crush.rules.get_mut(usize::from(number)) {
            *slot = None;
        }
        crush.rule_names.remove(&i32::from(number));
        Ok(())
    })?;
    Ok(Outcome::commit(changes, ""))
}

fn rule_rename(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let (from, to) = (request.need_text("srcname")?, request.need_text("dstname")?);
    let map = view.osd_map();
    if map.crush.rule_names.values().any(|name| *name == to) {
        return Err(Refusal::new(Errno::EEXIST, format!("there is a rule {to} already")));
    }
    let number = super::pool::rule_named(map, &from)?;
    let changes = edit(view, |map| {
        let crush = std::sync::Arc::make_mut(&mut map.crush);
        crush.rule_names.insert(i32::from(number), to.clone());
        Ok(())
    })?;
    Ok(Outcome::commit(changes, ""))
}

fn tunables_value(crush: &CrushMap) -> Value {
    let t = crush.tunables;
    let best = t == Tunables::JEWEL;
    let yes = |condition: bool| u8::from(condition);
    json!({
        "choose_local_tries": t.choose_local_tries,
        "choose_local_fallback_tries": t.choose_local_fallback_tries,
        "choose_total_tries": t.choose_total_tries,
        "chooseleaf_descend_once": t.chooseleaf_descend_once,
        "chooseleaf_vary_r": t.chooseleaf_vary_r,
        "chooseleaf_stable": t.chooseleaf_stable,
        "straw_calc_version": t.straw_calc_version,
        "allowed_bucket_algs": t.allowed_bucket_algs,
        "profile": if best { "jewel" } else { "unknown" },
        "optimal_tunables": yes(best),
        "legacy_tunables": yes(t == Tunables::LEGACY),
        "minimum_required_version": "jewel",
        "require_feature_tunables": yes(t.choose_local_tries != 2),
        "require_feature_tunables2": yes(t.chooseleaf_descend_once != 0),
        "has_v2_rules": 0,
        "require_feature_tunables3": yes(t.chooseleaf_vary_r != 0),
        "has_v3_rules": 0,
        "has_v4_buckets": 1,
        "require_feature_tunables5": yes(t.chooseleaf_stable != 0),
        "has_v5_rules": 0,
    })
}

fn show_tunables(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    Ok(Reply::value(request, &tunables_value(&view.osd_map().crush)).into())
}

fn dump(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let crush = &view.osd_map().crush;
    let devices = crush.item_names.iter().filter(|(id, _)| **id >= 0).map(|(id, name)| {
        let mut device = Map::new();
        device.insert("id".into(), (*id).into());
        device.insert("name".into(), name.clone().into());
        if let Some(class) = crush_view::class_of(crush, *id) {
            device.insert("class".into(), class.into());
        }
        Value::Object(device)
    });
    let types = crush.type_names.iter().map(|(id, name)| json!({"type_id": id, "name": name}));
    let buckets = crush.buckets.iter().flatten().map(|bucket| {
        let item = |(position, (id, weight)): (usize, (i32, u32))| json!({"id": id, "weight": weight, "pos": position});
        json!({
            "id": bucket.id,
            "name": crush_view::name_of(crush, bucket.id),
            "type_id": bucket.kind,
            "type_name": crush_view::type_name(crush, bucket.kind),
            "weight": bucket.weight,
            "alg": algorithm_name(bucket),
            "hash": "rjenkins1",
            "items": crush_view::items(bucket).into_iter().enumerate().map(item).collect::<Vec<_>>(),
        })
    });
    let value = json!({
        "devices": devices.collect::<Vec<_>>(),
        "types": types.collect::<Vec<_>>(),
        "buckets": buckets.collect::<Vec<_>>(),
        "rules": rules(crush).map(|(number, rule)| rule_value(crush, number, rule)).collect::<Vec<_>>(),
        "tunables": tunables_value(crush),
        "choose_args": {},
    });
    Ok(Reply::value(request, &value).into())
}

fn algorithm_name(bucket: &wire::crush::Bucket) -> &'static str {
    use wire::crush::Algorithm::{List, Straw, Straw2, Tree, Uniform};
    match bucket.algorithm {
        Uniform { .. } => "uniform",
        List(_) => "list",
        Tree { .. } => "tree",
        Straw(_) => "straw",
        Straw2(_) => "straw2",
    }
}

fn ls(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let crush = &view.osd_map().crush;
    let node = request.need_text("node")?;
    let missing = || Refusal::new(Errno::ENOENT, format!("node '{node}' does not exist"));
    let id = crush.item_named(&node).ok_or_else(missing)?;
    let names: Vec<String> = match crush.bucket(id) {
        Some(bucket) => bucket.items.iter().map(|item| crush_view::name_of(crush, *item)).collect(),
        None => vec![node],
    };
    let text = || names.iter().map(|name| format!("{name}\n")).collect();
    Ok(Reply::formatted(request, text, || json!(names)).into())
}

fn class_ls(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let classes: Value = view.osd_map().crush.class_names.values().cloned().collect();
    Ok(Reply::value(request, &classes).into())
}

fn class_ls_osd(view: &View<'_>, request: &Request) -> Result<Outcome, Refusal> {
    let crush = &view.osd_map().crush;
    let class = request.need_text("class")?;
    let ids =
        || crush.item_classes.keys().filter(|id| crush_view::class_of(crush, **id).as_ref() == Some(&class));
    let text = || ids().map(|id| format!("{id}\n")).collect();
    Ok(Reply::formatted(request, text, || ids().copied().collect()).into())
}
