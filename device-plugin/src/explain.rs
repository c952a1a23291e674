//! The command `explain`: every check on one sub-device, passed or failed, and the file or ioctl that it rests on.
//!
//! The checks are those by which `run` judges: the verdicts keep their own steps, so nothing is told twice.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};
use doorbell_common::allocation::{self, By};
use doorbell_common::check::{Check, Checks, Outcome};
use doorbell_common::claim;
use doorbell_common::error::chain;
use doorbell_common::formats::{cdi, descriptor};
use doorbell_common::host::Host;
use doorbell_common::isolation::Refusal;
use doorbell_common::kernel::vfio::{self, Way};
use doorbell_common::kernel::{memory, pci, process};
use doorbell_common::subdevice::{Access, DeviceId, Effective, Eligible, Parent, Reasons, VirtualFunction};
use serde::{Deserialize, Serialize};

use crate::config::{Config, PfLinkDown};
use crate::discovery::{self, Assignment, Survey};
use crate::runtime::{self, CdiChoice};
use crate::{links, prepare, proof};

/// Value of `apiVersion`.
const API_VERSION: &str = "doorbell.dev/v1";

/// Everything about one sub-device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Explanation {
    api_version: String,
    /// Its id.
    pub id: DeviceId,
    /// How it is driven: as its pool says, or as it stands.
    pub access: Access,
    /// Pool that selects it.
    pub pool: Option<String>,
    /// Whether `run` advertises it as it stands: no check failed.
    pub advertised: bool,
    /// Every check, in the order in which it was made. What comes after a failed one and needs it is left out.
    pub checks: Vec<Check>,
}

/// What is explained, and what was found of it.
struct Found {
    id: DeviceId,
    parent: Parent,
    access: Access,
    device: Result<Eligible, Reasons>,
}

/// Explains the sub-device `id`. Without a config no pool selects anything.
pub fn explain(host: &Host, config: Option<&Config>, id: &DeviceId, page: u64) -> Result<Explanation> {
    let survey = discovery::survey(host, page).context("look for sub-devices")?;
    let assigned = config.map(|config| survey.assign(config)).unwrap_or_default();
    let survey = proof::confirm(host, &survey, |other| assigned.contains_key(&Parent::Vf(other)));
    let found = find(host, &survey, &assigned, id, page).with_context(|| format!("explain {id}"))?;
    let assignment = assigned.get(&found.parent);

    let mut checks = Checks::kept();
    if let Some(address) = found.parent.vf()
        && !found.access.is_netdev()
    {
        let device = VirtualFunction::examine_keeping(host, address, page, &mut checks)?;
        attach(&survey, &device, &mut checks);
        if found.access == Access::Vfio {
            let files = format_args!("{0}/vfio-dev, {0}/driver", pci::folder(address));
            let _ = checks.step("vfio-driver", files, device.vfio_driver(), ToString::to_string);
            nodes(host, &device, survey.driven(&found.parent, assignment).way, &mut checks);
        }
    }
    let trapped = found.device.as_ref().is_ok_and(|device| device.effective == Effective::Trapped);
    if found.access != Access::Vfio || trapped {
        // A driver that keeps DMA and doorbells to itself (mlx5) does not ask what its function shows, and a VM has the
        // function whole.
        if found.device.is_ok() {
            checks.overrule();
        }
        as_a_whole(&found, &mut checks);
    }
    selection(config, assignment, &mut checks);
    link(host, config, assignment, &found, &mut checks);
    if let (true, Err(why)) = (found.device.is_err(), prepare::looks_free(host, &found.parent)) {
        checks.note("prepare", format_args!("claims, the kubelet, open nodes"), || {
            format!("`run` would not change its driver: {why}")
        });
    }
    if let Some(config) = config {
        let CdiChoice { on, reason } = runtime::cdi(host, config);
        let by = if on { "by CDI name" } else { "by DeviceSpec" };
        checks
            .note("runtime", format_args!("the config, the runtime's config"), || format!("{by}: {reason}"));
    }
    published(host, id, assignment, &mut checks);
    held(host, &found, &mut checks);
    memory_facts(page, &mut checks);

    let checks = checks.into_list();
    let advertised = !checks.iter().any(|check| check.outcome == Outcome::Failed);
    let pool = assignment.map(|assignment| assignment.pool.to_string());
    let Found { id, access, .. } = found;
    Ok(Explanation { api_version: API_VERSION.to_owned(), id, access, pool, advertised, checks })
}

