//! The plugin's side of the socket.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use doorbell_common::host::Host;
use serde::de::DeserializeOwned;

use super::{ASKS_WITHIN, Question, SOCKET, read_line, write_line};

/// The two containers start together, so the first question waits. Later ones do not: while there is no prover each
/// device would wait anew.
pub(super) const LISTENS_WITHIN: Duration = Duration::from_secs(5);
static LISTENS_BY: OnceLock<Instant> = OnceLock::new();
const PAUSE: Duration = Duration::from_millis(50);
/// By its own node, opening and closing a VF are two resets of it, each of a second at most.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What the prover answers; why there is no answer.
pub(super) fn ask<A: DeserializeOwned>(host: &Host, question: &Question) -> Result<A, String> {
    let path = host.path(SOCKET);
    let asked = || {
        let stream = connect(&path)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.set_write_timeout(Some(ASKS_WITHIN))?;
        write_line(&stream, &question.to_string())?;
        Ok(serde_json::from_str(&read_line(&stream)?)?)
    };
    asked().map_err(|error: io::Error| format!("the prover at {} does not answer: {error}", path.display()))
}

pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    let deadline = *LISTENS_BY.get_or_init(|| Instant::now() + LISTENS_WITHIN);
    loop {
        match UnixStream::connect(path) {
            // Where nobody ever listened, its folder is not mounted either: no reason to wait.
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
                    && path.parent().is_some_and(Path::exists)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(PAUSE);
            }
            connected => return connected,
        }
    }
}
