//! Kata Containers: the VF gets into a VM, by cold plug and by a DAN file, and is rung there without an exit.
//!
//! A pod's sandbox is runc's here, and the VM that Kata would have made for it stands beside: it is made of what plugin and
//! CNI left, and of nothing else.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::formats::descriptor::{self, Attachment, IpPrefix, PlugBy};
use doorbell_common::formats::kata_dan;
use doorbell_common::host::Host;
use doorbell_common::kernel::pci::PciAddress;
use e2e_kubelet::{ContainerSpec, Kubelet, Manifest, PodSpec, PodUid};

use crate::Story;
use crate::dan;
use crate::rig::node::{Node, Setup};
use crate::rig::plugin::Plugin;
use crate::rig::vmm::{self, Interface, Vm};
use crate::rig::{WITHIN, kata, memory_map, outside, pods};

/// The page that shows how it is set up, by objects for a cluster.
const PAGE: &str = include_str!("../../../docs/kata.md");
/// What differs in the testbed from that page's node, and a pool beside.
const PFS: [&str; 2] = ["[ens1f0#0-7]", "['0000:01:00.0#0']"];
const VFS: [&str; 2] = ["numVfs: 8", "numVfs: 3"];
const COLD: &str = "\
- name: cold
  access: vfio
  runtime: kata
  select: {pfNames: ['0000:01:00.0#1']}
  prepare: {numVfs: 3}
";
const CONFLIST: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "vms",
  "plugins": [{ "type": "doorbell", "ipam": {
    "type": "host-local", "ranges": [[{ "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.50", "gateway": "10.9.0.1" }]],
    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "10.77.0.0/16", "gw": "10.9.0.7" }]
  } }]
}
"#;

const PAUSE: &str = "localhost/pause:1";

pub(crate) async fn kata(story: Story) -> Result<()> {
    vmm::prepare().await?;
    let objects = objects()?;
    let node = Node::with(Setup { conflist: CONFLIST, handler: Some("kata"), ..Setup::default() }).await?;
    let kubelet = &node.kubelet;
    let config = objects.configured("doorbell", "config.yaml")?;
    let config =
        [PFS, VFS].iter().fold(config.to_owned(), |config, [shown, here]| config.replace(shown, here));
    let _plugin = Plugin::start(&(config + COLD)).await?;
    for pool in ["vm", "cold"] {
        kubelet.wait_allocatable(&format!("doorbell.dev/{pool}"), 1, WITHIN).await?;
    }
    outside::set_up("0000:01:00.3").await?;
    dan::by_hand(&story, kubelet, "doorbell.dev/vm").await?;

    let mut pod = objects.user_pod()?;
    ensure!(pod.runtime_handler == "kata", "{pod:?}");
    // The one image that is there has its command too.
    pod.containers.iter_mut().for_each(|container| PAUSE.clone_into(&mut container.image));
    let by_dan = Sandboxed::run(kubelet, pod, PlugBy::Dan).await?;
    let container = ContainerSpec::new("main").resource("doorbell.dev/cold", 1);
    let pod = PodSpec::new("cold").runtime_handler("kata").container(container);
    let by_cold_plug = Sandboxed::run(kubelet, pod, PlugBy::Device).await?;
    let mut networks = kata::attached_networks(kata_dan::FOLDER, &by_dan.sandbox)?;
    ensure!(networks.len() == 1, "{networks:?}");
    let (function, dan) = networks.remove(0);
    ensure!(function == by_dan.function, "the DAN file has {function}, the kubelet gave {}", by_dan.function);
    ensure!(dan.routes.len() == 2, "{dan:?}");
    ensure!((dan.name.as_str(), dan.mtu) == ("eth0", 1500), "{dan:?}");
    story.tell(format!(
        "the DAN file of the page's pod has {} of {function}, {}",
        dan.name,
        dan.ips.join(", ")
    ));

    // Their guests boot side by side, which takes a minute or two.
    let mut vms = Vec::new();
    for (pod, interface) in [(&by_dan, dan), (&by_cold_plug, by_cold_plug.interface()?)] {
        vms.push((pod, Vm::start(&pod.name, pod.function, &interface, outside::ADDRESS)?, interface));
    }
    for (pod, mut vm, interface) in vms {
        let said = vm.pinged().await?;
        let Interface { mac, ips, routes, .. } = &interface;
        let routes =
            routes.iter().map(|(to, by)| format!("{} via {by}", if to.is_empty() { "default" } else { to }));
        let told: Vec<String> = [mac.clone()].into_iter().chain(ips.clone()).chain(routes).collect();
        ensure!(told.iter().all(|told| said.contains(told)), "it was told {told:?}, and has:\n{said}");
        ensure!(said.contains("5 packets received"), "the guest of pod {} said:\n{said}", pod.name);
        let address = interface.ips[0].split('/').next().context("an address without a prefix")?;
        outside::ping(address).await?;
        story.tell(format!("the guest of pod {} pings and is pinged by {address}", pod.name));
        story.tell(pod.rings_directly(&vm).await?);
        vm.end().await?;
    }
    for pod in [&by_dan, &by_cold_plug] {
        kubelet.remove_pod(&pod.uid).await?;
    }
    ensure!(Host::real().list(kata_dan::FOLDER)?.is_empty(), "DEL left a DAN file");
    story.tell("at the end of the pods no DAN file is left".to_owned());
    Ok(())
}

