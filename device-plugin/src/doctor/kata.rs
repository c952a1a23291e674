//! What Kata's two runtimes ask of their configuration and of the host before a VF gets into a VM, by their sources (4.1).

use doorbell_common::error::chain;
use doorbell_common::formats::kata_dan::KataRuntime;
use doorbell_common::host::Host;
use doorbell_common::kernel::vfio::{self, Way};
use doorbell_common::kernel::{iommu, pci};
use doorbell_common::kubelet::podresources::SOCKET;

use super::Finding;
use super::configuration::{self, Configuration, NO_PORT, Vmm};
use crate::config::{Config, Kata, Runtime};

const ROOT_PORT: &str = "root-port";
/// Of a hypervisor.
const MOST_ROOT_PORTS: u32 = 16;
const GUEST_KERNEL: &str = "guest-kernel";
const QEMU: &str = "qemu";
/// Cloud Hypervisor.
const CLH: &str = "clh";

/// What pools ask of one of the runtimes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asked {
    /// Folders where DAN files are written.
    folders: Vec<String>,
    /// Whether a pool has its VFs plugged as devices of containers alone.
    as_devices: bool,
}

/// Every step.
pub(super) fn examine(
    host: &Host,
    config: Option<&Config>,
    file: Option<&str>,
    devices: u32,
) -> Vec<Finding> {
    let mut findings = vec![iommu(host)];
    let pools = pools(config);
    if let (Some(_), []) = (config, pools.as_slice()) {
        findings.push(Finding::noted("pools", "the config of the pools", "none has `runtime: kata`"));
    }
    let runtimes = [KataRuntime::Rs, KataRuntime::Go];
    let is_asked = |runtime: &KataRuntime| pools.iter().any(|kata| kata.runtime == *runtime);
    let files: Vec<(KataRuntime, Option<&str>)> = match file {
        Some(file) => configuration::read(host, file).map_or_else(
            |_| vec![(KataRuntime::default(), Some(file))],
            |found| vec![(found.runtime, Some(file))],
        ),
        None => runtimes
            .into_iter()
            .map(|runtime| (runtime, configuration::usual(host, runtime)))
            .filter(|(runtime, found)| is_asked(runtime) || pools.is_empty() && found.is_some())
            .collect(),
    };
    if files.is_empty() {
        let usual: Vec<&str> = runtimes.into_iter().flat_map(configuration::paths).collect();
        findings.push(absent(&usual.join(", ")));
    }
    for runtime in
        runtimes.into_iter().filter(is_asked).filter(|runtime| file.is_some() && !has(&files, *runtime))
    {
        let found = format!("pools are for {runtime}, whose configuration this is not");
        let mend = "give the configuration of that one, or set `kata.runtime` of the pools";
        findings.push(Finding::failed("configuration", file.unwrap_or_default(), found, mend));
    }
    for (runtime, path) in files {
        let asked = Asked::of(&pools, runtime);
        match path.map(|path| configuration::read(host, path)) {
            None => findings.push(absent(&configuration::paths(runtime).join(", "))),
            Some(Err(why)) => findings.push(Finding::failed(
                "configuration",
                path.unwrap_or_default(),
                why,
                "Kata would not start with it: correct the file",
            )),
            Some(Ok(found)) => {
                findings.push(whose(&found, file.is_some()));
                findings.extend(of(host, &found, &asked, devices));
            }
        }
    }
    findings
}

fn has(files: &[(KataRuntime, Option<&str>)], runtime: KataRuntime) -> bool {
    files.iter().any(|(other, _)| *other == runtime)
}

fn absent(usual: &str) -> Finding {
    let mend = "name it by --kata-config; where the nodes have Kata's other runtime, set `kata.runtime` of the pools";
    Finding::failed("configuration", usual, "none of the usual files of Kata's configuration is there", mend)
}

fn pools(config: Option<&Config>) -> Vec<&Kata> {
    let pools = config.into_iter().flat_map(|config| &config.pools);
    let kata =
        pools.filter_map(|pool| if let Runtime::Kata(kata) = &pool.runtime { Some(kata) } else { None });
    kata.collect()
}

