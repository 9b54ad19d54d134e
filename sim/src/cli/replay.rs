//! `walsim replay`: runs one seed or plan file. On request it prints a trace, stops at a given
//! time, or dumps the files of the nodes.

use super::fuzz::simulated;
use super::output::try_file;
use super::refusal::Refusal;
use super::scenarios::judged;
use super::values::{bug_value, overrides, planted, simulated_value};
use super::{Format, Outcome, json, pages, pool, terminal, trace};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use walsim::disk::Entry;
use walsim::dump::DataDirectory;
use walsim::fuzz;
use walsim::html::Page;
use walsim::plan::{Expect, Origin, Plan, Profile, Scenario, seed, show_seed};
use walsim::report::{Report, Status, verdict_word};
use walsim::story::{Story, story};
use walsim::world::{Verdict, World, run as run_plan};
use walsim_core::base::{Bug, Mark, MarkSet, Mono, Planted};

#[derive(clap::Args)]
pub(super) struct Args {
    /// A seed (17, 0x11, the 40 digits of a commit) or a plan file
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// Stop at this simulated time, such as 12.4s, after all events at that time
    #[arg(long, value_name = "TIME", value_parser = simulated_value)]
    until: Option<u64>,
    /// Write the plan to this file
    #[arg(long, value_name = "FILE")]
    write_plan: Option<PathBuf>,
    /// Write each node's data directory to DIR/NODE, with the contents of its page cache
    #[arg(long, value_name = "DIR", conflicts_with = "dump_platter")]
    dump: Option<PathBuf>,
    /// Write each node's data directory to DIR/NODE, with the contents that survive a power loss
    #[arg(long, value_name = "DIR")]
    dump_platter: Option<PathBuf>,
    /// Write a report to this file, as HTML for a browser
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Plant this bug
    #[arg(long, value_name = "NAME", value_parser = bug_value)]
    bug: Option<Bug>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Override a setting of the plan, such as geometry=stock
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    trace: trace::TraceArgs,
}

pub(super) fn run(args: &Args) -> Outcome {
    let planted = planted(args.bug)?;
    let plan = plan_of(&args.what, &args.sets)?;
    let dump = args.dump.as_deref().map(|dir| (dir, false));
    let dump = dump.or(args.dump_platter.as_deref().map(|dir| (dir, true)));
    if let Some((dir, _)) = dump {
        refuse_what_is_there(dir, &plan)?;
    }
    if let Some(path) = &args.write_plan {
        try_file(path)?;
        let text = Scenario::from(plan.clone()).to_toml();
        std::fs::write(path, text).map_err(|e| Refusal::of_io(path, "write", &e))?;
    }
    args.report.as_deref().map_or(Ok(()), try_file)?;
    let printer = args.trace.printer(args.format);
    let origin = origin(&args.what)?;
    let is_file = Path::new(&args.what).exists();
    let audit = is_audited(is_file, origin.as_ref(), args.bug.is_some(), plan.seed);
    let played = play(&plan, planted, audit, args.until, printer);
    let told = match &played.outcome {
        Some(outcome) => pool::simulate(|| story(&plan, planted, outcome)),
        None => Story::default(),
    };
    if let Some(path) = &args.report {
        let page = Page {
            plan: &plan,
            bug: args.bug,
            outcome: &played.so_far(),
            story: &told,
            replay: &args.command(),
            test: None,
            file: None,
            origin: origin.as_ref(),
            until: args.until.map(Mono).filter(|_| played.outcome.is_none()),
        };
        pages::write(path, &page)?;
    }
    let mut nodes = None;
    if let (Some((dir, platter)), Some(world)) = (dump, &played.world) {
        nodes = Some(write_nodes(dir, &plan, world, platter)?);
    }
    // Only a complete run shows whether the plan's pinned choices have an effect.
    let idle_pins = match args.until {
        None => idle_pins(&plan, planted, audit, played.hash),
        Some(_) => Vec::new(),
    };
    match args.format {
        Format::Json => json::line(&played.line(args, &plan, nodes, idle_pins, told)),
        Format::Text => played.print(args, &plan, nodes.as_deref(), &idle_pins, &told),
    }
    let status = played.verdict.as_ref().map_or(Status::Pass, Status::from);
    Ok(match (expectation(args)?, &played.outcome) {
        (Some(expect), Some(outcome)) if status == Status::Pass || expect.is_violation() => {
            let (said, met) = judged(&plan, &expect, outcome);
            let word = if met == Status::Pass {
                "met"
            } else {
                "NOT MET"
            };
            let line = format!("  expect  {word}{said}\n");
            match args.format {
                Format::Text => drop(std::io::stdout().write_all(line.as_bytes())),
                Format::Json => drop(std::io::stderr().write_all(line.as_bytes())),
            }
            met
        }
        (Some(_) | None, _) => status,
    })
}

