//! Access mode `vhost-vdpa` on VFs behind vp-vdpa: rung by a page of each queue's own where there is one, by an eventfd
//! where there is not.

use anyhow::{Context, Result, ensure};
use doorbell_common::claim;
use doorbell_common::formats::descriptor::Locked;
use doorbell_common::host::Host;
use doorbell_common::kernel::iommu;
use doorbell_common::subdevice::Effective;
use e2e_kubelet::Kubelet;
use e2e_probe::report::By;
use serde_json::{Value, json};

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, command};
use crate::rig::plugin::{self, Plugin};
use crate::rig::{outside, pods};

/// VFs of the first PF have a page a queue, those of the second a multiplier of 4.
const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: mapped
  access: vhost-vdpa
  select: {pfNames: ['0000:01:00.0#0-1']}
  prepare: {numVfs: 4}
- name: rung
  access: vhost-vdpa
  select: {pfNames: ['0000:02:00.0#0']}
  prepare: {numVfs: 2, mac: derived, mtu: 1450}
";
const OUTSIDE: &str = "0000:01:00.4";
const MAPPED: Pool = Pool {
    name: "mapped",
    devices: &["0000:01:00.1", "0000:01:00.2"],
    granularity: "queue",
    effective: Effective::Direct,
    reason: "vp-vdpa maps it into the consumer",
    by: By::Mapped,
};
const RUNG: Pool = Pool {
    name: "rung",
    devices: &["0000:02:00.1"],
    granularity: "device",
    effective: Effective::Eventfd,
    reason: "vp-vdpa maps a doorbell only where the notify multiplier is the page size, and it is 0x4",
    by: By::Eventfd,
};
/// As the machine's administrator, or its first boot, would make it: MAC addresses are derived from it.
const MACHINE_ID: (&str, &str) = ("/etc/machine-id", "3f1c9d6be4a24a0f8a5a0c4c35b1d6e7\n");
/// What a container of containerd may lock.
const LIMIT: u64 = 8 << 20;

/// A pool, and what is to be seen of its devices.
struct Pool {
    name: &'static str,
    devices: &'static [&'static str],
    granularity: &'static str,
    effective: Effective,
    reason: &'static str,
    by: By,
}

impl Pool {
    fn resource(&self) -> String {
        format!("doorbell.dev/{}", self.name)
    }
}

pub(crate) async fn vhost_vdpa(story: Story) -> Result<()> {
    std::fs::write(MACHINE_ID.0, MACHINE_ID.1)?;
    // The plugin attaches a VF of each PF by vfio-pci before it goes to vp-vdpa.
    for module in ["vfio-pci", "vdpa", "vp_vdpa", "vhost_vdpa"] {
        command("modprobe", &[module]).await?;
    }
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    let plugin = Plugin::start(CONFIG).await?;
    all_there(kubelet).await?;
    let dropped = plugin.logged(&["made without", "pool=rung", "mac, mtu"]).await?;
    story.tell(format!("VFs went by vfio-pci to vp-vdpa, each is a vDPA device; {dropped}"));
    scanned(&story).await?;

    outside::set_up(OUTSIDE).await?;
    drive(&story, kubelet, &MAPPED, "10.9.0.11").await?;
    drive(&story, kubelet, &RUNG, "10.9.0.12").await?;
    free_again(kubelet)?;
    story.tell("both pods are gone: all devices are allocatable again, no claim is left");

    let made = on_bus()?;
    let plugin = again(kubelet, plugin, &CONFIG.replace("pools:", "cdi: false\npools:")).await?;
    ensure!(on_bus()? == made, "a second start made of {made:?} {:?}", on_bus()?);
    story.tell(format!("the plugin's second start made no further device: {}", made.join(", ")));
    drive(&story, kubelet, &MAPPED, "10.9.0.13").await?;
    drive(&story, kubelet, &RUNG, "10.9.0.14").await?;
    free_again(kubelet)?;
    story.tell("by DeviceSpec it is the same");
    two_of_one(&story, kubelet, plugin).await
}

async fn all_there(kubelet: &Kubelet) -> Result<()> {
    for pool in [&MAPPED, &RUNG] {
        kubelet.wait_allocatable(&pool.resource(), pool.devices.len(), WITHIN).await?;
    }
    Ok(())
}

/// Ends the plugin and starts it with another config.
async fn again(kubelet: &Kubelet, plugin: Plugin, config: &str) -> Result<Plugin> {
    ensure!(plugin.terminate().await?.success(), "the plugin did not end well");
    let pools = [MAPPED.resource(), RUNG.resource()];
    let before = pools.each_ref().map(|pool| kubelet.registrations(pool));
    let plugin = Plugin::start(config).await?;
    for (pool, before) in pools.iter().zip(before) {
        kubelet.wait_registrations(pool, before + 1, WITHIN).await?;
    }
    Ok(plugin)
}

