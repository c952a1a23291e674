//! Whether guests run under KVM here: tried by booting one, because a host can offer /dev/kvm and fail at it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use crate::files::FileError;
use crate::job::Job;
use crate::machine::Machine;
use crate::run::{self, RunError};
use crate::testbed::Testbed;

/// Under KVM the guest is up in a second or two; a KVM that does not work hangs or fails.
const TRIAL: Duration = Duration::from_secs(10);

/// What executes the guest's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    /// The value of `-accel`.
    pub(crate) fn option(self) -> &'static str {
        match self {
            // Interrupt remapping needs the IOAPIC in QEMU.
            Self::Kvm => "kvm,kernel-irqchip=split",
            Self::Tcg => "tcg,thread=multi",
        }
    }
}

/// KVM if a guest boots with it. The answer is kept until the host reboots or a part changes.
pub(crate) fn choose(testbed: &Testbed) -> Result<Accel, RunError> {
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accel::Tcg);
    }
    let question = question(testbed)?;
    let answer = testbed.cache.root().join("accel");
    let known = fs::read_to_string(&answer).unwrap_or_default();
    match known.strip_prefix(&question) {
        Some("kvm\n") => return Ok(Accel::Kvm),
        Some("tcg\n") => return Ok(Accel::Tcg),
        _ => {}
    }
    let trial = Job::new(["true"]).time_limit(TRIAL);
    let tried = run::job(testbed, &Machine::new([]), &trial, Accel::Kvm, &mut |_| ());
    let (accel, word) = match tried {
        Ok(outcome) if outcome.exit_code == 0 => (Accel::Kvm, "kvm"),
        _ => (Accel::Tcg, "tcg"),
    };
    let write = |path: &Path| writeln!(File::create(path)?, "{question}{word}");
    write(&answer).map_err(FileError::on("write", &answer))?;
    Ok(accel)
}

/// What the answer depends on.
fn question(testbed: &Testbed) -> Result<String, FileError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let boot = fs::read_to_string(path).map_err(FileError::on("read", path))?;
    let parts = [&testbed.parts.qemu, &testbed.parts.kernel, &testbed.parts.root];
    let names = parts.map(|part| part.file_name().unwrap_or_default().to_string_lossy());
    Ok(format!("{} {}: ", boot.trim(), names.join(" ")))
}
