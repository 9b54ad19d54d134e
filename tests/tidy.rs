//! Checks rules that the compiler cannot check, by reading the sources as text. There are no
//! exceptions to these rules.

#[path = "tidy/assertions.rs"]
mod assertions;
#[path = "tidy/functions.rs"]
mod functions;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors of core, lowest first. A module may import only from its own floor and from lower
/// floors.
const FLOORS: [&str; 12] = [
    "base",
    "wire",
    "wal",
    "call",
    "shmem",
    "sys",
    "storage",
    "replication",
    "access",
    "tcop",
    "proc",
    "node",
];
const LONGEST_FILE: usize = 600;

/// Words that no source, script, scenario or page may contain. Each word is written in two halves
/// here, so that this file does not contain it.
const FORBIDDEN: [&str; 13] = [
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("db", "g!"),
    concat!("#[ig", "nore"),
    concat!("/wo", "rk/"),
    concat!("../sh", "ared"),
    concat!("sh", "ared/DESIGN"),
    concat!("sh", "ared/spec"),
    concat!("sh", "ared/reference"),
    concat!("spec/", "standby"),
    concat!("spec/", "primary"),
];

struct Source {
    /// The path relative to the repository's root, with slashes.
    path: String,
    text: String,
}

/// A module of core: its file, its module path, and its lines without comments.
struct Module<'a> {
    path: &'a str,
    /// The module path. It is `["wal", "reader"]` for both `wal/reader.rs` and `wal/reader/mod.rs`,
    /// and empty for `lib.rs`.
    place: Vec<&'a str>,
    lines: Vec<Line<'a>>,
}

struct Line<'a> {
    number: usize,
    code: &'a str,
    in_tests: bool,
}

#[test]
fn core_imports_only_go_down() {
    for_core(|module, line| {
        let own = floor(module.place.first()?)?;
        let up = paths(&module.place, line)
            .into_iter()
            .find(|path| path.first().and_then(|name| floor(name)) > Some(own))?;
        Some(format!("imports {} from {}", up.join("::"), FLOORS[own]))
    });
}

#[test]
fn every_core_module_stands_on_a_floor() {
    for_core(|module, line| {
        let place = module.place.first()?;
        (line.number == 1 && floor(place).is_none())
            .then(|| format!("`{place}` is not one of the floors {FLOORS:?}"))
    });
}

/// The first names of a path show the layer of a module, so paths must be written in full.
#[test]
fn core_paths_show_their_floor() {
    for_core(|module, line| {
        let open = line.code.contains("crate::{") && !line.code.contains('}');
        let hidden = open || line.code.contains("crate::*");
        let to_the_root = supers(line.code)
            .any(|(count, _)| count >= module.place.len() + usize::from(line.in_tests));
        (hidden || to_the_root).then(|| "write `crate::FLOOR::…`, one `use` a floor".into())
    });
}

#[test]
fn a_process_never_imports_another() {
    for_core(|module, line| {
        let ["proc", own, ..] = module.place[..] else {
            return None;
        };
        let other = paths(&module.place, line).into_iter().find(|path| {
            let is_module = |name: &str| name.starts_with(|c: char| c.is_ascii_lowercase());
            matches!(path[..], ["proc", name, ..] if is_module(name) && name != own)
        })?;
        Some(format!("process {own} imports {}", other.join("::")))
    });
}

/// The referee shows events to the checks. A check knows neither the world nor another check.
#[test]
fn a_check_stands_alone() {
    let sources = sources();
    let checks = sources.iter().filter(|source| {
        let path = source.path.strip_prefix("sim/src/checks/");
        path.is_some_and(|path| path != "mod.rs")
    });
    report(checks.flat_map(|source| {
        (1..).zip(source.text.lines()).filter_map(move |(n, line)| {
            let named = ["crate::world", "crate::checks", "super::super"];
            let in_tests = source.path.ends_with("/tests.rs");
            let sibling = line.starts_with("use super::") && !in_tests;
            let named = named.into_iter().find(|path| line.contains(path));
            let named = named.or(sibling.then_some("another check"));
            named.map(|path| (source, n, format!("names {path}")))
        })
    }));
    let referee = sources
        .iter()
        .filter(|source| source.path.starts_with("sim/src/referee/"));
    report(referee.flat_map(|source| {
        (1..).zip(source.text.lines()).filter_map(move |(n, line)| {
            let code = !line.trim_start().starts_with("//");
            let named = ["crate::world", "crate::checks"];
            let named = named.into_iter().find(|path| code && line.contains(path))?;
            Some((source, n, format!("names {named}")))
        })
    }));
}