impl Asked {
    /// Where no pool asks anything, a VF is to be plugged as a device.
    fn of(pools: &[&Kata], runtime: KataRuntime) -> Self {
        let mine: Vec<&&Kata> = pools.iter().filter(|kata| kata.runtime == runtime).collect();
        let mut folders: Vec<String> =
            mine.iter().filter_map(|kata| kata.dan_conf.as_ref().map(ToString::to_string)).collect();
        folders.sort();
        folders.dedup();
        let as_devices = mine.iter().any(|kata| kata.dan_conf.is_none()) || mine.is_empty();
        Self { folders, as_devices }
    }
}

/// A handler of containerd's may name another file than the usual one.
fn whose(found: &Configuration, is_given: bool) -> Finding {
    let whose = format!("of {}", found.runtime);
    let unless =
        if is_given { "" } else { ", unless containerd's `ConfigPath` for its handler is another file" };
    Finding::passed("configuration", &found.path, whose + unless)
}

fn of(host: &Host, found: &Configuration, asked: &Asked, devices: u32) -> Vec<Finding> {
    let mut findings = vec![hypervisor(found)];
    findings.extend(plug(found, asked));
    findings.extend(pod_resources(host, found));
    findings.push(vfio_mode(found, asked));
    findings.extend(root_ports(found, asked, devices));
    if found.runtime == KataRuntime::Rs {
        findings.push(iommufd(host));
    }
    findings.push(dan_conf(found, asked));
    findings
}

/// A key of Kata's, where it stands.
fn key(found: &Configuration, section: &str, key: &str) -> String {
    format!("{}: [{section}] {key}", found.path)
}

fn vmm(found: &Configuration, name: &str) -> String {
    key(found, &format!("hypervisor.{}", found.hypervisor), name)
}

/// The VMMs of a runtime that plug a VF.
fn vmms(runtime: KataRuntime) -> &'static [&'static str] {
    match runtime {
        KataRuntime::Rs => &[QEMU],
        KataRuntime::Go => &[QEMU, CLH],
    }
}

fn hypervisor(found: &Configuration) -> Finding {
    let (rests_on, name, can) =
        (format!("{}: [hypervisor]", found.path), &found.hypervisor, vmms(found.runtime));
    if can.contains(&name.as_str()) {
        return Finding::passed("hypervisor", rests_on, name);
    }
    let what = format!("{} plugs no VF into a VM of {name}", found.runtime);
    Finding::failed("hypervisor", rests_on, what, format!("use a configuration with {}", can.join(" or ")))
}

/// Whether a port is one.
fn plugs(port: &str) -> bool {
    !port.is_empty() && port != NO_PORT
}

/// Ports that the Go runtime takes.
fn ports(found: &Configuration) -> &'static [&'static str] {
    if found.hypervisor == CLH { &[ROOT_PORT] } else { &[ROOT_PORT, "switch-port", "bridge-port"] }
}

fn takes(found: &Configuration, port: &str) -> bool {
    !plugs(port) || ports(found).contains(&port)
}

fn plug(found: &Configuration, asked: &Asked) -> Vec<Finding> {
    let (cold, hot) = (&found.vmm.cold_plug_vfio, &found.vmm.hot_plug_vfio);
    let (at_cold, at_hot) = (vmm(found, "cold_plug_vfio"), vmm(found, "hot_plug_vfio"));
    let root_port = format!("set cold_plug_vfio = \"{ROOT_PORT}\"");
    match (found.runtime, plugs(cold), plugs(hot)) {
        (KataRuntime::Rs, false, _) => {
            let what = "no-port: no VF gets into the VM, and the container starts without its device";
            vec![Finding::failed("plug", at_cold, what, root_port)]
        }
        (KataRuntime::Rs, true, _) if cold != ROOT_PORT => {
            vec![Finding::failed(
                "plug",
                at_cold,
                format!("{cold}: runtime-rs takes {ROOT_PORT} only"),
                root_port,
            )]
        }
        (KataRuntime::Go, true, true) => {
            let what =
                format!("cold_plug_vfio is {cold} and hot_plug_vfio {hot}: Kata takes one of them only");
            let mend = format!("set one of them to \"{NO_PORT}\": cold_plug_vfio where pools have `danConf`");
            vec![Finding::failed("plug", at_cold, what, mend)]
        }
        (KataRuntime::Go, false, false) => {
            let what = "no-port, and so is hot_plug_vfio: no VF gets into the VM";
            let hot = format!("set hot_plug_vfio = \"{ROOT_PORT}\"");
            let mend = if asked.folders.is_empty() { root_port } else { hot };
            vec![Finding::failed("plug", at_cold, what, mend)]
        }
        (KataRuntime::Go, ..) if !takes(found, cold) || !takes(found, hot) => {
            let (at, port) = if takes(found, cold) { (at_hot, hot) } else { (at_cold, cold) };
            let what = format!("{port}: with {} Kata takes {}", found.hypervisor, ports(found).join(", "));
            vec![Finding::failed("plug", at, what, format!("set it to \"{ROOT_PORT}\""))]
        }
        (KataRuntime::Go, true, false) if !asked.folders.is_empty() => {
            let what = "no-port: what a DAN file names is plugged into a running VM, and can't be";
            let mend = format!(
                "set hot_plug_vfio = \"{ROOT_PORT}\" and cold_plug_vfio = \"{NO_PORT}\", or leave `danConf` out"
            );
            vec![Finding::failed("plug", at_hot, what, mend)]
        }
        (_, true, _) => vec![Finding::passed("plug", at_cold, format!("cold plug at a {cold}"))],
        (KataRuntime::Go, false, true) => {
            vec![Finding::passed("plug", at_hot, format!("hot plug at a {hot}"))]
        }
    }
}