/// The page's objects.
fn objects() -> Result<Manifest> {
    let mut blocks = PAGE.split("```").filter_map(|block| block.strip_prefix("yaml\n"));
    let block =
        blocks.find(|block| block.contains("kind: RuntimeClass")).context("the page has no objects")?;
    Ok(Manifest::parse(block)?)
}

/// A pod of a pool, with its one device.
struct Sandboxed {
    name: String,
    uid: PodUid,
    function: PciAddress,
    sandbox: String,
    attachment: Attachment,
}

impl Sandboxed {
    /// Its VF is found as Kata finds it at the start of the sandbox, whether or not a DAN file has it too.
    async fn run(kubelet: &Kubelet, pod: PodSpec, plugged: PlugBy) -> Result<Self> {
        let name = pod.name.clone();
        let uid = kubelet.run_pod(pod, WITHIN).await?;
        let functions = kata::cold_plugged(&name).await?;
        ensure!(functions.len() == 1, "pod {name} has {functions:?}");
        let (function, host) = (functions[0], Host::real());
        let claim = claim::read(&host, &function.into())?.context("nobody has claimed the VF")?;
        let attachment =
            descriptor::read_attachment(&host, &function.into())?.context("no attachment.json")?;
        let by = attachment.plug.as_ref().map(|plug| plug.by);
        ensure!(by == Some(plugged), "pod {name}: {attachment:?}");
        Ok(Self { name, uid, function, sandbox: claim.holder.container_id, attachment })
    }

    /// What a container sets up that has it as a device.
    fn interface(&self) -> Result<Interface> {
        let Attachment { mac, ips, .. } = &self.attachment;
        Ok(Interface {
            mac: mac.clone().context("the VF's MAC address is not known")?,
            name: "vf0".to_owned(),
            mtu: 1500,
            ips: ips.iter().map(|IpPrefix { address, prefix }| format!("{address}/{prefix}")).collect(),
            routes: Vec::new(),
        })
    }

    /// Fails unless the doorbell's pages are mapped into the guest and the MSI-X table is not; what shows it.
    async fn rings_directly(&self, vm: &Vm) -> Result<String> {
        let described = pods::described(&self.function.into())?;
        let area = described.doorbell.area.context("no doorbell is described")?;
        let (start, end) = (u64::from(area.offset), u64::from(area.offset) + u64::from(area.length));
        let printed = vm.memory_map().await?;
        let map = memory_map::parse(&printed);
        let region = format!("{} BAR {} mmaps[0]", self.function, area.region);
        ensure!(memory_map::is(&map, &region, "ramd", start, end), "{region} is not mapped:\n{printed}");
        let is_msix = |piece: &&memory_map::Piece| piece.region == "msix-table";
        let tables: Vec<_> = map.iter().filter(is_msix).collect();
        ensure!(!tables.is_empty() && tables.iter().all(|table| table.kind == "i/o"), "MSI-X:\n{printed}");
        Ok(format!("by `info mtree -f` {start:#x}..{end:#x} of {region} is ramd, msix-table is i/o"))
    }
}