impl Args {
    /// The command that replays the run.
    fn command(&self) -> String {
        let bug = self.bug.map(|bug| format!(" --bug {}", bug.name()));
        let sets = self.sets.iter().map(|set| format!(" --set {set}"));
        let options: String = sets.chain(bug).collect();
        format!("walsim replay {}{options}", self.what)
    }
}

/// Where the plan comes from, as its file says. `None` for a seed.
fn origin(what: &str) -> Result<Option<Origin>, Refusal> {
    let path = Path::new(what);
    if !path.exists() {
        return Ok(None);
    }
    Ok(read(path)?.origin)
}

/// Whether the run is audited. It is if the run that is replayed was: `fuzz` audits some seeds, a
/// plan file says whether the failure needs it, and `scenarios run` audits each scenario.
fn is_audited(is_file: bool, origin: Option<&Origin>, bug: bool, seed: u64) -> bool {
    match (is_file, origin) {
        (false, _) => fuzz::is_audited(seed),
        (true, Some(origin)) => origin.audited,
        (true, None) => !bug,
    }
}

/// The expectation in the plan file. Returns `None` if the options change the run, because the
/// expectation is then not valid.
fn expectation(args: &Args) -> Result<Option<Expect>, Refusal> {
    let path = Path::new(&args.what);
    let own = args.bug.is_none() && args.until.is_none() && args.sets.is_empty();
    if !own || !path.is_file() {
        return Ok(None);
    }
    let expect = read(path)?.expect;
    Ok((expect != Expect::default()).then_some(expect))
}

/// The plan of a seed or of a file.
pub(super) fn plan_of(what: &str, sets: &[String]) -> Result<Plan, Refusal> {
    let overrides = overrides(sets)?;
    let path = Path::new(what);
    if let Ok(seed) = seed(what)
        && !path.exists()
    {
        return workable(overrides.generate(Profile::Default, seed));
    }
    let mut plan = read(path)?.plan;
    overrides.apply(&mut plan);
    workable(plan)
}

/// Returns an error if the plan cannot work with its overrides.
pub(super) fn workable(plan: Plan) -> Result<Plan, Refusal> {
    match plan.flaw() {
        None => Ok(plan),
        Some(flaw) => Err(Refusal::new(flaw.message).help(flaw.help)),
    }
}

/// Reads a plan file.
pub(super) fn read(path: &Path) -> Result<Scenario, Refusal> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Refusal::of_io(path, "read", &error)
            .help("give a seed (17, 0x11) or the path of a plan file")
    })?;
    let name = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    Scenario::parse(&text, &name.unwrap_or_default())
        .map_err(|error| Refusal::of_plan(path, &text, error))
}

/// The pinned choices whose removal does not change the run.
fn idle_pins(plan: &Plan, planted: Planted, audit: bool, hash: u64) -> Vec<String> {
    let takes_same_steps = |name: &&String| {
        let mut without = plan.clone();
        without.pins.remove(*name);
        pool::simulate(|| run_plan(&without, planted, audit)).hash == hash
    };
    plan.pins.keys().filter(takes_same_steps).cloned().collect()
}

/// A run that went to its end or was stopped by `--until`.
struct Played {
    /// This is `None` if the run was stopped before its end.
    verdict: Option<Verdict>,
    outcome: Option<walsim::world::Outcome>,
    steps: u64,
    sim_us: u64,
    hash: u64,
    marks: MarkSet,
    /// None after a panic.
    world: Option<World>,
}

