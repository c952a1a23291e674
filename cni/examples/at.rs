//! The binary on a host of files, for tests that kill it: `at <root>`, with the protocol's environment and stdin.

use std::io::Read;
use std::process::ExitCode;

use doorbell_common::host::Host;

fn main() -> ExitCode {
    let root = std::env::args().nth(1).expect("a root folder is given");
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).expect("stdin can be read");
    let variable = |name: &str| std::env::var(name).ok();
    let (document, code) = match doorbell_cni::answer(&Host::at(root), variable, &stdin) {
        Ok(document) => (document, ExitCode::SUCCESS),
        Err(failure) => (Some(failure.document(&stdin)), ExitCode::FAILURE),
    };
    if let Some(document) = document {
        println!("{document}");
    }
    code
}
