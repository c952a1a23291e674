//! The host's apt: which packages are missing, their installation, and the mirror that it is set up with.

use std::io;
use std::process::Command;

/// Why the host can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum AptError {
    /// A program of Debian's is not there.
    #[error("can't run {program}: building the testbed needs a Debian host")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the start gave.
        source: io::Error,
    },
    /// apt-get failed; it said why.
    #[error("`{command}` failed:\n{output}")]
    Failed {
        /// The whole command.
        command: String,
        /// Its output and errors.
        output: String,
    },
    /// apt has no source that calls itself Debian.
    #[error("apt's sources name no Debian mirror")]
    NoMirror,
}

/// Those of the packages that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>, AptError> {
    // It fails when it knows none of a name, and tells of the others all the same.
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .map_err(|source| AptError::Program { program: "dpkg-query", source })?;
    let known = String::from_utf8_lossy(&output.stdout);
    let installed = |package: &str| {
        known.lines().filter_map(|line| line.split_once(' ')).any(|line| line == (package, "installed"))
    };
    Ok(packages.iter().copied().filter(|package| !installed(package)).collect())
}

/// Fetches apt's package lists.
pub(crate) fn update() -> Result<(), AptError> {
    apt_get(&["-q", "update"])
}

/// Installs these packages.
pub(crate) fn install(packages: &[&str]) -> Result<(), AptError> {
    // A machine just booted may be at its own updates.
    let mut arguments =
        vec!["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

/// The Debian mirror of the host's own sources, if its package lists were ever fetched.
pub(crate) fn mirror() -> Result<String, AptError> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(LABEL)\t$(REPO_URI)", "Created-By: Packages"])
        .output()
        .map_err(|source| AptError::Program { program: "apt-get", source })?;
    parse_mirror(&String::from_utf8_lossy(&output.stdout)).ok_or(AptError::NoMirror)
}

/// Security updates and backports have labels of their own, and may be elsewhere.
fn parse_mirror(targets: &str) -> Option<String> {
    let mirror = targets.lines().find_map(|line| line.strip_prefix("Debian\t"))?;
    Some(mirror.trim_end_matches('/').to_owned())
}

fn apt_get(arguments: &[&str]) -> Result<(), AptError> {
    let output = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .map_err(|source| AptError::Program { program: "apt-get", source })?;
    if output.status.success() {
        return Ok(());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(AptError::Failed { command: format!("apt-get {}", arguments.join(" ")), output: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirror_is_debians_own() {
        let targets = "Debian Backports\thttp://mirror.example/other/\nDebian-Security\thttp://mirror.example/security/\n\
                       \thttp://other.example/\nDebian\thttp://mirror.example/debian/\n";
        assert_eq!(parse_mirror(targets).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(parse_mirror("Other\thttp://other.example/\n"), None);
    }
}
