//! A plan file is parsed, printed and parsed again. Then the plan is run for a short time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walsim::plan::Scenario;
use walsim::world::{Verdict, run_at_most};
use walsim_core::base::Planted;

const STEPS: u64 = 3000;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let scenario = match Scenario::parse(text, "fuzz") {
        Ok(scenario) => scenario,
        Err(error) => {
            let _ = error.to_string();
            return;
        }
    };
    let written = scenario.to_toml();
    let again = Scenario::parse(&written, "fuzz").expect("what is written can be read");
    assert!(again == scenario, "{written}");
    if scenario.plan.nodes.len() > 4 {
        return;
    }
    if let Ok(outcome) = run_at_most(&scenario.plan, Planted::NONE, false, STEPS)
        && let Verdict::Panic { message, .. } = outcome.verdict
    {
        panic!("{message}");
    }
});
