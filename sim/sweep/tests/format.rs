//! Formatting a device that holds a store already, cut at every write: whoever asks for the old store gets it whole or
//! not at all, whoever asks for the new one likewise.

use std::rc::Rc;
use std::sync::Arc;

use crash_sweep::{
    Builder, Expectation, FORMATTED, Plan, Setup, Views, check, in_world, mount, record, simulated, workload,
};
use nvme::{Image, MemoryDevice, Recording};

/// None if the device says that it holds no such store.
fn looked(setup: &Arc<Setup>, plan: &Arc<Plan>, device: &MemoryDevice) -> Option<Result<(), String>> {
    let (asked, views) = (Arc::clone(setup), Views::plain(&setup.devices, &device.snapshot()));
    in_world(setup.below, 7, |core| async move { mount(&core, &asked, &views).await.ok().map(drop) })?;
    let (setup, plan, views) =
        (Arc::clone(setup), Arc::clone(plan), Rc::new(Views::plain(&setup.devices, device)));
    let expect = Expectation::all(&plan);
    Some(in_world(setup.below, 8, |core| async move {
        check(core, setup, views, plan, expect, true).await.map(|_| ())
    }))
}

#[test]
fn an_interrupted_format_leaves_the_old_store_or_none_or_the_new() {
    let (old, new) = (Arc::new(simulated()), Arc::new(Setup { identity: 2, ..simulated() }));
    let (old_plan, new_plan) = (Arc::new(workload(1)), Arc::new(Builder::new().build()));
    let device = MemoryDevice::with_geometry("formatted twice", old.devices.all());
    let tape = Recording::new(old.devices.all(), Image::new());
    record(&old, &old_plan, &device, &tape, 1).expect("the first life");
    let tape = Recording::new(old.devices.all(), device.image());
    record(&new, &new_plan, &device, &tape, 2).expect("the second");
    let (mut kept, mut made, mut none) = (0, 0, 0);
    for cut in tape.cuts() {
        let moment = tape.at(cut);
        let formatted = moment.marks().contains(&FORMATTED);
        for choice in moment.choices(8) {
            let found = |setup, plan| looked(setup, plan, &moment.image(&choice));
            let found = (found(&old, &old_plan), found(&new, &new_plan));
            match &found {
                (Some(Ok(())), None) if !formatted => kept += 1,
                (None, Some(Ok(()))) => made += 1,
                (None, None) if !formatted => none += 1,
                _ => panic!("cut {cut} {choice:?}, formatted {formatted}: old and new are {found:?}"),
            }
        }
    }
    assert!(kept > 0 && none > 20 && made > 10, "{kept} old ones, {none} none, {made} new ones");
}
