//! Access modes `virtio-vdpa` and `netdev`: the VF's network interface goes into the pod and comes back as it was, however
//! the pod ends.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use e2e_kubelet::{ContainerSpec, Kubelet, PodSpec, PodUid};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::Story;
use crate::rig::links::{self, Link};
use crate::rig::node::{Node, Setup, command};
use crate::rig::plugin::{self, Plugin};
use crate::rig::{WITHIN, pods, until};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: by-vdpa
  access: virtio-vdpa
  select: {pfNames: ['0000:01:00.0#0-1']}
  prepare: {numVfs: 4}
- name: plain
  access: netdev
  select: {pfNames: ['0000:01:00.0#2-3']}
  prepare: {}
- name: fleeting
  access: netdev
  select: {pfNames: ['0000:02:00.0']}
  prepare: {numVfs: 1}
";
/// Our plugin as the pods' only network.
const CONFLIST: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "doorbells-only",
  "plugins": [{ "type": "doorbell", "ipam": { "type": "host-local", "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.50" } }]
}
"#;
/// Where host-local keeps its leases of that network.
const LEASES: &str = "/var/lib/cni/networks/doorbells-only";
const BY_VDPA: Pool = Pool {
    name: "by-vdpa",
    devices: &["0000:01:00.1", "0000:01:00.2"],
    driver: "vp-vdpa",
    access: "virtio-vdpa",
};
const PLAIN: Pool = Pool {
    name: "plain",
    devices: &["0000:01:00.3", "0000:01:00.4"],
    driver: "virtio-pci",
    access: "netdev",
};
const FLEETING: Pool =
    Pool { name: "fleeting", devices: &["0000:02:00.1"], driver: "virtio-pci", access: "netdev" };
const FLEETING_PF: &str = "0000:02:00.0";
const CONTAINER: &str = "main";
const COUNT: &str = "3";

struct Pool {
    name: &'static str,
    devices: &'static [&'static str],
    driver: &'static str,
    access: &'static str,
}

impl Pool {
    fn resource(&self) -> String {
        format!("doorbell.dev/{}", self.name)
    }

    /// The interfaces of its devices, all of them on the host.
    async fn links(&self) -> Result<Vec<Link>> {
        let mut found = Vec::new();
        for device in self.devices {
            found.push(links::of_vf(device).await?);
        }
        Ok(found)
    }
}

/// As the pods' own network, with addresses.
pub(crate) async fn netdevs(story: Story) -> Result<()> {
    let node = Node::with(Setup { conflist: CONFLIST, ..Setup::default() }).await?;
    let kubelet = &node.kubelet;
    let _plugin = start(&story, kubelet).await?;
    for (pool, seen_home) in [(&BY_VDPA, false), (&PLAIN, true)] {
        pair(&story, kubelet, pool).await?;
        orphan(&story, kubelet, pool, seen_home).await?;
    }
    vanished(&story, kubelet).await
}

/// Behind ptp, where the pod has its network already.
pub(crate) async fn netdevs_beside(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let plugin = start(&story, kubelet).await?;
    let _plugin = again(&story, kubelet, plugin).await?;
    let before = [BY_VDPA.links().await?, PLAIN.links().await?];
    let container =
        ContainerSpec::new(CONTAINER).resource(&BY_VDPA.resource(), 1).resource(&PLAIN.resource(), 1);
    let pod = kubelet.run_pod(PodSpec::new("beside").container(container), WITHIN).await?;
    let address = kubelet.pod_ip(&pod).await?.context("the pod has no address")?;
    ensure!(address.starts_with("10.88."), "the pod's address is {address}, not ptp's");

    let seen = exec(kubelet, &pod, &["ls", "/sys/class/net"]).await?;
    let names: Vec<&str> = seen.split_whitespace().collect();
    ensure!(names == ["doorbell0", "doorbell1", "eth0", "lo"], "the pod has {names:?}");
    // In order of the devices' ids.
    for (pool, interface) in [(&BY_VDPA, "doorbell0"), (&PLAIN, "doorbell1")] {
        let device = pods::device_of(kubelet, &pod, CONTAINER, &pool.resource())?;
        let attachment = pods::attachment(&device)?.context("ADD left no attachment.json")?;
        ensure!(attachment.interface == interface && attachment.trial.is_none(), "{attachment:?}");
        let address = exec(kubelet, &pod, &["cat", &format!("/sys/class/net/{interface}/address")]).await?;
        ensure!(attachment.mac.as_deref() == Some(address.trim()), "{attachment:?}, and it has {address}");
        let flags = exec(kubelet, &pod, &["ip", "link", "show", "dev", interface]).await?;
        ensure!(flags.contains(",UP"), "{interface} is not switched on: {flags}");
        story.tell(format!("{interface} is {device} of {}, beside eth0 by ptp", pool.name));
    }
    kubelet.remove_pod(&pod).await?;
    ensure!([BY_VDPA.links().await?, PLAIN.links().await?] == before, "they are not back as they were");
    story.tell("after DEL both are back on the host as they were");
    Ok(())
}

