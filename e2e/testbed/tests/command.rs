//! The program `doorbell-testbed`: exit codes, and that no QEMU outlives it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorbell-testbed"));
    command.stdin(Stdio::null());
    command
}

#[test]
fn exit_code_and_output_are_the_guests() {
    let output =
        command().args(["run", "--pf", "1", "--", "sh", "-c", "echo told; exit 3"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "told\n", "{errors}");
}

#[test]
fn bad_flags_are_refused_with_what_was_expected() {
    let output = command().args(["run", "--pf", "17", "--", "true"]).output().unwrap();
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("a virtio PF has 1 to 16 VFs, not 17"), "{errors}");
}

#[test]
fn no_qemu_outlives_a_killed_runner() {
    for signal in ["-KILL", "-TERM", "-INT"] {
        let mut runner = command()
            .args(["run", "--", "sh", "-c", "echo up; sleep 1000"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(runner.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        let qemu = qemu_of(&runner);
        assert!(Command::new("kill").arg(signal).arg(runner.id().to_string()).status().unwrap().success());
        runner.wait().unwrap();
        wait_until_gone(&qemu, signal);
    }
}

/// Its folder in /proc.
fn qemu_of(runner: &Child) -> std::path::PathBuf {
    let tasks = format!("/proc/{}/task", runner.id());
    let children: String = fs::read_dir(tasks)
        .unwrap()
        .map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap())
        .collect();
    let pid = children.split_whitespace().next().expect("the runner has a child");
    let process = Path::new("/proc").join(pid);
    assert!(fs::read_to_string(process.join("cmdline")).unwrap().contains("qemu-system"));
    process
}

fn wait_until_gone(process: &Path, signal: &str) {
    let start = Instant::now();
    // A process that ended but was not waited for has no command line.
    while fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty()) {
        assert!(start.elapsed() < Duration::from_secs(5), "QEMU still runs after {signal}");
        std::thread::yield_now();
    }
}
