//! `doorbell-probe`: the command line around [`e2e_probe::run`].

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use doorbell_common::formats::descriptor::{CONTAINER_FOLDER, ENV};
use e2e_probe::Options;
use e2e_probe::report::Event;

fn main() -> ExitCode {
    let options = Options::parse();
    let descriptors = options.descriptors.clone();
    let descriptors = descriptors
        .or_else(|| env::var_os(ENV).map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from(CONTAINER_FOLDER));
    let message = match e2e_probe::run(&options, &descriptors) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(missed)) => missed,
        Err(error) => {
            let message = format!("{error:#}");
            // If stdout is gone, stderr and the exit code still say it.
            let _ = Event::error(message.clone()).print();
            message
        }
    };
    let _ = writeln!(io::stderr(), "doorbell-probe: {message}");
    ExitCode::FAILURE
}
