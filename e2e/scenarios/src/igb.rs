//! VLAN, addresses, rates and checks of a VF through its PF, on the one emulated PF whose driver has them: set at ADD,
//! given back at DEL, and left alone where one of them is refused.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::host::Host;
use e2e_kubelet::{ContainerSpec, Kubelet, PodSpec, PodUid};
use serde_json::{Value, json};

use crate::Story;
use crate::rig::links::{self, Link};
use crate::rig::node::{Node, Setup, command};
use crate::rig::plugin::{self, Plugin};
use crate::rig::{WITHIN, cni, outside, pods, until};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: intel
  access: netdev
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
";
const INTEL: &str = "doorbell.dev/intel";
const PF: &str = "0000:01:00.0";
/// An igb PF has its VFs behind it, at every second function.
const VF: &str = "0000:01:10.0";
const OUTSIDE: &str = "0000:01:10.2";
const MAC: &str = "02:00:5e:00:00:07";
/// The pods' only network.
const CONFLIST: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "vlan-7",
  "plugins": [{
    "type": "doorbell", "mac": "02:00:5e:00:00:07", "mtu": 1400, "vlan": 7, "vlanQoS": 3, "trust": "on", "spoofchk": "off",
    "max_tx_rate": 50, "ipam": { "type": "host-local", "subnet": "10.9.0.0/24", "rangeStart": "10.9.0.50" }
  }]
}
"#;
const CONTAINER: &str = "main";
/// For calls by hand.
const NETNS: &str = "by-hand";

pub(crate) async fn igb(story: Story) -> Result<()> {
    let node = Node::with(Setup { conflist: CONFLIST, ..Setup::default() }).await?;
    let kubelet = &node.kubelet;
    let pf = links::name_of_pf(PF)?;
    let carrier = format!("/sys/class/net/{pf}/carrier");
    // igb sets no rate while it has no link.
    let switch = async |to: &str| -> Result<()> {
        command("ip", &["link", "set", &pf, to]).await?;
        let wanted = if to == "up" { Some("1") } else { None };
        until("the PF's link", || Host::real().read_text(&carrier).ok().as_deref() == wanted).await
    };
    switch("up").await?;
    let plugin = Plugin::start(CONFIG).await?;
    kubelet.wait_allocatable(INTEL, 1, WITHIN).await?;
    ensure!(plugin.warnings().is_empty(), "the plugin warns: {:?}", plugin.warnings());
    scanned(&story).await?;
    outside::set_up_on("igbvf", OUTSIDE).await?;
    command("ip", &["link", "set", &pf, "vf", "1", "vlan", "7"]).await?;

    known_to_its_pf(&pf).await?;
    let before = Seen::of(&pf).await?;
    story.quote(format!("before: {}", before.vf(0)?));
    let pod = in_the_pod(&story, kubelet, &pf, &before).await?;
    kubelet.remove_pod(&pod).await?;
    before.again(&pf).await?;
    story.tell("after DEL the PF shows both VFs byte for byte as before, and the interface is as it was");

    refused(&story, kubelet, &pf).await?;
    // When the PF loses its link, igbvf resets each VF that is up, and for a moment the PF shows no address of it.
    outside::tear_down(OUTSIDE).await?;
    switch("down").await?;
    without_a_link(&story, kubelet, &pf).await?;
    switch("up").await?;
    let pod = run(kubelet).await?;
    switch("down").await?;
    kubelet.remove_pod(&pod).await?;
    ensure!(vf(&shown(&pf).await?, 0)? == before.vf(0)?, "without a link DEL does not give the VF back");
    switch("up").await?;
    ensure!(vf(&shown(&pf).await?, 0)? == before.vf(0)?, "with a link again: {}", shown(&pf).await?);
    let claims = claim::ids(&Host::real())?;
    ensure!(claims.is_empty(), "claims of {claims:?} are left");
    story.tell("a PF that is switched off meanwhile keeps DEL from nothing");
    Ok(())
}

async fn scanned(story: &Story) -> Result<()> {
    let rows = plugin::scan().await?;
    story.quote(plugin::scan_table().await?);
    let row = plugin::row(&rows, VF)?;
    for (field, value) in [
        ("access", json!("netdev")),
        ("driver", json!("igbvf")),
        ("registers", json!("none")),
        ("isolation", json!("kernel-mediated")),
        ("doorbell", json!("none")),
        ("effective", json!("kernel")),
        ("virtioType", Value::Null),
        ("advertised", json!(true)),
    ] {
        ensure!(row[field] == value, "{field} is {}, not {value}", row[field]);
    }
    Ok(())
}

/// What the PF's interface shows of its VFs, and the interface of the one that pods get.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// As it was printed.
    pf: String,
    link: Link,
}

impl Seen {
    async fn of(pf: &str) -> Result<Self> {
        Ok(Self { pf: shown(pf).await?, link: links::of_vf(VF).await? })
    }

    fn vf(&self, number: usize) -> Result<Value> {
        vf(&self.pf, number)
    }

    /// Fails unless all of it is as it was.
    async fn again(&self, pf: &str) -> Result<()> {
        let now = Self::of(pf).await?;
        ensure!(now == *self, "not as it was: {now:?}\nand not {self:?}");
        let claims = claim::ids(&Host::real())?;
        ensure!(claims.is_empty(), "claims of {claims:?} are left");
        Ok(())
    }
}

