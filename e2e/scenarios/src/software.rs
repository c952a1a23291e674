//! Devices of software on parents that take several: the kernel's vDPA simulators, and sample mdevs. Those that the
//! plugin makes, and those that it finds.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use doorbell_common::isolation::Class;
use doorbell_common::kernel::vfio;
use doorbell_common::subdevice::{DeviceId, Nodes};
use e2e_kubelet::{Kubelet, PodSpec, PodUid};
use e2e_probe::report::{Found, Opened};
use serde_json::json;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, command};
use crate::rig::plugin::{self, Plugin};
use crate::rig::pods;

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: found
  access: mdev
  iommufd: true
  select: {parents: [mdpy]}
- name: nets
  access: vhost-vdpa
  select: {parents: [vdpasim_net]}
  prepare: {perParent: 2}
- name: disks
  access: vhost-vdpa
  select: {parents: [vdpasim_blk], virtioTypes: [block]}
  prepare: {perParent: 2}
- name: serial
  access: mdev
  select: {parents: [mtty]}
  prepare: {mdevType: mtty-2, perParent: 2}
";
/// The same with the first pool alone.
const ONLY_FOUND: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: found
  access: mdev
  iommufd: true
  select: {parents: [mdpy]}
";
/// Pools, how many devices each has, and whether their nodes are a group's or a device's own, where VFIO has them.
const POOLS: [(&str, usize); 4] = [("found", 1), ("nets", 2), ("disks", 2), ("serial", 2)];
const HAND_MADE: &str = "by-hand";
const HAND_MADE_MDEV: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
/// What stands at the start of the disk that was made by hand: 16 bytes.
const FIRST: &str = "doorbell scn: 16";
const NET: u32 = 1;
const BLOCK: u32 = 2;
const VDPA: &str = "/sys/bus/vdpa/devices";
const MDEVS: &str = "/sys/bus/mdev/devices";

pub(crate) async fn software(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    by_hand().await?;
    unnamed(&story).await?;

    let plugin = Plugin::start(CONFIG).await?;
    for (pool, count) in POOLS {
        kubelet.wait_allocatable(&resource(pool), count, WITHIN).await?;
    }
    let autoprobe = Host::real().read_text("/sys/bus/vdpa/drivers_autoprobe")?;
    ensure!(autoprobe == "1", "the vDPA bus was left with autoprobe at {autoprobe}");
    scanned(&story).await?;

    for opened in open_all(kubelet, "nets").await? {
        let vdpa = vdpa(&opened)?;
        ensure!(vdpa.virtio_type == NET && vdpa.disk.is_none(), "{opened:?}");
        story.tell(format!(
            "nets: {} by {}, {} queues, {} bytes of configuration",
            opened.device, opened.node, vdpa.queues, vdpa.config_bytes
        ));
    }
    for opened in open_all(kubelet, "disks").await? {
        let vdpa = vdpa(&opened)?;
        let disk = vdpa.disk.as_ref().with_context(|| format!("no disk was read: {opened:?}"))?;
        ensure!(vdpa.virtio_type == BLOCK && disk.sectors > 0, "{opened:?}");
        let first = if opened.device.ends_with(HAND_MADE) { FIRST.as_bytes() } else { &[0; 16] };
        let first: String = first.iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(disk.first_sector == first, "{opened:?} does not start with {first}");
        story.tell(format!(
            "disks: {} by {}, {} sectors, the first starts with {first}, read in {} µs",
            opened.device, opened.node, disk.sectors, disk.read_micros
        ));
    }
    for pool in ["serial", "found"] {
        for opened in open_all(kubelet, pool).await? {
            let Found::Vfio(found) = &opened.found else { bail!("{opened:?}") };
            let mdev = pods::described(&opened.device.parse()?)?.mdev.context("a device without a UUID")?;
            ensure!(found.name == mdev.as_str() && found.reset, "{opened:?}");
            story.tell(format!(
                "{pool}: mdev {} by {}, {} regions, flags {}, reset",
                found.name, opened.node, found.regions, found.flags
            ));
        }
    }
    ensure!(claim::ids(&Host::real())?.is_empty(), "DEL left claims");
    taken_back(&story, kubelet, plugin).await
}

