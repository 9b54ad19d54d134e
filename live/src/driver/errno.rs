//! Converts errors of the operating system to [`DiskError`].

use std::io;
use walsim_core::call::DiskError;

/// The errno of a failed call.
pub(super) fn disk_error(error: &io::Error) -> DiskError {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else {
        return DiskError::Io;
    };
    match Errno::from_raw_os_error(code) {
        Errno::NOENT => DiskError::NotFound,
        Errno::EXIST => DiskError::Exists,
        Errno::IO => DiskError::Io,
        Errno::NOSPC => DiskError::NoSpace,
        Errno::DQUOT => DiskError::Quota,
        Errno::BADF => DiskError::BadFd,
        Errno::NOTDIR => DiskError::NotDir,
        Errno::ISDIR => DiskError::IsDir,
        Errno::NOTEMPTY => DiskError::NotEmpty,
        Errno::ACCESS => DiskError::Access,
        Errno::PERM => DiskError::NotPermitted,
        Errno::ROFS => DiskError::ReadOnly,
        Errno::MFILE | Errno::NFILE => DiskError::TooManyFiles,
        _ => DiskError::Other(code),
    }
}
