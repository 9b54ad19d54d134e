//! Values of options: names, seeds, ranges and durations, with a guess where one is misspelt.

use super::refusal::Refusal;
use std::ops::Range;
use std::time::Duration;
use walsim::plan::{Overrides, Profile, duration_us, known_names, seed};
use walsim_core::base::{Bug, Planted};

/// A seed, as clap wants it.
pub(super) fn seed_value(text: &str) -> Result<u64, String> {
    seed(text).map_err(|e| format!("{e}: {}", e.help))
}

/// `A..B`, without B.
pub(super) fn range_value(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write A..B, such as 0..1000")?;
    let range = seed_value(from)?..seed_value(to)?;
    if range.is_empty() {
        return Err("there is no seed in it: A..B ends before B".into());
    }
    Ok(range)
}

/// Where seeds begin: a seed, or one that is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SeedBase {
    Seed(u64),
    Random,
}

pub(super) fn base_value(text: &str) -> Result<SeedBase, String> {
    match text {
        "random" => Ok(SeedBase::Random),
        text => seed_value(text).map(SeedBase::Seed),
    }
}

impl SeedBase {
    /// The seed. One that is drawn is printed, so that the command can be repeated.
    pub(super) fn seed(self) -> u64 {
        match self {
            Self::Seed(seed) => seed,
            Self::Random => {
                // Half of the range, so that a campaign never runs out of seeds.
                let seed = rand::random::<u64>() >> 1;
                eprintln!("seed base {seed:#x}");
                seed
            }
        }
    }
}

/// A duration, as clap wants it.
pub(super) fn duration_value(text: &str) -> Result<Duration, String> {
    let us = duration_us(text).map_err(|e| format!("{e}: {}", e.help))?;
    Ok(Duration::from_micros(us))
}

/// A budget: a duration in which something can be done.
pub(super) fn budget_value(text: &str) -> Result<Duration, String> {
    let budget = duration_value(text)?;
    if budget.is_zero() {
        return Err("nothing can be done in no time; write a duration such as 60s".into());
    }
    Ok(budget)
}

/// A number of things, one at least.
pub(super) fn count_value(text: &str) -> Result<u64, String> {
    let count = text
        .parse()
        .map_err(|_| String::from("write a whole number, such as 1000"))?;
    if count == 0 {
        return Err("there must be one at least".into());
    }
    Ok(count)
}

/// Microseconds of simulated time.
pub(super) fn simulated_value(text: &str) -> Result<u64, String> {
    duration_us(text).map_err(|e| format!("{e}: {}", e.help))
}

pub(super) fn profile_value(text: &str) -> Result<Profile, String> {
    let known: Vec<&str> = Profile::ALL.iter().map(|p| p.name()).collect();
    Profile::from_name(text).ok_or_else(|| known_names(text, &known))
}

pub(super) fn bug_value(text: &str) -> Result<Bug, String> {
    let known: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    Bug::from_name(text).ok_or_else(|| known_names(text, &known))
}

/// The bug of `--bug`, planted.
pub(super) fn planted(bug: Option<Bug>) -> Result<Planted, Refusal> {
    let Some(bug) = bug else {
        return Ok(Planted::NONE);
    };
    Refusal::unless_bugs_can_be_planted()?;
    Ok(Planted::NONE.with(bug))
}

pub(super) fn overrides(texts: &[String]) -> Result<Overrides, Refusal> {
    Ok(Overrides::parse(texts.iter().map(String::as_str))?)
}
