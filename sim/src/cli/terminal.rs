//! How wide stdout is, and whether it shows colors.

use console::Term;
use walsim::report::Look;

/// How reports look on stdout: in color and as wide as the terminal, or plain in a pipe. `NO_COLOR`
/// and `CLICOLOR` are obeyed.
pub(super) fn look() -> Look {
    let terminal = Term::stdout();
    let Some((_, columns)) = terminal.size_checked().filter(|_| terminal.is_term()) else {
        return Look::PLAIN;
    };
    Look {
        width: usize::from(columns).max(Look::NARROWEST),
        color: console::colors_enabled(),
    }
}