/// Cold plug asks the kubelet; with hot plug a container's device nodes say it.
fn pod_resources(host: &Host, found: &Configuration) -> Option<Finding> {
    if found.runtime == KataRuntime::Go && plugs(&found.vmm.hot_plug_vfio) {
        return None;
    }
    let (rests_on, socket) =
        (key(found, "runtime", "pod_resource_api_sock"), &found.own.pod_resource_api_sock);
    let mend = format!("set pod_resource_api_sock = \"{SOCKET}\", or where the kubelet has it");
    Some(if socket.is_empty() {
        let what = "not set: Kata does not learn which devices a pod has, and plugs none";
        Finding::failed("pod-resources", rests_on, what, mend)
    } else if host.exists(socket) {
        Finding::passed("pod-resources", rests_on, socket)
    } else {
        Finding::failed("pod-resources", rests_on, format!("{socket} is not there"), mend)
    })
}

fn vfio_mode(found: &Configuration, asked: &Asked) -> Finding {
    let rests_on = key(found, "runtime", "vfio_mode");
    match found.own.vfio_mode.as_str() {
        "" | GUEST_KERNEL => Finding::passed(
            "vfio-mode",
            rests_on,
            "guest-kernel: the guest's driver has the VF, and rings it",
        ),
        "vfio" if !asked.folders.is_empty() => {
            let what = "vfio: the guest's driver loses what a DAN file made an interface of, once its container starts";
            let mend = format!("set vfio_mode = \"{GUEST_KERNEL}\", or leave `danConf` out");
            Finding::failed("vfio-mode", rests_on, what, mend)
        }
        "vfio" if found.vmm.enable_iommu => {
            Finding::passed("vfio-mode", rests_on, "vfio: the container drives the VF in the guest, by VFIO")
        }
        "vfio" => {
            let what = "vfio: the container is to drive the VF by VFIO, and the guest has no IOMMU for that";
            let mend =
                format!("set vfio_mode = \"{GUEST_KERNEL}\", or enable_iommu = true of the hypervisor");
            Finding::failed("vfio-mode", rests_on, what, mend)
        }
        other => {
            let mend = format!("set vfio_mode = \"{GUEST_KERNEL}\"");
            Finding::failed("vfio-mode", rests_on, format!("{other}: Kata knows no such mode"), mend)
        }
    }
}

