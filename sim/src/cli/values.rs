//! Values of options: names, seeds, ranges and durations. The error for a misspelled name suggests
//! the closest name.

use super::refusal::Refusal;
use std::ops::Range;
use std::time::Duration;
use walsim::plan::{Overrides, Profile, duration_us, known_names, seed};
use walsim_core::base::{Bug, Planted};

/// Parses a seed, for clap.
pub(super) fn seed_value(text: &str) -> Result<u64, String> {
    seed(text).map_err(|e| format!("{e}: {}", e.help))
}

/// Parses `A..B`. B is excluded from the range.
pub(super) fn range_value(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write A..B, such as 0..1000")?;
    let range = seed_value(from)?..seed_value(to)?;
    if range.is_empty() {
        return Err("the range is empty: A..B excludes B".into());
    }
    Ok(range)
}

/// The first seed: a number, or drawn at random.
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
    /// The seed. If the seed is random, this function prints it, so that the user can repeat the
    /// command.
    pub(super) fn seed(self) -> u64 {
        match self {
            Self::Seed(seed) => seed,
            Self::Random => {
                // A random seed is from the lower half of the range. A campaign that starts at such
                // a seed does not exceed the largest seed.
                let seed = rand::random::<u64>() >> 1;
                eprintln!("seed base {seed:#x}");
                seed
            }
        }
    }
}

/// Parses a duration, for clap.
pub(super) fn duration_value(text: &str) -> Result<Duration, String> {
    let us = duration_us(text).map_err(|e| format!("{e}: {}", e.help))?;
    Ok(Duration::from_micros(us))
}

/// Parses a budget: a duration above zero.
pub(super) fn budget_value(text: &str) -> Result<Duration, String> {
    let budget = duration_value(text)?;
    if budget.is_zero() {
        return Err("a budget must be longer than 0; write a duration such as 60s".into());
    }
    Ok(budget)
}

/// Parses a count of at least 1.
pub(super) fn count_value(text: &str) -> Result<u64, String> {
    let count = text
        .parse()
        .map_err(|_| String::from("write a whole number, such as 1000"))?;
    if count == 0 {
        return Err("the number must be at least 1".into());
    }
    Ok(count)
}

/// Parses a simulated time into microseconds.
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

/// The set of planted bugs for `--bug`.
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
