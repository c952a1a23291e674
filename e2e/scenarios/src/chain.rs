//! A node where every pod passes our CNI plugin: those without our devices pay one question, and none waits for us.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::formats::devinfo;
use doorbell_common::host::Host;
use e2e_kubelet::{ContainerSpec, Kubelet, PodSpec};
use serde_json::{Value, json};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{FAST, Plugin};
use crate::rig::{cni, pods};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 2}
";
/// As no serializer of ours would write it.
const PREVIOUS: &str = r#"{ "cniVersion":"1.0.0", "interfaces":[{"name":"eth0" ,"x":1e2}],
   "unknown":{"kept":[1,2],"e":"\u00e9"},"dns":{} }"#;
/// Where a host-local of the field keeps its leases of the network that the calls by hand name.
const LEASES: &str = "/var/lib/cni/networks/test";

pub(crate) async fn chain(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(FAST, 2, WITHIN).await?;

    let pod = kubelet.run_pod(plain("plain"), WITHIN).await?;
    let asked = kubelet.pod_resources_calls();
    let answer = cni::add_chained("c1", "plain", PREVIOUS).await?;
    ensure!(answer.bytes()?.trim_ascii_end() == PREVIOUS.as_bytes(), "prevResult was changed: {answer:?}");
    let asked = kubelet.pod_resources_calls() - asked;
    ensure!(asked <= 1, "{asked} questions to the kubelet for a pod without our devices");
    ensure!(claim::ids(&Host::real())?.is_empty(), "a claim without a device");
    story.tell(format!(
        "a pod without our devices passes: prevResult byte for byte unchanged, {asked} question to the kubelet"
    ));
    kubelet.remove_pod(&pod).await?;

    let pod = kubelet.run_pod(pods::answering("a", FAST, "10.9.0.11"), WITHIN).await?;
    own_network(&story, kubelet).await?;
    kubelet.remove_pod(&pod).await?;

    ensure!(plugin.terminate().await?.success(), "the plugin did not end well");
    let pod = kubelet.run_pod(plain("dns"), WITHIN).await?;
    ensure!(kubelet.pod_ip(&pod).await?.is_some(), "the pod has no address");
    story.tell("a pod without our devices starts while the plugin is down");
    kubelet.remove_pod(&pod).await?;
    for folder in ["/run/doorbell", "/run/cdi"] {
        std::fs::remove_dir_all(folder).with_context(|| format!("wipe {folder}"))?;
    }
    let pod = kubelet.run_pod(plain("dns-again"), WITHIN).await?;
    story.tell("and after /run was wiped with it down");
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

fn plain(name: &str) -> PodSpec {
    PodSpec::new(name).container(ContainerSpec::new("main"))
}

/// As Multus calls us: a device of a second pod, addresses by the field's own host-local, a device-info file.
async fn own_network(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let pod = pods::admitted(kubelet, pods::answering("b", FAST, "10.9.0.12")).await?;
    let device = pods::device(kubelet, &pod, FAST)?;
    let info = format!("{}/cni/test-b.json", devinfo::FOLDER);
    std::fs::create_dir_all(format!("{}/cni", devinfo::FOLDER))?;
    let conf = json!({
        "deviceID": device, "pciBusID": device,
        "ipam": { "type": "host-local", "subnet": "10.9.1.0/24", "routes": [{ "dst": "0.0.0.0/0" }] },
        "capabilities": { "CNIDeviceInfoFile": true, "mac": true },
        "runtimeConfig": { "CNIDeviceInfoFile": info, "mac": "52:54:00:00:00:0b" },
    });
    let result = cni::add_with("c2", "b", conf.clone()).await?.succeeded()?;
    let expected = json!({ "address": "10.9.1.2/24", "gateway": "10.9.1.1", "interface": 0 });
    ensure!(result["ips"][0] == expected, "{result}");
    ensure!(result["interfaces"][0]["name"] == "net1", "{result}");
    let attachment = pods::attachment(&device)?.context("ADD left no attachment.json")?;
    ensure!(
        attachment.ips.len() == 1 && attachment.ips[0].address.to_string() == "10.9.1.2",
        "{attachment:?}"
    );
    ensure!(attachment.mac.as_deref() == Some("52:54:00:00:00:0b"), "{attachment:?}");
    let written: Value = serde_json::from_slice(&std::fs::read(&info)?)?;
    let pci = json!({ "pci-address": device, "pf-pci-address": "0000:01:00.0" });
    ensure!(written == json!({ "type": "pci", "version": "1.1.0", "pci": pci }), "{written}");
    let plugins = std::fs::read(devinfo::of_device(FAST, &device)).context("the plugin's device-info")?;
    ensure!(serde_json::from_slice::<Value>(&plugins)? == written, "two stories of one device");

    cni::del_with("c2", "b", conf).await?.succeeded()?;
    ensure!(!std::path::Path::new(&info).exists(), "DEL left the device-info file");
    let leases: Vec<_> =
        std::fs::read_dir(LEASES)?.filter_map(Result::ok).map(|lease| lease.file_name()).collect();
    let held = leases.iter().any(|name| name.to_string_lossy().starts_with("10.9.1.2"));
    ensure!(!held, "DEL left the lease: {leases:?}");
    story.tell(format!(
        "a network of its own on {device}: 10.9.1.2/24 by host-local, device-info 1.1.0, all undone at DEL"
    ));
    kubelet.remove_pod(&pod).await?;
    Ok(())
}