/// Each device at a root port of QEMU's takes one. The Go runtime makes as many as cold plug needs, and has to be told of
/// those of hot plug; what is beyond the most it takes for that.
fn root_ports(found: &Configuration, asked: &Asked, devices: u32) -> Option<Finding> {
    let Vmm { cold_plug_vfio: cold, hot_plug_vfio: hot, pcie_root_port, .. } = &found.vmm;
    let is_other = |port: &str| plugs(port) && port != ROOT_PORT;
    if found.hypervisor != QEMU || is_other(cold) || is_other(hot) {
        return None;
    }
    let rests_on = vmm(found, "pcie_root_port");
    let by_itself =
        found.runtime == KataRuntime::Go && asked.folders.is_empty() && (plugs(cold) || !plugs(hot));
    let ports = *pcie_root_port.min(&MOST_ROOT_PORTS);
    if devices > MOST_ROOT_PORTS {
        let what =
            format!("a pod has up to {devices} devices, and a VM {MOST_ROOT_PORTS} root ports at most");
        return Some(Finding::failed("root-ports", rests_on, what, "have a pod ask for fewer devices"));
    }
    if ports < devices && !by_itself {
        let what = format!("{ports} root ports, and a pod takes up to {devices}: one a device");
        let mend = format!("set pcie_root_port = {devices} or more");
        return Some(Finding::failed("root-ports", rests_on, what, mend));
    }
    let found = if by_itself { "as many as a pod has devices".to_owned() } else { ports.to_string() };
    Some(Finding::passed("root-ports", rests_on, found))
}

/// Runtime-rs goes by each device's own node, also where it is given the group's.
fn iommufd(host: &Host) -> Finding {
    let mend = "boot a kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV, or use Kata's Go runtime (`kata: {runtime: go}`)";
    if !host.exists(vfio::IOMMUFD) {
        let what = "it is not there: runtime-rs plugs VFs by iommufd alone";
        return Finding::failed("iommufd", vfio::IOMMUFD, what, mend);
    }
    let functions = pci::functions(host).unwrap_or_default();
    let mut bound = functions.into_iter().filter(|address| vfio::is_bound(host, *address).unwrap_or(false));
    let first = bound.find_map(|address| Some((address, iommu::group_of(host, address).ok()??)));
    let Some((address, group)) = first else {
        let what = "no device is on VFIO now, so whether each has a node of its own is not seen";
        return Finding::noted("iommufd", vfio::IOMMUFD, what);
    };
    match vfio::nodes(host, address, group, Way::Cdev) {
        Ok(nodes) => Finding::passed("iommufd", nodes.own(), format!("{address} has a node of its own")),
        Err(error) => {
            let what =
                format!("{address} has no node of its own, by which runtime-rs plugs it: {}", chain(&error));
            Finding::failed("iommufd", format!("{}/vfio-dev", pci::folder(address)), what, mend)
        }
    }
}

fn dan_conf(found: &Configuration, asked: &Asked) -> Finding {
    let (rests_on, theirs) = (key(found, "runtime", "dan_conf"), &found.own.dan_conf);
    let theirs_trimmed = theirs.trim_end_matches('/');
    if let Some(other) = asked.folders.iter().find(|folder| *folder != theirs_trimmed) {
        let theirs = if theirs.is_empty() { "not set" } else { theirs };
        let what = format!(
            "{theirs}, and pools have `danConf: {other}`: the file is not found, and the VF not plugged"
        );
        return Finding::failed(
            "dan-conf",
            rests_on,
            what,
            format!("set dan_conf = \"{other}\", or the pools' `danConf`"),
        );
    }
    match (asked.folders.is_empty(), found.runtime) {
        (true, _) => {
            Finding::noted("dan-conf", rests_on, "no pool has `danConf`: VFs are plugged as devices")
        }
        (false, KataRuntime::Go) if asked.as_devices => {
            Finding::noted("dan-conf", rests_on, format!("{theirs}; some pools have no `danConf`"))
        }
        (false, KataRuntime::Go) => Finding::passed("dan-conf", rests_on, theirs),
        (false, KataRuntime::Rs) => {
            let what = "runtime-rs (4.1) fails the sandbox of a DAN file with a VF";
            Finding::failed("dan-conf", rests_on, what, "leave `danConf` out, or use Kata's Go runtime")
        }
    }
}

fn iommu(host: &Host) -> Finding {
    match host.list(iommu::GROUPS) {
        Ok(groups) if !groups.is_empty() => {
            Finding::passed("iommu", iommu::GROUPS, format!("{} groups", groups.len()))
        }
        Ok(_) => {
            let mend = "switch the IOMMU on: in the firmware, and by intel_iommu=on for the kernel of an Intel machine";
            Finding::failed(
                "iommu",
                iommu::GROUPS,
                "no group: nothing confines a VF, and none is advertised",
                mend,
            )
        }
        Err(error) => Finding::noted("iommu", iommu::GROUPS, chain(&error)),
    }
}
