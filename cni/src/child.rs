//! Running another program within a bound: what it is given to read, what it says, how it ends.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use doorbell_common::formats::cni::code;

use crate::failure::Failure;

/// Between a program's last word and its end lie microseconds.
const PAUSE: Duration = Duration::from_millis(1);

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its stdout.
    pub stdout: Vec<u8>,
}

/// Killed and reaped where it is dropped before its end.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it has ended and was reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program, `name` in errors; its stderr is ours. One that has not ended within the bound is killed.
pub fn run(name: &str, command: &mut Command, stdin: &[u8], within: Duration) -> Result<Said, Failure> {
    let failed = |doing: &'static str| {
        move |error: io::Error| Failure::new(code::IO, format!("{doing} {name}")).because(&error)
    };
    let late =
        || Failure::new(code::TRY_AGAIN, format!("{name} did not end within {within:?}, and was killed"));
    let deadline = Instant::now() + within;
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed("start"))?;
    let mut child = Running(child);
    let mut to = child.0.stdin.take().expect("stdin is piped");
    let mut from = child.0.stdout.take().expect("stdout is piped");

    // A pipe holds 64 KiB, so each end has a thread of its own. They are not joined: what the program itself started
    // may keep a pipe open beyond our bound.
    let stdin = stdin.to_owned();
    // Who does not read to the end says why by how it ends.
    thread::spawn(move || drop(to.write_all(&stdin)));
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut stdout = Vec::new();
        let read = from.read_to_end(&mut stdout).map(|_| stdout);
        // Nobody listens any more where the bound has passed.
        let _ = tell.send(read);
    });

    let stdout = told.recv_timeout(within).map_err(|_| late())?.map_err(failed("read from"))?;
    loop {
        match child.0.try_wait().map_err(failed("wait for"))? {
            Some(status) => return Ok(Said { status, stdout }),
            None if Instant::now() >= deadline => return Err(late()),
            None => thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, stdin: &[u8], within: Duration) -> Result<Said, Failure> {
        run("sh", Command::new("/bin/sh").args(["-c", script]), stdin, within)
    }

    #[test]
    fn more_than_a_pipe_holds_goes_through() {
        let long = vec![b'x'; 1 << 20];
        let said = shell("cat", &long, LONG).unwrap();
        assert!(said.status.success() && said.stdout == long);
    }

    #[test]
    fn a_program_that_reads_nothing_is_not_waited_for() {
        let said = shell("exit 3", &vec![b'x'; 1 << 20], LONG).unwrap();
        assert_eq!(said.status.code(), Some(3));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        for script in ["exec sleep 600", "exec >&-; exec sleep 600"] {
            let failure = shell(script, b"", Duration::from_millis(50)).unwrap_err();
            assert_eq!(
                (failure.code, failure.msg.as_str()),
                (code::TRY_AGAIN, "sh did not end within 50ms, and was killed")
            );
        }
    }
}
