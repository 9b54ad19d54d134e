//! Compares walsim's settings with the answers of real servers of 15 to 19.
//! `tests/interop_settings.rs` has recorded these answers.

#[path = "settings/cases.rs"]
mod cases;

use walsim_core::base::PgVersion;

/// Compares name, type, unit, range, context and default of each setting. For each text, compares
/// the value, or the error with its DETAIL and HINT.
#[test]
fn settings_are_those_of_postgresql() {
    for version in PgVersion::ALL {
        let golden = std::fs::read_to_string(cases::golden(version)).expect("a golden file");
        let differences = cases::differences(&golden, &cases::all_of_ours(version));
        let major = version.major();
        assert!(
            differences.is_empty(),
            "{major}:\n{}",
            differences.join("\n")
        );
        let lines = golden.lines().count();
        assert!(lines > 350, "{major} has {lines} lines");
    }
}