fn find(
    host: &Host,
    survey: &Survey,
    assigned: &BTreeMap<Parent, Assignment>,
    wanted: &DeviceId,
    page: u64,
) -> Result<Found> {
    let unreadable = survey.unreadable.iter().find(|(address, _)| address.to_string() == wanted.as_str());
    if let Some((_, unreadable)) = unreadable {
        bail!(unreadable.reason.clone());
    }
    for parent in survey.parents().filter(|parent| wanted.as_str().starts_with(&parent.to_string())) {
        let driven = survey.driven(&parent, assigned.get(&parent));
        for (id, device) in survey.sub_devices(host, &parent, driven, page) {
            if id == *wanted {
                return Ok(Found { id, parent, access: driven.access, device });
            }
        }
    }
    bail!("no such sub-device on this host")
}

/// What keeps it from its consumer, or how that drives it, where the steps before did not tell.
fn as_a_whole(found: &Found, checks: &mut Checks) {
    let Found { parent, access, device, .. } = found;
    let outcome = device.as_ref();
    let rests_on = format_args!("sysfs of {parent} and of what stands on it, /dev");
    // Kept for its place in the list, like all that follow.
    let _ = checks.step("access", rests_on, outcome, |device| {
        let reason = device
            .effective
            .reason(device.driver.as_deref(), device.doorbell.as_ref().ok().map(|doorbell| doorbell.stride));
        format!("{access} by {}; rung {}: {reason}", device.nodes, device.effective)
    });
}

/// What the attach showed, where the steps before it let it be asked.
fn attach(survey: &Survey, device: &VirtualFunction, checks: &mut Checks) {
    if device.isolation.is_err() {
        return;
    }
    let Some(confirmed) = survey.vfs.get(&device.function.address) else { return };
    let pf = confirmed.pf;
    let rests_on = format_args!("VFIO_SET_IOMMU on a free VF of PF {pf}, kept in {}", proof::file(pf));
    let outcome = confirmed.device.isolation.as_ref().map_err(Refusal::to_string);
    // Kept for its place in the list, like all that follow.
    let _ = checks
        .step("attach", rests_on, outcome, |_| "interrupts are isolated: VFs of the PF attach".to_owned());
}

fn nodes(host: &Host, device: &VirtualFunction, way: Way, checks: &mut Checks) {
    let (true, Some(group)) = (device.on_vfio, device.iommu_group) else { return };
    let nodes = vfio::nodes(host, device.function.address, group, way).map_err(|error| chain(&error));
    let _ = checks.step("nodes", format_args!("/dev/vfio, {}", vfio::IOMMUFD), nodes, ToString::to_string);
}

fn selection(config: Option<&Config>, assignment: Option<&Assignment>, checks: &mut Checks) {
    let rests_on = if config.is_some() { "the config" } else { "no config was given (--config)" };
    let pool = assignment.map(|assignment| &assignment.pool).ok_or("no pool selects it");
    let _ = checks.step("pool", format_args!("{rests_on}"), pool, |pool| format!("selected by {pool}"));
    if let Some(overlap) = assignment.and_then(|assignment| discovery::overlap(&assignment.also)) {
        checks.note("overlap", format_args!("{rests_on}"), || overlap);
    }
}

