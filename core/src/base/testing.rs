//! Shared by unit tests.

use proptest::test_runner::{Config, RngSeed};

/// Configures proptest to run `cases` cases from a fixed seed. `PROPTEST_RNG_SEED` selects another
/// seed.
pub(crate) fn cases(cases: u32) -> Config {
    let mut config = Config::with_cases(cases);
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0x5745_4C53);
    }
    config.failure_persistence = None;
    config
}
