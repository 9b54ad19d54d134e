//! The density of assertions in the machines.

use super::{Module, module, sources, words};

/// The floors of core that hold PostgreSQL's state, and change it. Each comes with the least number
/// of assertions in 1,000 lines. Tests do not count.
const MACHINES: [(&str, usize); 5] = [
    ("shmem", 20),
    ("storage", 20),
    ("replication", 20),
    ("access", 20),
    ("proc", 20),
];

/// Assertions find a wrong state where it begins, long before an invariant of the whole cluster is
/// violated.
#[test]
fn machines_are_dense_with_assertions() {
    let sources = sources();
    let modules: Vec<_> = sources.iter().filter_map(module).collect();
    for (floor, least) in MACHINES {
        let of_floor = modules.iter().filter(|it| it.place.first() == Some(&floor));
        let (lines, assertions) = of_floor
            .map(count)
            .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        assert!(lines > 0, "this test did not find the floor {floor}");
        assert!(
            assertions * 1000 >= lines * least,
            "{floor} has {assertions} assertions in {lines} lines; at least {} are wanted",
            (lines * least).div_ceil(1000)
        );
    }
}

/// The lines of a module and the assertions in them, without tests.
fn count(module: &Module<'_>) -> (usize, usize) {
    let of_tests = |part: &&str| matches!(*part, "tests" | "testing" | "crash_tests");
    if module.place.iter().any(of_tests) {
        return (0, 0);
    }
    let program = module.lines.iter().filter(|line| !line.in_tests);
    let asserts = |word: &str| matches!(word, "assert" | "assert_eq" | "assert_ne");
    program.fold((0, 0), |(lines, assertions), line| {
        let found = words(line.code).filter(|(word, rest)| asserts(word) && rest.starts_with('!'));
        (lines + 1, assertions + found.count())
    })
}
