//! Tests of the postmaster alone.

use super::*;

#[test]
fn a_fresh_postmaster_has_no_children() {
    let postmaster = Postmaster::new();
    assert_eq!(postmaster.state(), PmState::Init);
    assert!(postmaster.children.is_empty());
}