async fn scanned(story: &Story) -> Result<()> {
    let rows = plugin::scan().await?;
    story.quote(plugin::scan_table().await?);
    for pool in [&MAPPED, &RUNG] {
        for address in pool.devices {
            let row = plugin::row(&rows, address)?;
            let group = iommu::group_of(&Host::real(), address.parse()?)?.context("a VF without a group")?;
            let expected = json!({
                "parent": { "kind": "vf", "name": address },
                "driver": "vp-vdpa",
                "child": address,
                "access": "vhost-vdpa",
                "registers": "mediated",
                "mediation": "parent-driver",
                "iommuGroup": group.0,
                "isolation": "iommu-rid",
                "doorbell": "exclusive",
                "granularity": pool.granularity,
                "effective": pool.effective,
                "pool": pool.name,
                "advertised": true,
            });
            for (field, expected) in expected.as_object().into_iter().flatten() {
                ensure!(row[field] == *expected, "{field} of {address} is {}, not {expected}", row[field]);
            }
        }
    }
    let spare = plugin::row(&rows, "0000:01:00.3")?;
    ensure!(spare["driver"] == Value::Null && spare["pool"] == Value::Null, "{spare}");
    Ok(())
}

/// Runs a pod on a device of the pool until every ping, its own and from outside, is answered.
async fn drive(story: &Story, kubelet: &Kubelet, pool: &Pool, address: &str) -> Result<()> {
    let resource = pool.resource();
    let pod = kubelet.run_pod(pods::probing(pool.name, &resource, address), WITHIN).await?;
    let device = pods::device(kubelet, &pod, &resource)?;
    let up = pods::up(kubelet, &pod).await?;
    ensure!(up.device == device.as_str() && up.doorbell.by == pool.by, "{up:?}");

    let described = pods::described(&device)?;
    let doorbell = &described.doorbell;
    ensure!(doorbell.effective == pool.effective && doorbell.effective_reason == pool.reason, "{doorbell:?}");
    ensure!(described.memory.locked == Locked::Memlock, "{:?}", described.memory);
    let attachment = pods::attachment(&device)?.context("ADD left no attachment.json")?;
    ensure!(attachment.memlock_limit == Some(LIMIT), "{attachment:?}");
    let trial = pods::vdpa_trial(&device)?;
    let doorbells = if pool.effective == Effective::Direct { trial.queues } else { 0 };
    ensure!(trial.virtio_type == 1 && trial.queues >= 2 && trial.doorbells == doorbells, "{trial:?}");
    // The first six bytes of a network device's configuration are its MAC address (virtio 1.3, 5.1.4).
    ensure!(trial.config.starts_with(&up.mac.replace(':', "")), "{trial:?} and {up:?}");
    let nodes = pods::device_nodes(kubelet, &pod, pods::CONTAINER).await?;
    ensure!(
        nodes.iter().map(|node| format!("/dev/{node}")).eq([described.nodes.to_string()]),
        "the container has {nodes:?}, the device is at {}",
        described.nodes
    );

    outside::ping(address).await?;
    let done = pods::done(kubelet, &pod).await?;
    let ping = done.ping.context("the probe did not ping")?;
    story.tell(format!(
        "pool {}: {device} by {} alone; ADD saw {} queues and {} doorbells after {:.1} ms; the container had it open \
         after {:.1} ms and rang {} and {} times by {:?}; every ping was answered ({} µs on average)",
        pool.name,
        described.nodes,
        trial.queues,
        trial.doorbells,
        trial.micros as f64 / 1000.0,
        up.open_micros as f64 / 1000.0,
        done.doorbell.writes.tx,
        done.doorbell.writes.rx,
        done.doorbell.which.by,
        ping.rtt_micros_avg.unwrap_or_default(),
    ));
    kubelet.remove_pod(&pod).await?;
    ensure!(pods::attachment(&device)?.is_none(), "DEL left attachment.json of {device}");
    Ok(())
}

fn free_again(kubelet: &Kubelet) -> Result<()> {
    let view = kubelet.view();
    for pool in [&MAPPED, &RUNG] {
        let resource = view.resources.get(&pool.resource()).context("the resource is gone")?;
        ensure!(
            resource.allocatable() == pool.devices.len() && resource.allocated.is_empty(),
            "not allocatable again: {resource:?}"
        );
    }
    let claims = claim::ids(&Host::real())?;
    ensure!(claims.is_empty(), "claims of {claims:?} are left");
    Ok(())
}

/// Names of all vDPA devices.
fn on_bus() -> Result<Vec<String>> {
    Ok(Host::real().list("/sys/bus/vdpa/devices")?)
}

/// The kernel makes two devices of one VF, on one set of rings. Neither is anybody's.
async fn two_of_one(story: &Story, kubelet: &Kubelet, plugin: Plugin) -> Result<()> {
    let vf = MAPPED.devices[1];
    let resource = MAPPED.resource();
    command("vdpa", &["dev", "add", "name", "second", "mgmtdev", &format!("pci/{vf}")]).await?;
    let expected = format!("2 vDPA devices share its one set of rings: {vf}, second");
    let refused = plugin::allocate(MAPPED.name, vf).await?.err().context("Allocate passed")?;
    ensure!(refused.message() == format!("{vf} is not what was advertised: {expected}"), "{refused:?}");
    let rows = plugin::scan().await?;
    let row = plugin::row(&rows, vf)?;
    ensure!(row["advertised"] == false && row["reasons"] == json!([expected]), "{row}");

    let plugin = again(kubelet, plugin, CONFIG).await?;
    kubelet.wait_allocatable(&resource, 1, WITHIN).await?;
    let refused = plugin.logged(&["device not advertised", vf]).await?;
    ensure!(refused.contains(&expected), "{refused}");
    story.tell(format!("a second vDPA device on {vf}, made by hand: {refused}"));
    Ok(())
}
