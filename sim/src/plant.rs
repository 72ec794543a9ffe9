//! Planting every known bug, one after the other: each must be found.

use std::process::ExitCode;

use sim::Planted;

use crate::{Cli, run_seeds, scenario};

/// The bug of this name.
pub fn by_name(name: &str) -> Planted {
    Planted::by_name(name).unwrap_or_else(|| {
        let known: Vec<String> = Planted::all().iter().map(ToString::to_string).collect();
        eprintln!("sim: no bug is called '{name}'; known are {}", known.join(", "));
        std::process::exit(2)
    })
}

/// Plants each, and prints the first seed that fails and how.
pub fn all(cli: &Cli) -> ExitCode {
    let cli = &Cli { first: true, planted: None, trace: None, ..*cli };
    let mut missed = 0;
    for planted in Planted::all() {
        let run = |seed| sim::run(&scenario(cli, seed).with_planted(planted), None);
        let (summary, failed) = run_seeds(cli, &run, &|_| {});
        match failed.iter().min_by_key(|outcome| outcome.seed) {
            Some(outcome) => println!(
                "{planted}: seed {} found it: {:.300}",
                outcome.seed,
                outcome.failure.as_deref().unwrap_or_default()
            ),
            None => {
                missed += 1;
                println!("{planted}: NOT FOUND by {} seeds", summary.runs());
            }
        }
    }
    println!(
        "Clones and files that are cut are left out, as no client makes any: the crash sweeps find those mistakes."
    );
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