async fn start(story: &Story, kubelet: &Kubelet) -> Result<Plugin> {
    for module in ["vdpa", "vp_vdpa", "virtio_vdpa"] {
        command("modprobe", &[module]).await?;
    }
    let plugin = Plugin::start(CONFIG).await?;
    for pool in [&BY_VDPA, &PLAIN, &FLEETING] {
        kubelet.wait_allocatable(&pool.resource(), pool.devices.len(), WITHIN).await?;
    }
    let rows = plugin::scan().await?;
    story.quote(plugin::scan_table().await?);
    for pool in [&BY_VDPA, &PLAIN, &FLEETING] {
        for device in pool.devices {
            let row = plugin::row(&rows, device)?;
            for (field, value) in [
                ("access", json!(pool.access)),
                ("driver", json!(pool.driver)),
                ("registers", json!("none")),
                ("mediation", json!("parent-driver")),
                ("isolation", json!("kernel-mediated")),
                ("effective", json!("kernel")),
                ("advertised", json!(true)),
            ] {
                ensure!(row[field] == value, "{field} of {device} is {}, not {value}", row[field]);
            }
            let link = links::of_vf(device).await?;
            ensure!(!link.is_up(), "{link:?} is up");
        }
    }
    story.tell("VFs on vp-vdpa and virtio-pci, each with a network interface of this host that is down");
    Ok(plugin)
}

/// A second start leaves every interface as it is, down to its number: none was taken off its driver.
async fn again(story: &Story, kubelet: &Kubelet, plugin: Plugin) -> Result<Plugin> {
    let numbers = async || -> Result<Vec<Value>> {
        let mut numbers = Vec::new();
        for device in [BY_VDPA.devices, PLAIN.devices, FLEETING.devices].concat() {
            let name = links::name_of_vf(device)?.with_context(|| format!("{device} has no interface"))?;
            numbers.push(links::show(&name).await?["ifindex"].clone());
        }
        Ok(numbers)
    };
    let before = numbers().await?;
    ensure!(plugin.terminate().await?.success(), "the plugin did not end well");
    let registered = kubelet.registrations(&PLAIN.resource());
    let plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_registrations(&PLAIN.resource(), registered + 1, WITHIN).await?;
    let after = numbers().await?;
    ensure!(plugin.warnings().is_empty(), "the plugin warns: {:?}", plugin.warnings());
    ensure!(after == before, "the plugin's second start made other interfaces: {after:?} of {before:?}");
    story.tell("the plugin's second start leaves them all as they are");
    Ok(plugin)
}

async fn run(kubelet: &Kubelet, name: &str, pool: &Pool) -> Result<PodUid> {
    let container = ContainerSpec::new(CONTAINER).resource(&pool.resource(), 1);
    Ok(kubelet.run_pod(PodSpec::new(name).container(container), WITHIN).await?)
}

async fn exec(kubelet: &Kubelet, pod: &PodUid, command: &[&str]) -> Result<String> {
    let done = kubelet.exec(pod, CONTAINER, command.iter().copied(), WITHIN).await?;
    ensure!(done.exit == 0, "{command:?} in the pod: {done:?}");
    Ok(done.stdout)
}

