//! Nothing: this package consists of its tests.