fn resource(pool: &str) -> String {
    format!("doorbell.dev/{pool}")
}

/// What somebody else made: a disk that this host drives, with something on it, and an mdev.
async fn by_hand() -> Result<()> {
    // virtio_vdpa takes new devices, as it is there first.
    for module in ["vdpa_sim_net", "vdpa_sim_blk", "virtio_vdpa", "mtty", "mdpy"] {
        command("modprobe", &[module]).await?;
    }
    command("vdpa", &["dev", "add", "name", HAND_MADE, "mgmtdev", "vdpasim_blk"]).await?;
    let disk = format!("/dev/$(basename {VDPA}/{HAND_MADE}/virtio*/block/*)");
    command("sh", &["-c", &format!("printf '{FIRST}' >{disk} && sync {disk}")]).await?;
    command("modprobe", &["vhost_vdpa"]).await?;
    let create = "/sys/class/mdev_bus/mdpy/mdev_supported_types/mdpy-vga/create";
    Ok(Host::real().write_attribute(create, HAND_MADE_MDEV)?)
}

/// Software that no pool names is shown, and nobody's.
async fn unnamed(story: &Story) -> Result<()> {
    plugin::write_config(ONLY_FOUND)?;
    let rows = plugin::scan().await?;
    story.quote(plugin::scan_table().await?);
    let empty = plugin::row(&rows, "vdpasim_net")?;
    ensure!(empty["reasons"] == json!(["nothing stands on it", "no pool selects it"]), "{empty}");
    let disk = plugin::row(&rows, &format!("vdpasim_blk-{HAND_MADE}"))?;
    // This host drives it, and what a pod could have of it would be a network interface.
    let reasons = json!(["it has no network interface", "no pool selects it"]);
    ensure!(disk["access"] == "virtio-vdpa" && disk["reasons"] == reasons, "{disk}");
    let mdev = plugin::row(&rows, &format!("mdpy-{HAND_MADE_MDEV}"))?;
    ensure!(mdev["pool"] == "found" && mdev["advertised"] == true, "{mdev}");
    ensure!(rows.iter().filter(|row| row["advertised"] == true).count() == 1, "more than the named one");
    story.tell(
        "simulators that no pool names are shown and not advertised; an mdev that is there is taken as it is",
    );
    Ok(())
}

async fn scanned(story: &Story) -> Result<()> {
    let rows = plugin::scan().await?;
    story.quote(plugin::scan_table().await?);
    for (pool, count) in POOLS {
        let of_pool: Vec<_> = rows.iter().filter(|row| row["pool"] == pool).collect();
        ensure!(of_pool.len() == count, "{pool} has {of_pool:?}");
        for row in of_pool {
            let is = |field: &str, value: &str| row[field] == value;
            ensure!(row["advertised"] == true && row["parent"]["kind"] == "device", "{row}");
            ensure!(is("isolation", "software") && is("registers", "mediated"), "{row}");
            ensure!(is("mediation", "parent-driver") && is("doorbell", "none"), "{row}");
            let (access, effective) =
                if matches!(pool, "nets" | "disks") { ("vhost-vdpa", "eventfd") } else { ("mdev", "none") };
            ensure!(is("access", access) && is("effective", effective), "{row}");
        }
    }
    story.tell("two devices of each simulator and of mtty, all of software, beside what was there");
    Ok(())
}

