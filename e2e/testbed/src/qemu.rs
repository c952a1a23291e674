//! The QEMU process: how it is started out of its own root, and that it never outlives who started it.

use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use crate::accel::Accel;
use crate::build::Parts;
use crate::command_line::{self, Files};
use crate::files::FileError;
use crate::machine::Machine;

/// A running QEMU. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Qemu {
    pub(crate) child: Child,
}

/// The command, with the parts' files filled in; the caller sets the streams.
///
/// The kernel kills QEMU when the thread that started it ends, even by SIGKILL: whoever starts it waits for it in the
/// same thread. setpriv asks for that, because prctl between fork and exec would be unsafe code here.
pub(crate) fn command(
    parts: &Parts,
    machine: &Machine,
    accel: Accel,
    share: &Path,
    console: &Path,
) -> Command {
    let lib = parts.qemu.join("lib");
    let files = Files {
        qemu: &parts.qemu,
        kernel: &parts.kernel,
        root: &parts.root.join("root.ext4"),
        share,
        console,
    };
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(lib.join("ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(&lib)
        .arg(parts.qemu.join("bin/qemu-system-x86_64"))
        .args(command_line::arguments(machine, &files, accel));
    command
}

impl Qemu {
    /// Starts it.
    pub(crate) fn start(mut command: Command, parts: &Parts) -> Result<Self, FileError> {
        let child = command.spawn().map_err(FileError::on("start setpriv with", &parts.qemu))?;
        Ok(Self { child })
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self, parts: &Parts) -> Result<ExitStatus, FileError> {
        self.child.wait().map_err(FileError::on("wait for", &parts.qemu))
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // Both fail only if it has ended and was waited for.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
