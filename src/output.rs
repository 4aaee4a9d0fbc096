//! What commands print. A reader that has gone (`omnivox check | head -2`) is no fault: what it does not read is not printed.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Prints a line of results on stdout; returns the fault where stdout takes none, as a full disk.
macro_rules! print_line {
    ($($arguments:tt)*) => {
        $crate::output::line(format_args!($($arguments)*))
    };
}
pub(crate) use print_line;

/// See [`print_line`].
///
/// # Errors
/// It cannot be written, for another reason than that nobody reads it any more.
pub(crate) fn line(text: Arguments<'_>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    done(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// The same with bytes as they are.
///
/// # Errors
/// As for [`line`].
pub(crate) fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    done(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Tells whoever started the program something on stderr; where nobody reads that, nobody is told.
pub fn tell(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn done(written: std::io::Result<()>) -> std::io::Result<()> {
    match written {
        Err(fault) if fault.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_fault_and_a_full_disk_is_one() {
        assert!(done(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(done(Err(ErrorKind::StorageFull.into())).is_err());
        assert!(done(Ok(())).is_ok());
    }
}
