//! `walsim shrink`: shrinks a failing plan, and writes a file whose head comment explains the
//! failure. `fuzz` and `bugs hunt` shrink their failures with the same code.

use super::fuzz::OUT;
use super::output::{try_file, with_origin};
use super::refusal::Refusal;
use super::replay::plan_of;
use super::values::{budget_value, bug_value, planted};
use super::{Format, Outcome, json, os, pages, pool, terminal};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use walsim::html::Page;
use walsim::plan::{Plan, show_seed};
use walsim::report::{Report, Status};
use walsim::shrink::{Kept, Progress, Shrunk, Size, shrink};
use walsim_core::base::Bug;

const JSON: &str = "\
Output of --format json, one line:
  {\"kind\":\"shrink\",\"seed\":\"0x…\" (or \"plan\":\"FILE\"),\"invariant\":\"…\",\"tries\":n,\"cpu_s\":x,
   \"steps_before\":n,\"steps_after\":n,\"faults_after\":n,\"file\":\"…\"}
Steps are the rows of workload, faults and actions. If the plan does not fail, invariant and file are null.

The exit status is that of the failure, and 0 if there is none.";

#[derive(clap::Args)]
#[command(after_help = JSON)]
pub(super) struct Args {
    /// A seed (17, 0x11, the 40 digits of a commit) or a plan file
    #[arg(value_name = "SEED|FILE")]
    what: String,
    /// File for the small plan [default: named after the seed or plan, under target/walsim]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Plant this bug
    #[arg(long, value_name = "NAME", value_parser = bug_value)]
    bug: Option<Bug>,
    /// CPU time to spend
    #[arg(long, value_name = "TIME", value_parser = budget_value, default_value = "30s")]
    budget: Duration,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Override a setting of the plan, such as geometry=stock
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

pub(super) fn run(args: &Args) -> Outcome {
    planted(args.bug)?;
    let plan = plan_of(&args.what, &args.sets)?;
    let path = args.output.clone().unwrap_or_else(|| {
        let name = match Path::new(&args.what).file_stem() {
            Some(stem) if Path::new(&args.what).exists() => stem.to_string_lossy().into_owned(),
            _ => seed_name(plan.seed, args.bug),
        };
        Path::new(OUT).join(format!("{name}-shrunk.toml"))
    });
    try_file(&path)?;
    let begun = os::cpu_time();
    let bug = args.bug.map(|bug| format!(" --bug {}", bug.name()));
    let sets = args.sets.iter().map(|set| format!(" --set {set}"));
    let options: String = sets.chain(bug).collect();
    let replay = format!("walsim replay {}{options}", args.what);
    let small = make_small(&plan, args.bug, args.budget, &path, &replay)?;
    let cpu = os::cpu_time().saturating_sub(begun);
    match args.format {
        Format::Json => json::line(&line(args, &plan, small.as_ref(), cpu)),
        Format::Text => print(args, &plan, small.as_ref(), cpu),
    }
    Ok(small.map_or(Status::Pass, |small| {
        Status::from(&small.shrunk.outcome.verdict)
    }))
}

/// A shrunk plan and the file in which it was stored.
pub(super) struct Small {
    pub(super) shrunk: Shrunk,
    pub(super) size: Size,
    pub(super) was: Size,
    /// The seed of the original plan.
    seed: u64,
    pub(super) file: String,
    /// The report beside the file.
    pub(super) page: String,
}

impl Small {
    /// The size as text: `2 rows, 1 fault among them, of 17`.
    pub(super) fn in_words(&self) -> String {
        let counted = |n: usize, what: &str| {
            let s = if n == 1 { "" } else { "s" };
            format!("{n} {what}{s}")
        };
        let (rows, faults) = (
            counted(self.size.steps, "row"),
            counted(self.size.faults, "fault"),
        );
        let own = self.shrunk.plan.seed;
        let seed = match own == self.seed {
            true => String::new(),
            false => format!(
                "; seed {} instead of {}",
                show_seed(own),
                show_seed(self.seed)
            ),
        };
        format!("{rows} of {}, {faults} among them{seed}", self.was.steps)
    }

    /// The report of the shrunk run. The report names the seed of the original plan.
    pub(super) fn report(&self, seed: u64, bug: Option<Bug>, test: Option<String>) -> Report<'_> {
        let bug = bug.map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
        Report {
            seed,
            outcome: &self.shrunk.outcome,
            story: &self.shrunk.story,
            replay: format!("walsim replay {}{bug} --trace", self.file),
            test,
            file: Some(format!("{} ({})", self.file, self.in_words())),
            page: Some(self.page.clone()),
        }
    }
}

/// The file name for the plan of a seed, without extension.
pub(super) fn seed_name(seed: u64, bug: Option<Bug>) -> String {
    match bug {
        Some(bug) => format!("{}-{}", show_seed(seed), bug.name()),
        None => show_seed(seed),
    }
}

/// Shrinks a plan within a budget of CPU time, and stores the result with its report. `replay` is
/// the command that replays the original plan. Returns `None` if the plan does not fail.
pub(super) fn make_small(
    plan: &Plan,
    bug: Option<Bug>,
    budget: Duration,
    path: &Path,
    replay: &str,
) -> Result<Option<Small>, Refusal> {
    let planted = planted(bug)?;
    let begun = os::cpu_time();
    let bar = progress();
    let go_on = |progress: &Progress| {
        let Progress { tries, size, pass } = progress;
        let Size { steps, faults } = size;
        bar.set_message(format!(
            "{tries} tries, {steps} rows and {faults} faults left: {pass}"
        ));
        os::cpu_time().saturating_sub(begun) < budget
    };
    let shrunk = pool::simulate(|| shrink(plan, planted, go_on));
    bar.finish_and_clear();
    let Some(shrunk) = shrunk else {
        return Ok(None);
    };
    let file = path.display().to_string();
    let text = pool::simulate(|| {
        shrunk.to_file(Kept {
            plan,
            replay,
            bug,
            file: &file,
        })
    });
    let text = text.map_err(|error| Refusal::new(error.to_string()))?;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| Refusal::of_io(dir, "create", &e))?;
    }
    let text = with_origin(text, shrunk.outcome.hash);
    std::fs::write(path, text).map_err(|e| Refusal::of_io(path, "write", &e))?;
    let (size, was) = (Size::of(&shrunk.plan), Size::of(plan));
    let option = bug.map_or(String::new(), |bug| format!(" --bug {}", bug.name()));
    let page = pages::beside(path);
    let html = Page {
        plan: &shrunk.plan,
        bug,
        outcome: &shrunk.outcome,
        story: &shrunk.story,
        replay: &format!("walsim replay {file}{option}"),
        test: None,
        file: Some(&file),
        origin: Some(&shrunk.origin(plan, replay)),
        until: None,
    };
    pages::write(&page, &html)?;
    let page = page.display().to_string();
    Ok(Some(Small {
        shrunk,
        size,
        was,
        seed: plan.seed,
        file,
        page,
    }))
}