/// `no_std` keeps clocks, files, sockets, threads and hash maps out of core. An explicit import of
/// std would bring them back.
#[test]
fn core_has_no_std() {
    for_core(|_, line| {
        let names_std = line.code.contains("extern crate std")
            || words(line.code).any(|(word, rest)| word == "std" && rest.starts_with("::"));
        (names_std && !line.in_tests).then(|| "names std".into())
    });
}

/// Two errors that the compiler does not detect. A routine that is created where it is polled
/// starts again at each poll. A yield that is not returned is a wait that never happens.
#[test]
fn routines_are_kept_and_their_yields_returned() {
    for_core(|module, line| {
        let of_tests = |part: &&str| matches!(*part, "tests" | "testing");
        if line.in_tests || module.place.iter().any(of_tests) {
            return None;
        }
        loses_a_yield(line.code)
    });
    for (code, wrong) in [
        ("ready_ok!(Acquire::new(name.clone()).poll(cx));", true),
        ("let done = slot::Save::of(cx, 1).poll(cx);", true),
        ("self.leave.insert(leave).poll(cx)", false),
        ("ready!(self.flush.poll(cx));", false),
        ("Poll::Yield(_) => {}", true),
        ("Poll::Yield(how) => return how,", false),
        ("other @ (Poll::Ready(_) | Poll::Yield(_)) => other,", false),
        ("if let Poll::Ready(done) = save.poll(cx) {", true),
    ] {
        assert_eq!(loses_a_yield(code).is_some(), wrong, "{code}");
    }
}

fn loses_a_yield(code: &str) -> Option<String> {
    if code.contains("Poll::Yield(_) =>") || code.contains("let Poll::Ready(") {
        return Some("drops a yield; return it".into());
    }
    let (before, _) = code.split_once(").poll(")?;
    let mut depth = 1;
    let open = before.rfind(|c| {
        depth += match c {
            ')' => 1,
            '(' => -1,
            _ => 0,
        };
        depth == 0
    })?;
    let name = before[..open].rfind(|c: char| !is_name(c) && c != ':');
    let made = before[name.map_or(0, |at| at + 1)..open].contains("::");
    made.then(|| "polls a routine that it has just created; keep it in a phase".into())
}

/// A new version behaves like the newest known version until a difference is found. A comparison
/// with the newest version alone would exclude the next version.
#[test]
fn no_version_is_compared_with_the_newest_one_alone() {
    for_core(|_, line| {
        let alone = line.code.contains("== PgVersion::V18") || line.code.contains("== V18");
        alone.then(|| "write `>= PgVersion::V18`".into())
    });
}

/// The driver does not interpret the bytes that pass through it. Otherwise it would make protocol
/// decisions.
#[test]
fn the_driver_knows_no_protocol() {
    let sources = sources();
    let driver = sources
        .iter()
        .filter(|s| s.path.starts_with("live/src/driver/"));
    report(driver.flat_map(|source| {
        (1..).zip(source.text.lines()).filter_map(move |(n, line)| {
            let upper = [
                "wire",
                "wal",
                "shmem",
                "sys",
                "storage",
                "replication",
                "access",
                "proc",
                "node",
            ];
            let named = upper.map(|floor| format!("walsim_core::{floor}"));
            let path = named.iter().find(|path| line.contains(path.as_str()))?;
            Some((source, n, format!("names {path}")))
        })
    }));
}