fn play(
    plan: &Plan,
    planted: Planted,
    audit: bool,
    until: Option<u64>,
    mut printer: Option<trace::Printer>,
) -> Played {
    let played = pool::simulate(|| {
        let mut world = World::new(plan, planted, audit);
        if printer.is_some() {
            world.record();
        }
        let goes_on = |next: Mono| until.is_none_or(|us| next.0 <= us);
        let mut stepped = Some(true);
        while stepped == Some(true) && world.next_at().is_some_and(goes_on) {
            stepped = world.step_caught();
            if let Some(printer) = &mut printer {
                printer.print(&mut world);
            }
        }
        stepped.map(|_| world)
    });
    let Some(world) = played else {
        // The panic has left the world in an unknown state. A second run returns the panic as its
        // verdict, with the number of steps before the panic.
        let outcome = pool::simulate(|| run_plan(plan, planted, audit));
        return Played {
            verdict: Some(outcome.verdict.clone()),
            steps: outcome.steps,
            sim_us: outcome.sim_us,
            hash: outcome.hash,
            marks: outcome.marks,
            outcome: Some(outcome),
            world: None,
        };
    };
    Played {
        verdict: world.finished().cloned(),
        outcome: world.finished().map(|_| world.outcome()),
        steps: world.steps(),
        sim_us: world.now().0,
        hash: world.trace_digest(),
        marks: world.marks(),
        world: Some(world),
    }
}

impl Played {
    /// The outcome of the run. For a run that was stopped, the outcome so far.
    fn so_far(&self) -> walsim::world::Outcome {
        match (&self.outcome, &self.world) {
            (Some(outcome), _) => outcome.clone(),
            (None, Some(world)) => world.outcome_so_far(),
            (None, None) => unreachable!("a run without a world has panicked, which is an outcome"),
        }
    }

    fn line(
        &self,
        args: &Args,
        plan: &Plan,
        nodes: Option<Vec<json::Node>>,
        idle_pins: Vec<String>,
        told: Story,
    ) -> json::Run {
        json::Run {
            faults: plan.faults.len(),
            faults_struck: self.outcome.as_ref().map(|o| struck(plan, o)),
            idle_pins,
            kind: "run",
            seed: show_seed(plan.seed),
            verdict: self.verdict.as_ref().map_or("unfinished", verdict_word),
            invariant: self
                .verdict
                .as_ref()
                .and_then(|v| v.code().map(String::from)),
            steps: self.steps,
            sim_s: json::seconds(Duration::from_micros(self.sim_us)),
            hash: format!("{:#018x}", self.hash),
            marks: self.marks.iter().map(Mark::name).collect(),
            found: self
                .verdict
                .as_ref()
                .and_then(|verdict| json::Found::of(verdict, told)),
            bug_reached: args.bug.map(|bug| self.marks.reached(bug)),
            nodes,
        }
    }

