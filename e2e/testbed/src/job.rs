//! What a machine runs: files of the host, a command, its environment and its time limit.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// One command in the guest. It runs in /job, with /job/bin first in its PATH, and writes results to /job/out.
#[derive(Debug, Clone)]
pub struct Job {
    pub(crate) argv: Vec<String>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) time_limit: Duration,
}

impl Job {
    /// A command of the guest, or the name of a file given with [`Job::file`], and its arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            files: Vec::new(),
            env: Vec::new(),
            time_limit: Duration::from_secs(120),
        }
    }

    /// A program of the host, best a static one, and its arguments.
    pub fn program<S: Into<String>>(path: impl AsRef<Path>, arguments: impl IntoIterator<Item = S>) -> Self {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let argv = [format!("/job/bin/{name}")].into_iter().chain(arguments.into_iter().map(Into::into));
        Self::new(argv).file(path)
    }

    /// With one more file of the host, in /job/bin under its name.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// With this environment variable; the name is one that a shell can export.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Killed, machine and all, when it is not done this long after the machine's start (two minutes if unsaid).
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// The script that the guest's init runs.
    pub(crate) fn script(&self) -> String {
        let mut script = self.exports();
        script.push_str("exec");
        for argument in &self.argv {
            script.push(' ');
            script.push_str(&quoted(argument));
        }
        script.push('\n');
        script
    }

    /// The environment alone, for the shell.
    pub(crate) fn exports(&self) -> String {
        self.env.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect()
    }
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are() {
        let job = Job::new(["sh", "-c", "echo \"it's $HOME\""]).env("A", "b c");
        assert_eq!(job.script(), "export A='b c'\nexec 'sh' '-c' 'echo \"it'\\''s $HOME\"'\n");
    }

    #[test]
    fn program_runs_from_the_share() {
        let job = Job::program("/some/where/probe", ["--json"]);
        assert_eq!(job.script(), "exec '/job/bin/probe' '--json'\n");
        assert_eq!(job.files, [PathBuf::from("/some/where/probe")]);
    }
}
