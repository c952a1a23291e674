//! Whether floor and plugin look at what they are said to look at: counted once, by strace.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e_bench::attributes::{self, Look};
use e2e_bench::kubelet::Kubelet;
use e2e_bench::load::{Load, Vf};
use e2e_bench::process::Process;

use crate::programs::Programs;
use crate::start::{first, inside};

const LOAD: Load = Load { vfs: 64, pfs: 2, pools: 1 };
const CALLS: &str = "trace=openat,readlink,readlinkat,statx,newfstatat,stat,access";

/// What is published first lies here.
const PUBLISHED: &str = "\"/run/doorbell/devices/";

/// How often each path of a VF was asked for.
type Asked = BTreeMap<String, usize>;

/// What was asked of one VF, by whom.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Looks that the list has.
    pub(crate) listed: usize,
    /// By the floor.
    pub(crate) floor: usize,
    /// By the plugin, from its start to its first list.
    pub(crate) plugin: usize,
}

/// Counts at one VF in the middle; an error where the floor leaves out what the list has, or either asks for more.
pub(crate) fn counted(programs: &Programs) -> Result<Counted> {
    let vf = LOAD.vfs().nth(LOAD.vfs / 2).context("an empty load")?;
    let listed: Asked =
        attributes::of_vf(vf).into_iter().map(|one| (one.path.display().to_string(), 1)).collect();
    let folders: Vec<String> = attributes::of_vf(vf)
        .into_iter()
        .filter(|one| one.look == Look::List)
        .map(|one| one.path.display().to_string())
        .collect();
    inside(programs, LOAD, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut kubelet = Kubelet::listen()?;
            let plugin = Process::start(
                "/usr/bin/strace",
                &["-f", "-o", "/plugin.strace", "-e", CALLS, "/plugin", "run"],
                Path::new("/plugin.log"),
            )?;
            first(&mut kubelet, LOAD).await?;
            plugin.stop_traced()
        })?;
        let floor = ["-f", "-o", "/floor.strace", "-e", CALLS, "/floor", "start", "again", "64", "2", "1"];
        let floor = std::process::Command::new("/usr/bin/strace").args(floor).output()?;
        ensure!(floor.status.success(), "strace of the floor: {}", String::from_utf8_lossy(&floor.stderr));

        let trace = |file: &str| fs::read_to_string(file).with_context(|| format!("read {file}"));
        let (floor, plugin) = (trace("/floor.strace")?, trace("/plugin.strace")?);
        // Behind the look comes the publishing, and then what runs beside the answers.
        let look = plugin.split(PUBLISHED).next().unwrap_or_default();
        let (floor, plugin) = (asked(&floor, vf, &folders), asked(look, vf, &folders));
        ensure!(floor == listed, "the floor asks a VF for {floor:#?}, and the list has {listed:#?}");
        ensure!(plugin == listed, "the plugin asks a VF for {plugin:#?}, and the list has {listed:#?}");
        let sum = |asked: &Asked| asked.values().sum();
        Ok(Counted { listed: sum(&listed), floor: sum(&floor), plugin: sum(&plugin) })
    })
}

/// What a trace has of a VF: what is below its folder, the folders that are listed, and the link that leads to it.
fn asked(trace: &str, vf: Vf, folders: &[String]) -> Asked {
    let own = format!("/{}/", vf.address());
    let link = attributes::of_vf(vf).first().map(|one| one.path.display().to_string());
    let of_vf = |path: &str| {
        path.starts_with("/sys/") && path.contains(&own)
            || folders.iter().any(|folder| folder == path)
            || link.as_deref() == Some(path)
    };
    let mut asked = Asked::new();
    for path in trace.lines().filter_map(|line| line.split('"').nth(1)).filter(|path| of_vf(path)) {
        *asked.entry(path.to_owned()).or_default() += 1;
    }
    asked
}