/// Two pods ping each other; then both interfaces are back as they were.
async fn pair(story: &Story, kubelet: &Kubelet, pool: &Pool) -> Result<()> {
    let before = pool.links().await?;
    let both = [run(kubelet, "a", pool).await?, run(kubelet, "b", pool).await?];
    let mut addresses = Vec::new();
    for pod in &both {
        let device = pods::device_of(kubelet, pod, CONTAINER, &pool.resource())?;
        ensure!(
            links::name_of_vf(device.as_str())?.is_none(),
            "the interface of {device} is still on the host"
        );
        let nodes = pods::device_nodes(kubelet, pod, CONTAINER).await?;
        ensure!(nodes.is_empty(), "the container has {nodes:?}");
        addresses.push(kubelet.pod_ip(pod).await?.context("the pod has no address")?);
        let attachment = pods::attachment(&device)?.context("ADD left no attachment.json")?;
        let ips: Vec<String> = attachment.ips.iter().map(|ip| ip.address.to_string()).collect();
        ensure!(attachment.interface == "eth0" && ips == addresses[addresses.len() - 1..], "{attachment:?}");
    }
    let mut times = Vec::new();
    for (pod, target) in both.iter().zip(addresses.iter().rev()) {
        let said = exec(kubelet, pod, &["ping", "-c", COUNT, "-W", "5", target]).await?;
        ensure!(said.contains(&format!("{COUNT} packets received")), "ping of {target}:\n{said}");
        times.push(said.lines().last().unwrap_or_default().to_owned());
    }
    story.tell(format!(
        "{}: pods at {} ping each other, every one is answered: {}",
        pool.name,
        addresses.join(" and "),
        times.join("; ")
    ));
    for pod in &both {
        kubelet.remove_pod(pod).await?;
    }
    back(pool, &before).await?;
    let names: Vec<&str> = before.iter().map(Link::name).collect();
    story.tell(format!(
        "{}: after both DELs {} are back on the host, down as they were",
        pool.name,
        names.join(" and ")
    ));
    Ok(())
}

/// The pod's namespace is gone before DEL: the kernel sends the interface home, under whatever name is free.
async fn orphan(story: &Story, kubelet: &Kubelet, pool: &Pool, seen_home: bool) -> Result<()> {
    let before = pool.links().await?;
    let pod = run(kubelet, "orphan", pool).await?;
    let device = pods::device_of(kubelet, &pod, CONTAINER, &pool.resource())?;
    let sandbox = kubelet.sandboxes(&pod).await?.pop().context("the pod has no sandbox")?;
    let netns = sandbox.netns.context("the sandbox has no namespace")?;
    let netns = netns.file_name().and_then(|name| name.to_str()).context("a namespace without a name")?;
    let pids = command("ip", &["netns", "pids", netns]).await?;
    for pid in pids.split_whitespace() {
        // A container's first process takes the others with it.
        match kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => return Err(error).with_context(|| format!("kill {pid}")),
        }
    }
    command("ip", &["netns", "delete", netns]).await?;
    let home = || links::name_of_vf(device.as_str()).ok().flatten();
    let between = if seen_home {
        until("the kernel has sent the interface home", || home().is_some()).await?;
        home().unwrap_or_default()
    } else {
        "on its way home".to_owned()
    };
    kubelet.remove_pod(&pod).await?;
    back(pool, &before).await?;
    story.tell(format!(
        "{}: the namespace of a pod with {device} went before DEL, which found the interface {between}; after it, it is \
         as it was",
        pool.name
    ));
    Ok(())
}

/// The VF goes while a pod has its interface, and the interface with it: nothing is left to bring back.
async fn vanished(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let pod = run(kubelet, "vanished", &FLEETING).await?;
    let numvfs = format!("/sys/bus/pci/devices/{FLEETING_PF}/sriov_numvfs");
    Host::real().write_attribute(&numvfs, "0")?;
    let left = exec(kubelet, &pod, &["ls", "/sys/class/net"]).await?;
    ensure!(!left.contains("eth0"), "the pod still has {left}");
    let sandbox = kubelet.sandboxes(&pod).await?.pop().context("the pod has no sandbox")?;
    kubelet.stop_sandbox(&sandbox.id).await?;
    nothing_left()?;
    story.tell("the VF of a pod was removed, and its interface with it: DEL succeeds");
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

async fn back(pool: &Pool, before: &[Link]) -> Result<()> {
    let after = pool.links().await?;
    ensure!(after == before, "{}: not back as they were: {after:?} and not {before:?}", pool.name);
    nothing_left()
}

/// No claim and no lease.
fn nothing_left() -> Result<()> {
    let claims = claim::ids(&Host::real())?;
    ensure!(claims.is_empty(), "DEL left claims of {claims:?}");
    let leases = Host::real().list(LEASES)?;
    let held: Vec<_> = leases.iter().filter(|name| name.starts_with("10.")).collect();
    ensure!(held.is_empty(), "DEL left leases: {held:?}");
    Ok(())
}
