//! The `walsim` command.

fn main() {}
