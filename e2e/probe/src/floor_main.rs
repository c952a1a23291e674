//! `doorbell-floor`: what a CNI ADD can't do without, for its time to be held against. A program of its own, so that it is
//! as small as what it does, and no command line parser is in what is measured.

use std::io::{self, Write};
use std::process::ExitCode;

use e2e_probe::floor::Floor;

fn main() -> ExitCode {
    match Floor::parse(std::env::args().skip(1)).and_then(|floor| floor.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If stderr is gone, the exit code still says it.
            let _ = writeln!(io::stderr(), "doorbell-floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
