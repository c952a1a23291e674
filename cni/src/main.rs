//! Environment and stdin in, one document out. The code is in the library beside this file.

use std::io::{Read, Write};
use std::process::ExitCode;

use doorbell_cni::Failure;
use doorbell_common::formats::cni::code;
use doorbell_common::host::Host;

fn main() -> ExitCode {
    // A network configuration, in one read; an empty buffer would be filled by 32 bytes, 64, 128, …
    let mut stdin = Vec::with_capacity(8 << 10);
    let answer = std::io::stdin()
        .read_to_end(&mut stdin)
        .map_err(|error| Failure::new(code::IO, "read the network configuration from stdin").because(&error))
        .and_then(|_| doorbell_cni::answer(&Host::real(), |name| std::env::var(name).ok(), &stdin));
    let (document, code) = match answer {
        Ok(document) => (document, ExitCode::SUCCESS),
        Err(failure) => (Some(failure.document(&stdin)), ExitCode::FAILURE),
    };
    let Some(document) = document else { return code };
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{document}").and_then(|()| stdout.flush()) {
        Ok(()) => code,
        // Nobody reads our stdout: the exit code is all that is left to say it with.
        Err(_) => ExitCode::FAILURE,
    }
}