/// Has the VF's driver tell the PF which address it drew: when it was bound it may have done that too early, and the PF
/// then shows none until the interface is switched on.
async fn known_to_its_pf(pf: &str) -> Result<()> {
    let name = links::name_of_vf(VF)?.context("the VF has no interface")?;
    for to in ["up", "down"] {
        command("ip", &["link", "set", &name, to]).await?;
    }
    let (own, known) = (links::show(&name).await?, vf(&shown(pf).await?, 0)?);
    ensure!(own["address"] == known["address"], "{name} has {}, and its PF shows {known}", own["address"]);
    Ok(())
}

async fn shown(pf: &str) -> Result<String> {
    command("ip", &["-json", "link", "show", "dev", pf]).await
}

fn vf(shown: &str, number: usize) -> Result<Value> {
    let shown: Value = serde_json::from_str(shown)?;
    let vf = shown.pointer(&format!("/0/vfinfo_list/{number}"));
    vf.cloned().with_context(|| format!("no VF {number} in {shown}"))
}

async fn run(kubelet: &Kubelet) -> Result<PodUid> {
    let container = ContainerSpec::new(CONTAINER).resource(INTEL, 1);
    Ok(kubelet.run_pod(PodSpec::new("a").container(container), WITHIN).await?)
}

/// A pod in a VLAN, by the address, the checks and the rate that its network says.
async fn in_the_pod(story: &Story, kubelet: &Kubelet, pf: &str, before: &Seen) -> Result<PodUid> {
    let pod = run(kubelet).await?;
    let now = shown(pf).await?;
    let set = vf(&now, 0)?;
    story.quote(format!("now: {set}"));
    for (place, value) in [
        ("/address", json!(MAC)),
        ("/vlan_list", json!([{ "vlan": 7, "qos": 3 }])),
        ("/rate", json!({ "max_tx": 50, "min_tx": 0 })),
        ("/spoofchk", json!(false)),
        ("/trust", json!(true)),
        ("/link_state", json!("auto")),
    ] {
        ensure!(set.pointer(place) == Some(&value), "{place} of {set} is not {value}");
    }
    ensure!(vf(&now, 1)? == before.vf(1)?, "the other VF was changed: {now}");
    for (file, value) in [("address", MAC), ("mtu", "1400")] {
        let read = ["cat", &format!("/sys/class/net/eth0/{file}")];
        let read = kubelet.exec(&pod, CONTAINER, read, WITHIN).await?.stdout;
        ensure!(read.trim() == value, "{file} of the pod's interface is {read}, not {value}");
    }

    let address = kubelet.pod_ip(&pod).await?.context("the pod has no address")?;
    outside::ping(&address).await?;
    let ping = ["ping", "-c", "3", "-W", "5", outside::ADDRESS];
    let said = kubelet.exec(&pod, CONTAINER, ping, WITHIN).await?.stdout;
    ensure!(said.contains("3 packets received"), "{said}");
    command("ip", &["link", "set", pf, "vf", "1", "vlan", "8"]).await?;
    ensure!(outside::ping(&address).await.is_err(), "the pod is reached from another VLAN");
    command("ip", &["link", "set", pf, "vf", "1", "vlan", "7"]).await?;
    story.tell(format!(
        "the pod at {address} has {MAC}, and pings go both ways in VLAN 7, none from VLAN 8: {}",
        said.lines().last().unwrap_or_default()
    ));
    Ok(pod)
}

/// What the network above asks, and more.
fn asked(more: Value) -> Value {
    let mut asked = json!({
        "mac": MAC, "mtu": 1400, "vlan": 7, "vlanQoS": 3, "trust": "on", "spoofchk": "off", "max_tx_rate": 50,
    });
    if let (Some(asked), Value::Object(more)) = (asked.as_object_mut(), more) {
        asked.extend(more);
    }
    asked
}

/// An ADD of which the driver refuses the last of what is asked.
async fn refused(story: &Story, kubelet: &Kubelet, pf: &str) -> Result<()> {
    command("ip", &["netns", "add", NETNS]).await?;
    let failed = add(kubelet, pf, asked(json!({ "link_state": "enable" }))).await?;
    story.tell(format!("igb sets no link state: {failed}; all that was set before is as it was"));
    Ok(())
}

/// igb sets a rate only while it has a link.
async fn without_a_link(story: &Story, kubelet: &Kubelet, pf: &str) -> Result<()> {
    let failed = add(kubelet, pf, asked(json!({}))).await?;
    story.tell(format!("without a link: {failed}; nothing is left of it"));
    Ok(())
}

/// What a refused ADD of a pod says, which leaves everything as it was.
async fn add(kubelet: &Kubelet, pf: &str, asked: Value) -> Result<String> {
    let before = Seen::of(pf).await?;
    let container = ContainerSpec::new(CONTAINER).resource(INTEL, 1);
    let pod = pods::admitted(kubelet, PodSpec::new("refused").container(container)).await?;
    let netns = format!("/run/netns/{NETNS}");
    let failed = cni::add_into(&netns, "c1", "refused", asked).await?.failed()?;
    ensure!(failed["code"] == 108, "{failed}");
    before.again(pf).await?;
    let links = command("ip", &["-netns", NETNS, "-oneline", "link"]).await?;
    ensure!(links.lines().count() == 1, "left in the namespace: {links}");
    kubelet.remove_pod(&pod).await?;
    Ok(format!("{} {}", failed["msg"], failed["details"]))
}