/// The progress line. It is hidden if stderr is not a terminal.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} shrinking: {msg}  {elapsed}");
    bar.set_style(style.expect("a fixed template"));
    bar
}

fn line(args: &Args, plan: &Plan, small: Option<&Small>, cpu: Duration) -> json::Shrink {
    let is_file = Path::new(&args.what).exists();
    let was = Size::of(plan);
    let size = small.map_or(was, |small| small.size);
    let code = small.and_then(|small| small.shrunk.outcome.verdict.code());
    json::Shrink {
        kind: "shrink",
        seed: (!is_file).then(|| show_seed(plan.seed)),
        plan: is_file.then(|| args.what.clone()),
        invariant: code.map(String::from),
        tries: small.map_or(0, |small| small.shrunk.tries),
        cpu_s: json::seconds(cpu),
        steps_before: was.steps,
        steps_after: size.steps,
        faults_after: size.faults,
        file: small.map(|small| small.file.clone()),
    }
}

fn print(args: &Args, plan: &Plan, small: Option<&Small>, cpu: Duration) {
    let Some(small) = small else {
        let with = args
            .bug
            .map_or(String::new(), |bug| format!(" with {}", bug.name()));
        let seed = show_seed(plan.seed);
        super::say!("PASS  seed {seed} does not fail{with}: there is nothing to shrink");
        return;
    };
    let report = small.report(plan.seed, args.bug, None);
    let report = report.text(terminal::look());
    let _ = std::io::stdout().write_all(report.as_bytes());
    let (tries, cpu_s) = (small.shrunk.tries, json::seconds(cpu));
    eprintln!("{tries} tries in {cpu_s} s of CPU");
}