/// core has two drivers, which do not depend on each other. The driver for real files cannot plant
/// bugs. Only its tests may use the simulator, to compare both drivers.
#[test]
fn live_depends_on_core_alone() {
    let sources = sources();
    let live = sources.iter().filter(|s| s.path.starts_with("live/"));
    report(live.flat_map(|source| {
        let mut section = "";
        (1..).zip(source.text.lines()).filter_map(move |(n, line)| {
            if line.starts_with('[') {
                section = line;
            }
            let names = line.starts_with("walsim =") || line.starts_with("walsim.");
            let depends = names && section != "[dev-dependencies]";
            let plants = source.path.ends_with("Cargo.toml") && line.contains("planted-bugs");
            (depends || plants).then(|| (source, n, "depends on the simulator".into()))
        })
    }));
}

#[test]
fn every_file_says_what_it_is() {
    let without = |source: &Source| {
        let bare = source.path.ends_with(".rs") && !source.text.starts_with("//! ");
        bare.then(|| "does not begin with a `//!` comment".into())
    };
    report(sources().iter().filter_map(|s| Some((s, 1, without(s)?))));
}

#[test]
fn comments_end_by_column_100() {
    let sources = sources();
    let programs = sources.iter().filter(|s| s.path.ends_with(".rs"));
    report(programs.flat_map(|source| {
        (1..).zip(source.text.lines()).filter_map(move |(n, line)| {
            let wide = line.trim_start().starts_with("//") && line.chars().count() > 100;
            wide.then(|| (source, n, "a comment wider than 100 columns".into()))
        })
    }));
}

#[test]
fn files_stay_readable() {
    let long = |source: &Source| {
        let lines = source.text.lines().count();
        (source.path.ends_with(".rs") && lines > LONGEST_FILE)
            .then(|| format!("has {lines} lines; split it"))
    };
    report(sources().iter().filter_map(|s| Some((s, 1, long(s)?))));
}

#[test]
fn every_scenario_parses_and_says_what_it_protects() {
    let wrong = |source: &Source| {
        if !source.path.starts_with("scenarios/") || !source.path.ends_with(".toml") {
            return None;
        }
        if let Err(error) = source.text.parse::<toml::Table>() {
            return Some(format!("is not TOML: {error}"));
        }
        (!source.text.starts_with("# "))
            .then(|| "does not begin with a comment that says what it protects".into())
    };
    report(sources().iter().filter_map(|s| Some((s, 1, wrong(s)?))));
}

#[test]
fn nothing_unfinished_or_private_is_left() {
    let sources = sources();
    report(sources.iter().flat_map(|source| {
        (1..).zip(source.text.lines()).filter_map(move |(n, line)| {
            let word = FORBIDDEN.iter().find(|word| line.contains(**word))?;
            Some((source, n, format!("holds `{word}`")))
        })
    }));
}

#[test]
fn paths_are_resolved() {
    let at = |place: &[&'static str], code| {
        let in_tests = false;
        let number = 1;
        paths(
            place,
            &Line {
                number,
                code,
                in_tests,
            },
        )
    };
    assert_eq!(at(&["wal"], "use crate::node::X;"), [["node", "X"]]);
    assert_eq!(
        at(&["wal"], "use crate::{ready, node::X};"),
        [vec!["ready"], vec!["node", "X"]]
    );
    assert_eq!(
        at(
            &["proc", "startup", "redo"],
            "super::super::walsender::Sent"
        ),
        [["proc", "walsender", "Sent"]]
    );
    assert_eq!(
        at(&["proc", "startup"], "super::startup"),
        [["proc", "startup"]]
    );
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All hand-written texts of the repository: sources, scripts, scenarios, settings and pages.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the repository is readable") {
            let path = entry.expect("the repository is readable").path();
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if name != "target" && (!name.starts_with('.') || name == ".ci") {
                    folders.push(path);
                }
            } else if is_ours(&path)
                && let Ok(text) = fs::read_to_string(&path)
            {
                found.push(Source {
                    path: relative(&path),
                    text,
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        found.iter().any(|s| s.path == "core/src/lib.rs"),
        "this test did not find the sources it reads"
    );
    found
}

fn relative(path: &Path) -> String {
    let inside = path.strip_prefix(root()).expect("walked from the root");
    inside.to_string_lossy().replace('\\', "/")
}

fn is_ours(path: &Path) -> bool {
    let script = relative(path).starts_with("ci/") || relative(path).starts_with(".ci/");
    match path.extension().and_then(|e| e.to_str()) {
        Some("rs" | "toml" | "md" | "yml" | "snap" | "sh") => true,
        Some(_) => false,
        None => script,
    }
}

/// Calls `wrong` for each line of code of core. Fails with all messages that `wrong` returns.
fn for_core(wrong: impl Fn(&Module<'_>, &Line<'_>) -> Option<String>) {
    let sources = sources();
    let mut text = String::new();
    for source in &sources {
        let Some(module) = module(source) else {
            continue;
        };
        for line in &module.lines {
            if let Some(what) = wrong(&module, line) {
                writeln!(text, "{}:{}: {what}", module.path, line.number)
                    .expect("writing to a string cannot fail");
            }
        }
    }
    assert!(text.is_empty(), "\n{text}");
}

fn report<'a>(wrong: impl Iterator<Item = (&'a Source, usize, String)>) {
    let lines: Vec<_> = wrong
        .map(|(source, line, what)| format!("{}:{line}: {what}", source.path))
        .collect();
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
}

