//! Instructions instead of time, where what else the machine does would hide a change: counted by callgrind.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use e2e_bench::kubelet::Kubelet;
use e2e_bench::load::Load;
use e2e_bench::process::Process;
use e2e_bench::uevents::Uevents;

use crate::change::{PAUSE, change};
use crate::programs::Programs;
use crate::start::{first, inside};

/// Where callgrind leaves what it counted, apart and here.
const COUNTED: &str = "/callgrind.out";

/// What the plugin executes from its start over the first list and so many changes of a VF to its end. The counts by
/// function are left in `file`.
pub(crate) fn instructions(programs: &Programs, load: Load, changes: usize, file: &Path) -> Result<u64> {
    let counted = inside(programs, load, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut kubelet = Kubelet::listen()?;
            let out = format!("--callgrind-out-file={COUNTED}");
            let arguments = ["--tool=callgrind", "--vgdb=no", &out, "/plugin", "run"];
            let plugin = Process::start("/usr/bin/valgrind", &arguments, Path::new("/plugin.log"))?;
            first(&mut kubelet, load).await?;
            tokio::time::sleep(PAUSE).await;
            let uevents = Uevents::open()?;
            for vf in load.vfs().step_by(load.vfs / changes.max(1)).take(changes) {
                change(&plugin, &mut kubelet, &uevents, vf).await?;
            }
            plugin.stop()
        })?;
        fs::read_to_string(COUNTED).context("read what callgrind counted")
    })?;
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, &counted).with_context(|| format!("write {}", file.display()))?;
    let total = counted.lines().find_map(|line| line.strip_prefix("totals: "));
    total.and_then(|total| total.trim().parse().ok()).context("callgrind gives no total")
}
