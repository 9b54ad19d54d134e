//! The commit status of transactions. A comparison of the status pages before and after a step
//! shows which transactions have changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use walsim_core::base::Xid;
use walsim_core::shmem::Clog;

/// The status pages in memory. They are shared with the node until the node changes them.
pub(super) type Pages = BTreeMap<u32, Arc<Vec<u8>>>;

pub(super) fn pages(clog: &Clog) -> Pages {
    let pages = clog.pages.iter();
    pages
        .map(|(number, page)| (*number, Arc::clone(&page.bytes)))
        .collect()
}

/// The transactions whose status has changed, with the new status.
pub(super) fn changes(before: &Pages, clog: &Clog) -> Vec<(Xid, &'static str)> {
    let mut changes = Vec::new();
    for (number, page) in &clog.pages {
        let Some(was) = before
            .get(number)
            .filter(|was| !Arc::ptr_eq(was, &page.bytes))
        else {
            continue;
        };
        let first = u64::from(*number) * page.bytes.len() as u64;
        for (byte, (was, is)) in (first..).zip(was.iter().zip(page.bytes.iter())) {
            for n in 0..4 {
                let bits = |byte: u8| byte >> (2 * n) & 3;
                if bits(*was) == bits(*is) {
                    continue;
                }
                let status = match bits(*is) {
                    1 => "committed",
                    2 => "aborted",
                    3 => "sub-committed",
                    _ => "in progress",
                };
                let xid = u32::try_from(byte * 4 + n).expect("a page of 32-bit ids");
                changes.push((Xid(xid), status));
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim_core::base::Lsn;
    use walsim_core::shmem::XactStatus;

    #[test]
    fn a_change_of_status_is_found() {
        let mut clog = Clog::default();
        clog.zero(1, 256);
        let before = pages(&clog);
        assert_eq!(changes(&before, &clog), []);
        clog.set(Xid(1030), XactStatus::Committed, Lsn::INVALID, 256);
        clog.set(Xid(1031), XactStatus::Aborted, Lsn::INVALID, 256);
        let expected = [(Xid(1030), "committed"), (Xid(1031), "aborted")];
        assert_eq!(changes(&before, &clog), expected);
    }
}
