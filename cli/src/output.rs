//! Standard output and standard error, which may be pipes that nobody reads any more: `println!` would panic.

use std::fmt::Arguments;
use std::io::Write;

/// `println!` that survives a closed pipe.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::line(std::io::stdout(), format_args!($($text)*))
    };
}

/// `eprintln!` that survives a closed pipe.
macro_rules! complain {
    ($($text:tt)*) => {
        $crate::output::line(std::io::stderr(), format_args!($($text)*))
    };
}

pub(crate) fn line(mut to: impl Write, text: Arguments<'_>) {
    // Whoever has gone wants to know no more.
    let _ = writeln!(to, "{text}");
}
