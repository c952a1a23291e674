//! What Kata's runtime does on the host with what plugin and CNI left, by its sources: which functions it plugs into a
//! sandbox's VM, and which interfaces its agent is to set up.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::{self, PciAddress};
use doorbell_common::kubelet::podresources::GetPodResourcesRequest;
use doorbell_common::kubelet::podresources::pod_resources_lister_client::PodResourcesListerClient;
use serde_json::Value;

use crate::rig::vmm::Interface;

/// Its `pod_resource_api_sock`.
const SOCKET: &str = "unix:///var/lib/kubelet/pod-resources/kubelet.sock";
const SPECIFICATIONS: &str = "/var/run/cdi";

/// Cold plug: which devices a pod has, by the kubelet, and what each is, by its CDI specification.
pub(crate) async fn cold_plugged(pod: &str) -> Result<Vec<PciAddress>> {
    let mut client = PodResourcesListerClient::connect(SOCKET).await?;
    let request = GetPodResourcesRequest { pod_name: pod.to_owned(), pod_namespace: "default".to_owned() };
    let answer = client.get(request).await?.into_inner().pod_resources.context("no such pod")?;
    let mut functions = Vec::new();
    for device in answer.containers.iter().flat_map(|container| &container.devices) {
        for id in &device.device_ids {
            for node in nodes(&device.resource_name, id)? {
                functions.push(function(&node)?);
            }
        }
    }
    Ok(functions)
}

/// The device nodes of a CDI name.
fn nodes(kind: &str, name: &str) -> Result<Vec<String>> {
    for file in fs::read_dir(SPECIFICATIONS)? {
        let specification: Value = serde_json::from_slice(&fs::read(file?.path())?)?;
        if specification["kind"] != kind {
            continue;
        }
        let devices = specification["devices"].as_array().context("a specification without devices")?;
        let Some(device) = devices.iter().find(|device| device["name"] == name) else { continue };
        let nodes = device["containerEdits"]["deviceNodes"].as_array().context("a device without nodes")?;
        let path = |node: &Value| node["path"].as_str().map(str::to_owned).context("a node without a path");
        return nodes.iter().map(path).collect();
    }
    bail!("nobody specifies {kind}={name}: Kata fails the sandbox")
}

/// The one function behind a node, which has to be a group's: any other fails the sandbox.
fn function(node: &str) -> Result<PciAddress> {
    let group = node.strip_prefix("/dev/vfio/").filter(|group| group.parse::<u32>().is_ok());
    let group = group.with_context(|| format!("Invalid VFIO group path: {node}"))?;
    let devices = Host::real().list(format!("/sys/kernel/iommu_groups/{group}/devices"))?;
    ensure!(devices.len() == 1, "group {group} has {devices:?}");
    Ok(devices[0].parse()?)
}

/// DAN: the interfaces that a sandbox's file has, each made of a function that is on VFIO already, as its Go runtime reads
/// them.
pub(crate) fn attached_networks(folder: &str, sandbox: &str) -> Result<Vec<(PciAddress, Interface)>> {
    let file = format!("{folder}/{sandbox}.json");
    let dan: Value = serde_json::from_slice(&fs::read(&file).with_context(|| format!("read {file}"))?)?;
    let devices = dan["devices"].as_array().context("a DAN file without devices")?;
    devices.iter().map(attached).collect()
}

fn attached(device: &Value) -> Result<(PciAddress, Interface)> {
    let text =
        |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no text: {device}"));
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    ensure!(device["device"]["type"] == "vfio", "unknown variant: {device}");
    let function: PciAddress = text(&device["device"]["pci_device_id"])?.parse()?;
    let driver = pci::driver(&Host::real(), function)?;
    ensure!(driver.as_deref() == Some("vfio-pci"), "{function} is on {driver:?}");
    let network = &device["network_info"];
    let route = |route: &Value| Ok((text(&route["dest"])?, text(&route["gateway"])?));
    let interface = Interface {
        mac: text(&device["guest_mac"])?,
        name: text(&device["name"])?,
        mtu: network["interface"]["mtu"].as_u64().context("no MTU")?,
        ips: list(&network["interface"]["ip_addresses"]).iter().map(text).collect::<Result<_>>()?,
        routes: list(&network["routes"]).iter().map(route).collect::<Result<_>>()?,
    };
    Ok((function, interface))
}
