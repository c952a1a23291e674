//! One run of a machine: boots it, follows its two consoles, keeps the time limit, and tells how it ended.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::accel::Accel;
use crate::cache::CacheError;
use crate::files::FileError;
use crate::job::Job;
use crate::machine::Machine;
use crate::qemu::{self, Qemu};
use crate::share::Share;
use crate::testbed::Testbed;

/// How much of the log an error shows.
const TAIL_LINES: usize = 30;
/// What the kernel says first of a panic, and last.
const PANIC: &str = "Kernel panic - not syncing";
const PANIC_END: &str = "---[ end Kernel panic";

/// A line of a machine's log, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// Of the job's output and errors.
    Job(&'a str),
    /// Of the kernel, the guest's init, or QEMU itself.
    Machine(&'a str),
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(text) => f.write_str(text),
            Self::Machine(text) => write!(f, "machine: {text}"),
        }
    }
}

/// How long the stages of a run took, all from QEMU's start.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// Until the guest started the job, the first time if it did so again after a reset.
    pub ready: Duration,
    /// Until the job had ended and its results were written.
    pub done: Duration,
    /// Until QEMU had ended.
    pub total: Duration,
}

/// What a run that came to its end gave.
#[derive(Debug)]
pub struct Outcome {
    /// The job's.
    pub exit_code: i32,
    /// The job's output and errors.
    pub output: String,
    /// The whole log: the job's lines, and those of the machine, which start with `machine: `.
    pub log: String,
    /// How long it took.
    pub times: Times,
    share: Share,
}

impl Outcome {
    /// The folder with what the job wrote to /job/out; it lives as long as this.
    pub fn out(&self) -> PathBuf {
        self.share.path("out")
    }
}

/// Why a run has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The lock can't be had.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The time limit was reached; QEMU is killed.
    #[error("the job was not done within {limit:?}: the machine is killed; its log ends:\n{tail}")]
    TimeLimit {
        /// The job's limit.
        limit: Duration,
        /// The log's last lines.
        tail: String,
    },
    /// The guest's kernel panicked.
    #[error("the guest's kernel panicked; the log ends:\n{tail}")]
    Panic {
        /// The log's last lines.
        tail: String,
    },
    /// The machine reset more often than it may; QEMU is killed.
    #[error("the machine reset more than {allowed} times; its log ends:\n{tail}")]
    Resets {
        /// [`Machine::resets`].
        allowed: u32,
        /// The log's last lines.
        tail: String,
    },
    /// QEMU ended, and the guest left no exit code.
    #[error("the machine ended ({status}) before the job was done; its log ends:\n{tail}")]
    Ended {
        /// QEMU's exit status.
        status: ExitStatus,
        /// The log's last lines.
        tail: String,
    },
}