    fn print(
        &self,
        args: &Args,
        plan: &Plan,
        nodes: Option<&[json::Node]>,
        pins: &[String],
        told: &Story,
    ) {
        let mut text = String::new();
        let counts = format!("{} steps, {} simulated", self.steps, simulated(self.sim_us));
        match (&self.verdict, &self.outcome) {
            (Some(Verdict::Pass), Some(outcome)) => {
                let seed = show_seed(plan.seed);
                let commits = outcome.commits;
                text += &format!("PASS  seed {seed}: {counts}, {commits} commits acknowledged\n");
            }
            (Some(_), Some(outcome)) => {
                let replay = format!("{} --trace", args.command());
                let (seed, test, file) = (plan.seed, None, None);
                let page = args.report.as_ref().map(|path| path.display().to_string());
                text += &Report {
                    seed,
                    outcome,
                    story: told,
                    replay,
                    test,
                    file,
                    page,
                }
                .text(terminal::look());
            }
            (None, _) | (_, None) => {
                text += &format!("stopped after {counts}\n");
                if let Some(path) = &args.report {
                    text += &format!("  report  {}\n", path.display());
                }
            }
        }
        if let Some(outcome) = self.outcome.as_ref().filter(|_| !plan.faults.is_empty()) {
            text += &format!("  faults  {}\n", struck_in_words(plan, outcome));
        }
        if !pins.is_empty() {
            let (idle, all) = (pins.len(), plan.pins.len());
            text += &format!(
                "  pins    {idle} of {all} changed nothing: {}\n",
                pins.join(", ")
            );
        }
        let marks: Vec<&str> = self.marks.iter().map(Mark::name).collect();
        text += &format!("  marks   {}\n", marks.join(", "));
        if let Some(bug) = args.bug {
            let not = if self.marks.reached(bug) { "" } else { "not " };
            text += &format!("  bug     {} was {not}reached\n", bug.name());
        }
        text += &format!("  hash    {:#018x}\n", self.hash);
        for node in nodes.unwrap_or_default() {
            let json::Node {
                name,
                dir,
                first_record,
                end_of_wal,
                ..
            } = node;
            text += &format!("  {name:9} {dir}: WAL from {first_record} to {end_of_wal}\n");
        }
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// How many faults of the plan took effect.
fn struck(plan: &Plan, outcome: &walsim::world::Outcome) -> usize {
    plan.faults.len() - outcome.idle_faults.len()
}

/// How many faults took effect, as text: `2 of 3 took effect; row 3 did not`.
fn struck_in_words(plan: &Plan, outcome: &walsim::world::Outcome) -> String {
    let rows: Vec<String> = (outcome.idle_faults.iter())
        .map(|row| (row + 1).to_string())
        .collect();
    let count = format!(
        "{} of {} took effect",
        struck(plan, outcome),
        plan.faults.len()
    );
    match &rows[..] {
        [] => count,
        [row] => format!("{count}; row {row} did not"),
        rows => format!("{count}; rows {} did not", rows.join(", ")),
    }
}

/// Returns an error if a target directory exists, so that no earlier dump is overwritten.
fn refuse_what_is_there(dir: &Path, plan: &Plan) -> Result<(), Refusal> {
    let there = plan
        .nodes
        .iter()
        .map(|node| dir.join(&node.name))
        .find(|path| path.exists());
    match there {
        None => Ok(()),
        Some(path) => Err(Refusal::new(format!("{} exists already", path.display()))
            .help("remove it, or dump to another directory")),
    }
}

fn write_nodes(
    dir: &Path,
    plan: &Plan,
    world: &World,
    platter: bool,
) -> Result<Vec<json::Node>, Refusal> {
    let mut nodes = Vec::new();
    for (host, node) in plan.nodes.iter().enumerate() {
        let data = DataDirectory::of(world.disk(host), &node.settings, platter);
        let target = dir.join(&node.name);
        write_data(&target, &data)?;
        nodes.push(json::Node {
            name: node.name.clone(),
            dir: target.display().to_string(),
            timeline: data.timeline.0,
            first_record: data.first_record().to_string(),
            end_of_wal: data.end_of_wal.to_string(),
        });
    }
    Ok(nodes)
}

/// Writes the files of a node. Also writes `records.txt`, with one line for each record that our
/// WAL reader finds.
fn write_data(target: &Path, data: &DataDirectory) -> Result<(), Refusal> {
    let make_dir =
        |path: &Path| std::fs::create_dir_all(path).map_err(|e| Refusal::of_io(path, "create", &e));
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).map_err(|e| Refusal::of_io(path, "write", &e))
    };
    make_dir(target)?;
    for (path, entry) in &data.entries {
        let path = target.join(path);
        match entry {
            Entry::Dir => make_dir(&path)?,
            Entry::File(bytes) => write(&path, bytes)?,
        }
    }
    let records: String = data
        .records
        .iter()
        .map(|record| format!("{record}\n"))
        .collect();
    write(&target.join("records.txt"), records.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim::plan::generate;

    /// A failure that only an audit shows must fail again when its plan is replayed.
    #[test]
    fn a_run_is_audited_if_the_first_one_was() {
        let plan = generate(Profile::Default, 1);
        for audited in [true, false] {
            let origin = Origin::unshrunk(&plan, 1, String::new(), audited);
            assert_eq!(is_audited(true, Some(&origin), true, 1), audited);
            assert_eq!(is_audited(true, Some(&origin), false, 1), audited);
        }
        assert!(is_audited(true, None, false, 1) && !is_audited(true, None, true, 1));
        for seed in 0..300 {
            assert_eq!(is_audited(false, None, false, seed), fuzz::is_audited(seed));
        }
    }
}
