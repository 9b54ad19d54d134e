//! The length of functions.

use super::{report, sources, words};

const LONGEST_FUNCTION: usize = 70;
/// A table may have more lines than [`LONGEST_FUNCTION`], if each of its entries has at most this
/// many lines. The rest of the function may also have this many lines.
const LONGEST_ENTRY: usize = 20;

/// A function fits on a screen unless it is a table. A table is one match or array of short entries
/// with little code around it.
#[test]
fn functions_fit_on_a_screen_or_are_tables() {
    let sources = sources();
    let of_tests = |part| matches!(part, "tests" | "testing" | "tests.rs" | "crash_tests.rs");
    let programs = sources
        .iter()
        .filter(|s| s.path.ends_with(".rs") && !s.path.split('/').any(of_tests));
    let found: Vec<_> = programs
        .flat_map(|source| {
            let lines: Vec<&str> = source.text.lines().collect();
            let program = lines.iter().take_while(|line| **line != "mod tests {");
            let long = functions(&lines[..program.count()])
                .into_iter()
                .filter(|(_, body)| body.len() > LONGEST_FUNCTION && !is_table(body));
            let long: Vec<_> = long
                .map(|(n, body)| (source, n, format!("a function of {} lines", body.len())))
                .collect();
            long
        })
        .collect();
    report(found.into_iter());
    let arm = "            X => {\n                f();\n            }\n";
    for (arm, is) in [
        (arm.to_owned(), true),
        (arm.replace("f();\n", &"f();\n".repeat(20)), false),
    ] {
        let text = format!(
            "    fn f() {{\n        match x {{\n{}        }}\n    }}\n",
            arm.repeat(30)
        );
        let lines: Vec<&str> = text.lines().collect();
        let found = functions(&lines);
        assert_eq!((found.len(), is_table(found[0].1)), (1, is));
    }
}

/// Each function of a formatted source file: the number of its first line, and its lines.
fn functions<'a>(lines: &'a [&'a str]) -> Vec<(usize, &'a [&'a str])> {
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let is_fn = words(line).any(|(word, rest)| word == "fn" && rest.starts_with(' '));
        let comment = line.trim_start().starts_with("//");
        let opens = |line: &&&str| line.ends_with(['{', ';', '}']);
        if !is_fn
            || comment
            || !lines[n..]
                .iter()
                .find(opens)
                .is_some_and(|l| l.ends_with('{'))
        {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent(line)));
        if let Some(len) = lines[n..].iter().position(|line| *line == end) {
            found.push((n + 1, &lines[n..=n + len]));
        }
    }
    found
}

fn is_table(body: &[&str]) -> bool {
    let opens = |line: &str| line.ends_with('[') || line.ends_with('{') && line.contains("match ");
    let tables = (1..body.len()).filter(|n| opens(body[*n])).filter_map(|n| {
        let column = indent(body[n]);
        let ends =
            |line: &&str| indent(line) == column && line.trim_start().starts_with(['}', ']']);
        let len = body[n + 1..].iter().position(ends)?;
        Some(&body[n + 1..n + 1 + len])
    });
    let Some(table) = tables.max_by_key(|table| table.len()) else {
        return false;
    };
    let column = table.first().map_or(0, |line| indent(line));
    let begins = |line: &&str| {
        indent(line) == column && !line.trim_start().starts_with(['}', ')', ']', '|'])
    };
    let starts = (0..table.len()).filter(|n| begins(&table[*n]));
    let ends = starts.clone().skip(1).chain([table.len()]);
    let longest = starts.zip(ends).map(|(from, to)| to - from).max();
    body.len() - table.len() <= LONGEST_ENTRY && longest.is_some_and(|n| n <= LONGEST_ENTRY)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