/// Runs `job`, with each line of the log to `sink`. The caller has the host to itself.
pub(crate) fn job(
    testbed: &Testbed,
    machine: &Machine,
    job: &Job,
    accel: Accel,
    sink: &mut dyn FnMut(Line<'_>),
) -> Result<Outcome, RunError> {
    let share = Share::new(&testbed.cache, job)?;
    // QEMU's own complaints and the kernel's messages share stderr.
    let mut command = qemu::command(&testbed.parts, machine, accel, share.folder(), Path::new("/dev/fd/2"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut log = Log {
        start: Instant::now(),
        output: String::new(),
        all: String::new(),
        times: Times::default(),
        boots: 0,
        sink,
    };
    let status = follow(testbed, command, job.time_limit, machine.resets, &mut log)?;
    log.times.total = log.start.elapsed();
    match share.exit_code() {
        Some(exit_code) => {
            Ok(Outcome { exit_code, output: log.output, log: log.all, times: log.times, share })
        }
        None if log.all.contains(PANIC) => Err(RunError::Panic { tail: tail(&log.all) }),
        None => Err(RunError::Ended { status, tail: tail(&log.all) }),
    }
}

/// Gives this process's terminal to a shell in the guest.
pub(crate) fn shell(testbed: &Testbed, machine: &Machine, job: &Job, accel: Accel) -> Result<(), RunError> {
    let share = Share::new(&testbed.cache, job)?;
    share.write("profile", &job.exports())?;
    share.write("shell", &terminal())?;
    let console = share.path("console");
    let command = qemu::command(&testbed.parts, machine, accel, share.folder(), &console);
    let status = Qemu::start(command, &testbed.parts)?.wait(&testbed.parts)?;
    if share.exit_code().is_some() {
        return Ok(());
    }
    let log = std::fs::read_to_string(&console).map_err(FileError::on("read", &console))?;
    Err(RunError::Ended { status, tail: tail(&log) })
}

/// Follows QEMU to its end, or kills it at the limit, at a panic that would keep it, and at a reset too many.
fn follow(
    testbed: &Testbed,
    command: Command,
    limit: Duration,
    resets: u32,
    log: &mut Log<'_>,
) -> Result<ExitStatus, RunError> {
    thread::scope(|scope| {
        // In the scope, so that a sink that panics kills QEMU before the readers are waited for.
        let mut qemu = Qemu::start(command, &testbed.parts)?;
        let (lines, received) = mpsc::channel();
        let output = qemu.child.stdout.take().expect("stdout is piped");
        let errors = qemu.child.stderr.take().expect("stderr is piped");
        let machine_lines = lines.clone();
        scope.spawn(move || read_lines(output, Source::Job, &lines));
        scope.spawn(move || read_lines(errors, Source::Machine, &machine_lines));
        loop {
            match received.recv_timeout(limit.saturating_sub(log.start.elapsed())) {
                Ok((source, line)) => {
                    log.add(source, &line);
                    if log.boots > resets + 1 {
                        return Err(RunError::Resets { allowed: resets, tail: tail(&log.all) });
                    }
                    if resets > 0 && matches!(source, Source::Machine) && line.contains(PANIC_END) {
                        return Err(RunError::Panic { tail: tail(&log.all) });
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(RunError::TimeLimit { limit, tail: tail(&log.all) });
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(qemu.wait(&testbed.parts)?)
    })
}

#[derive(Debug, Clone, Copy)]
enum Source {
    Job,
    Machine,
}

/// A line may be of any length: scenarios print their results as JSON.
fn read_lines(stream: impl Read, source: Source, lines: &Sender<(Source, String)>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
        let text = String::from_utf8_lossy(&line);
        let received = lines.send((source, text.trim_end_matches(['\r', '\n']).to_owned()));
        if received.is_err() {
            return;
        }
        line.clear();
    }
}

/// The log so far.
struct Log<'a> {
    start: Instant,
    output: String,
    all: String,
    times: Times,
    /// How often the guest has said that it is ready.
    boots: u32,
    sink: &'a mut dyn FnMut(Line<'_>),
}

impl Log<'_> {
    fn add(&mut self, source: Source, text: &str) {
        let line = match source {
            Source::Job => {
                self.output.push_str(text);
                self.output.push('\n');
                Line::Job(text)
            }
            Source::Machine => match text {
                // The init's reports are ours.
                "@testbed ready" => {
                    self.boots += 1;
                    if self.boots == 1 {
                        self.times.ready = self.start.elapsed();
                    }
                    return;
                }
                "@testbed done" => return self.times.done = self.start.elapsed(),
                _ => Line::Machine(text),
            },
        };
        self.all.push_str(&format!("{line}\n"));
        (self.sink)(line);
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The terminal's type and size, as the guest's init reads them.
fn terminal() -> String {
    let name = std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned());
    let size = Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output();
    let size = size.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    format!("{name} {}\n", size.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_is_the_last_lines() {
        let log: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(tail(&log).lines().next(), Some("70"));
        assert_eq!(tail("a\nb\n"), "a\nb");
        assert_eq!(tail(""), "");
    }

    #[test]
    fn long_lines_stay_whole_and_reports_are_not_shown() {
        let long = "x".repeat(3_000_000);
        let (lines, received) = mpsc::channel();
        read_lines(format!("{long}\r\nlast").as_bytes(), Source::Job, &lines);
        read_lines("@testbed ready\npanic\n".as_bytes(), Source::Machine, &lines);
        drop(lines);
        let mut shown = Vec::new();
        let mut sink = |line: Line<'_>| shown.push(line.to_string());
        let mut log = Log {
            start: Instant::now(),
            output: String::new(),
            all: String::new(),
            times: Times::default(),
            boots: 0,
            sink: &mut sink,
        };
        received.iter().for_each(|(source, line)| log.add(source, &line));
        assert_eq!(log.output, format!("{long}\nlast\n"));
        assert!(log.times.ready > Duration::ZERO && log.boots == 1);
        assert_eq!(shown, [long.as_str(), "last", "machine: panic"]);
    }
}