/// Whether its PF has a link, where its pool cares.
fn link(
    host: &Host,
    config: Option<&Config>,
    assignment: Option<&Assignment>,
    found: &Found,
    checks: &mut Checks,
) {
    let pool = config.zip(assignment).and_then(|(config, assignment)| config.pool(&assignment.pool));
    let cares = pool.is_some_and(|pool| pool.pf_link_down == PfLinkDown::Unhealthy);
    let (true, Ok(Eligible { pf: Some(pf), .. })) = (cares, &found.device) else { return };
    let outcome = links::why_down(host, *pf).map_or(Ok(()), Err);
    let rests_on = format_args!("{}/net/*/carrier", pci::folder(*pf));
    let _ = checks.step("pf-link", rests_on, outcome, |()| "no link of the PF is seen to be down".to_owned());
}

/// What a running plugin has written for it.
fn published(host: &Host, id: &DeviceId, assignment: Option<&Assignment>, checks: &mut Checks) {
    let file = descriptor::device_file(id);
    checks.note("descriptor", format_args!("{file}"), || match descriptor::read_device(host, id) {
        Ok(Some(described)) => format!("describes it as {}, by {}", described.resource, described.nodes),
        Ok(None) => "not there: no plugin advertises it".to_owned(),
        Err(error) => chain(&error),
    });
    if let Some(Assignment { pool, .. }) = assignment {
        let file = cdi::file(pool.as_str());
        checks.note("cdi", format_args!("{file}"), || {
            if host.exists(&file) { "there" } else { "not there" }.to_owned()
        });
    }
    checks.note("allocation", format_args!("{}", allocation::path(id)), || {
        match allocation::read(host, id) {
            Ok(Some(record)) => match record.by {
                By::Cdi => format!("last allocated as {} by CDI name", record.resource),
                By::Nodes(nodes) => format!("last allocated as {} by {nodes}", record.resource),
            },
            Ok(None) => "never allocated".to_owned(),
            Err(error) => chain(&error),
        }
    });
}

/// Whose it is, and who really has it open.
fn held(host: &Host, found: &Found, checks: &mut Checks) {
    let id = &found.id;
    checks.note("claim", format_args!("{}", claim::path(id)), || match claim::read(host, id) {
        Ok(Some(claim)) => {
            let pod = &claim.holder.pod;
            format!("pod {}/{}, sandbox {}", pod.namespace, pod.name, claim.holder.container_id)
        }
        Ok(None) => "nobody claims it".to_owned(),
        Err(error) => chain(&error),
    });
    if let Some(own) = found.device.as_ref().ok().and_then(|device| device.nodes.own()) {
        checks.note("open", format_args!("/proc/*/fd of {own}"), || {
            process::holding(host, own)
                .map_or_else(|| "no process is seen with it open".to_owned(), |p| p.to_string())
        });
    }
}

fn memory_facts(page: u64, checks: &mut Checks) {
    checks.note("page", format_args!("sysconf(_SC_PAGESIZE)"), || format!("{page} bytes"));
    checks.note("memlock", format_args!("getrlimit(RLIMIT_MEMLOCK) of this process"), || {
        let limit = match memory::memlock_limit() {
            Ok(Some(bytes)) => format!("{bytes} bytes here"),
            Ok(None) => "unlimited here".to_owned(),
            Err(errno) => errno.to_string(),
        };
        format!(
            "{limit}; what a consumer maps for DMA, huge pages included, counts against its own limit (by the device's \
             own node: together with what its user's other processes mapped), and fails with ENOMEM beyond it, unless \
             it has CAP_IPC_LOCK"
        )
    });
}

/// For people: a line a check, what it rests on below it.
#[must_use]
pub fn text(explanation: &Explanation) -> String {
    let Explanation { id, access, pool, advertised, checks, .. } = explanation;
    let verdict = if *advertised { "may be advertised" } else { "is not advertised" };
    let pool = pool.as_ref().map(|pool| format!(", pool {pool}")).unwrap_or_default();
    let mut text = format!("{id} {verdict} as {access}{pool}\n");
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for Check { name, outcome, found, rests_on } in checks {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{outcome:6}  {name:width$}  {found}");
        let _ = writeln!(text, "{:6}  {:width$}    by {rests_on}", "", "");
    }
    text
}