/// Opens every device of a pool, all at one time, each in a pod of its own.
async fn open_all(kubelet: &Kubelet, pool: &str) -> Result<Vec<Opened>> {
    let count = POOLS.iter().find(|(name, _)| *name == pool).map(|(_, count)| *count);
    let mut pods: Vec<PodUid> = Vec::new();
    let mut all = Vec::new();
    for number in 0..count.context("no such pool")? {
        let arguments = [pods::PROBE, "--open", "--linger", "--seconds", "0"];
        let pod = PodSpec::new(&format!("{pool}-{number}")).container(pods::probe(
            pods::CONTAINER,
            &resource(pool),
            &arguments,
        ));
        let pod = kubelet.run_pod(pod, WITHIN).await?;
        let device = pods::device(kubelet, &pod, &resource(pool))?;
        let opened = pods::opened(kubelet, &pod).await?;
        ensure!(opened.device == device.as_str(), "{opened:?}");
        nodes(kubelet, &pod, &device, pool).await?;
        all.push(opened);
        pods.push(pod);
    }
    let distinct: BTreeSet<&str> = all.iter().map(|opened| opened.device.as_str()).collect();
    ensure!(distinct.len() == all.len(), "a device was given twice: {all:?}");
    for pod in &pods {
        kubelet.remove_pod(pod).await?;
    }
    Ok(all)
}

/// The container has the nodes of its device, and those alone.
async fn nodes(kubelet: &Kubelet, pod: &PodUid, device: &DeviceId, pool: &str) -> Result<()> {
    let described = pods::described(device)?;
    ensure!(described.isolation.class == Class::Software, "{:?}", described.isolation);
    let expected: &[&str] = match &described.nodes {
        Nodes::VhostVdpa { vhost_vdpa } => &[vhost_vdpa],
        Nodes::Vfio(vfio::Nodes::Group { .. }) if pool == "serial" => &["/dev/vfio"],
        Nodes::Vfio(vfio::Nodes::Cdev { .. }) if pool == "found" => &["/dev/iommu", "/dev/vfio"],
        other => bail!("{device} of {pool} is at {other}"),
    };
    let seen = pods::device_nodes(kubelet, pod, pods::CONTAINER).await?;
    let seen: Vec<String> = seen.iter().map(|name| format!("/dev/{name}")).collect();
    ensure!(seen == expected, "the container has {seen:?}, not {expected:?}");
    Ok(())
}

fn vdpa(opened: &Opened) -> Result<&e2e_probe::report::Vdpa> {
    match &opened.found {
        Found::Vdpa(vdpa) => Ok(vdpa),
        other => bail!("{} is {other:?}", opened.device),
    }
}

/// A start with the same config makes nothing; one with another takes back what was made, and nothing else.
async fn taken_back(story: &Story, kubelet: &Kubelet, plugin: Plugin) -> Result<()> {
    let list =
        || -> Result<Vec<String>> { Ok([Host::real().list(VDPA)?, Host::real().list(MDEVS)?].concat()) };
    let made = list()?;
    ensure!(made.len() == 7, "made: {made:?}");
    ensure!(plugin.terminate().await?.success(), "the plugin did not end well");
    let before = kubelet.registrations(&resource("nets"));
    let plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_registrations(&resource("nets"), before + 1, WITHIN).await?;
    ensure!(list()? == made, "a second start made of {made:?} {:?}", list()?);
    ensure!(plugin.terminate().await?.success(), "the plugin did not end well");

    let before = kubelet.registrations(&resource("found"));
    let _plugin = Plugin::start(ONLY_FOUND).await?;
    kubelet.wait_registrations(&resource("found"), before + 1, WITHIN).await?;
    ensure!(list()? == [HAND_MADE, HAND_MADE_MDEV], "left: {:?}", list()?);
    let driver = Host::real().link_name(format!("{VDPA}/{HAND_MADE}/driver"))?;
    ensure!(driver.as_deref() == Some("virtio_vdpa"), "the disk made by hand is on {driver:?}");
    story.tell(format!(
        "a second start made nothing; without the pools all that was made is gone, and what was there is as it was: \
         {HAND_MADE} on virtio_vdpa, {HAND_MADE_MDEV}"
    ));
    Ok(())
}