fn module(source: &Source) -> Option<Module<'_>> {
    let inside = source.path.strip_prefix("core/src/")?.strip_suffix(".rs")?;
    let mut place: Vec<_> = inside.split('/').collect();
    if matches!(place.last(), Some(&"mod" | &"lib")) {
        place.pop();
    }
    let mut in_tests = inside.split('/').any(|part| part == "tests");
    let mut cfg_test = false;
    let lines = (1..)
        .zip(source.text.lines())
        .map(|(number, line)| {
            let code = line.split("//").next().unwrap_or_default();
            // A `mod tests { … }` is the last item of a file, so all lines after its beginning
            // belong to tests. On any other item, the attribute covers only that item.
            let of_tests = cfg_test;
            in_tests |= cfg_test && code.starts_with("mod ") && code.contains('{');
            cfg_test = code.starts_with("#[cfg(test)]") || cfg_test && code.starts_with("#[");
            Line {
                number,
                code,
                in_tests: in_tests || of_tests,
            }
        })
        .collect();
    Some(Module {
        path: &source.path,
        place,
        lines,
    })
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

/// The paths in a line that begin with `crate` or `super`. The result is relative to the crate's
/// root.
fn paths<'a>(place: &[&'a str], line: &Line<'a>) -> Vec<Vec<&'a str>> {
    let absolute = words(line.code)
        .filter(|(word, _)| *word == "crate")
        .flat_map(|(_, rest)| match rest.strip_prefix("::{") {
            Some(group) => group.split(',').map(names).collect(),
            None => vec![names(rest)],
        });
    let climbing = supers(line.code).filter_map(|(count, rest)| {
        let above = (place.len() + usize::from(line.in_tests)).checked_sub(count)?;
        let mut path = place[..above.min(place.len())].to_vec();
        path.extend(names(rest));
        Some(path)
    });
    absolute.chain(climbing).collect()
}

/// Each chain of `super::` in the code: its length, and the text after the chain.
fn supers(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = 0;
    words(code).filter_map(move |(word, rest)| {
        inside = if word == "super" { inside + 1 } else { 0 };
        let ends = word == "super" && !rest.starts_with("::super");
        ends.then_some((inside, rest))
    })
}

/// Splits `::a::B;` into `["a", "B"]`.
fn names(rest: &str) -> Vec<&str> {
    let rest = rest.trim_start();
    let end = rest
        .find(|c: char| !(is_name(c) || c == ':'))
        .unwrap_or(rest.len());
    rest[..end].split("::").filter(|n| !n.is_empty()).collect()
}

/// The identifiers of a line, each with the text after it.
fn words(code: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = code;
    core::iter::from_fn(move || {
        let from = rest.find(is_name)?;
        let tail = &rest[from..];
        let end = tail.find(|c: char| !is_name(c)).unwrap_or(tail.len());
        rest = &tail[end..];
        Some((&tail[..end], rest))
    })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
