//! Python with a package of PyPI's, in an environment of its own that is made once a user, and kept where the testbed is.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use crate::command;

/// Runs a script that uses the package; what it answers to this argument and this text on its stdin.
pub(crate) fn run(package: &str, script: &str, argument: &OsStr, stdin: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(with(package)?)
        .args(["-c", script])
        .arg(argument)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("run Python with {package}"))?;
    child.stdin.take().context("it has no stdin")?.write_all(stdin)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "Python with {package}: {}", output.status);
    Ok(output.stdout)
}

/// The interpreter of its environment.
fn with(package: &str) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let folder = cache()?.join("doorbell").join(package.replace("==", "-"));
    fs::create_dir_all(&folder)?;
    // Tests of several clones may come at once.
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    let (python, done) = (folder.join("bin/python"), folder.join("done"));
    if !done.exists() {
        command::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        command::run(Command::new(&python).args(["-m", "pip", "--quiet", "install", package]))?;
        fs::write(&done, "")?;
    }
    Ok(python)
}

fn cache() -> Result<PathBuf> {
    let folder = |name: &str| env::var_os(name).map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    folder("DOORBELL_CACHE").or_else(|| folder("XDG_CACHE_HOME")).or_else(home).context("no HOME")
}
