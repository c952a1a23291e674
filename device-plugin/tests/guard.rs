//! What is refused at Allocate and at PreStartContainer, with what the pod's events say of it.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;

use doorbell_common::allocation;
use doorbell_common::claim::{self, Claim, Holder, Pod};
use doorbell_device_plugin::guard::{self, Refusal};
use doorbell_device_plugin::inventory::Inventory;
use doorbell_device_plugin::{allocate, publish};

use node::{GOOD, Node, PF, Vf};

const ID: &str = "0000:01:00.1";
const NETNS: &str = "/var/run/netns/a";
const BY_NODES: &str = "cdi: false";
const BY_CDI: &str = "cdi: true";

/// A node with one VF, and the plugin on it.
struct Plugin {
    node: Node,
    config: String,
    inventory: Inventory,
}

impl Plugin {
    fn with(cdi: &str, pool: &str) -> Self {
        let node = Node::with(&[GOOD]);
        node.boot("b1");
        let config = format!(
            "apiVersion: doorbell.dev/v1\n{cdi}\npools:\n- {{name: fast, access: vfio, select: {{pfNames: [ens1f0]}}{pool}}}\n"
        );
        let inventory = node.inventory(&config);
        publish::all(&node.host(), &inventory).unwrap();
        Self { node, config, inventory }
    }

    fn by_nodes() -> Self {
        Self::with(BY_NODES, "")
    }

    /// A pool that wants its devices wired, with a device that was handed out.
    fn require_cni() -> Self {
        let plugin = Self::with(BY_NODES, ", requireCni: true");
        plugin.allocate().unwrap();
        plugin
    }

    /// Another start of the plugin.
    fn restart(&mut self) {
        self.inventory = self.node.inventory(&self.config);
        publish::all(&self.node.host(), &self.inventory).unwrap();
    }

    fn allocate(&self) -> Result<(), Refusal> {
        self.allocate_from("fast")
    }

    fn allocate_from(&self, pool: &str) -> Result<(), Refusal> {
        let ids = [ID.to_owned()];
        allocate::answer(&self.node.host(), &self.inventory, &pool.parse().unwrap(), &ids).map(drop)
    }

    fn start(&self) -> Result<(), Refusal> {
        guard::may_start(&self.node.host(), &self.inventory, &"fast".parse().unwrap(), &[ID.to_owned()])
    }

    fn claim(&self) {
        let [network, container_id, interface, netns] = ["net", "c1", "eth0", NETNS].map(str::to_owned);
        let pod = Pod { namespace: "default".to_owned(), name: "a".to_owned() };
        let holder = Holder { network, container_id, interface, netns, pod };
        let host = self.node.host();
        host.keep_as(NETNS, b"").unwrap();
        claim::write(&host, &Claim::new(&host, ID.parse().unwrap(), holder).unwrap()).unwrap();
    }

    /// What both Allocate and PreStartContainer say of a device that changed after it was advertised and allocated.
    fn changed(change: impl FnOnce(&Node)) -> String {
        let plugin = Self::by_nodes();
        plugin.allocate().unwrap();
        change(&plugin.node);
        let said = plugin.allocate().unwrap_err().to_string();
        assert_eq!(plugin.start().unwrap_err().to_string(), said);
        let what = said.strip_prefix("0000:01:00.1 is not what was advertised: ");
        what.unwrap_or_else(|| panic!("{said}")).to_owned()
    }
}

fn said(outcome: Result<(), Refusal>) -> String {
    outcome.unwrap_err().to_string()
}

#[test]
fn a_device_that_was_allocated_may_start() {
    let plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    assert_eq!(plugin.start(), Ok(()));
}

#[test]
fn a_cdi_name_that_nothing_answers_to_any_more_is_not_started() {
    let mut plugin = Plugin::with(BY_CDI, "");
    plugin.allocate().unwrap();
    plugin.config = plugin.config.replace(BY_CDI, BY_NODES);
    plugin.restart();
    assert_eq!(
        said(plugin.start()),
        "the kubelet replays the CDI name of 0000:01:00.1, and containers get their devices by DeviceSpec now: delete \
         the pod to have it allocated anew"
    );
}

#[test]
fn a_group_that_a_reboot_renumbered_is_not_started_by_its_old_number() {
    let mut plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    plugin.node.reboot("b2");
    plugin.node.renumber(ID, 7, 8);
    plugin.restart();
    assert_eq!(
        said(plugin.start()),
        "the kubelet replays /dev/vfio/7 for 0000:01:00.1, which is at /dev/vfio/8 now (a reboot or a rebind \
         renumbered it): delete the pod to have it allocated anew"
    );
}

#[test]
fn a_group_that_a_reboot_renumbered_is_started_by_its_cdi_name() {
    let mut plugin = Plugin::with(BY_CDI, "");
    plugin.allocate().unwrap();
    plugin.node.reboot("b2");
    plugin.node.renumber(ID, 7, 8);
    plugin.restart();
    assert_eq!(plugin.start(), Ok(()));
}

#[test]
fn a_group_that_kept_its_number_over_a_reboot_is_started() {
    let mut plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    plugin.node.reboot("b2");
    plugin.restart();
    assert_eq!(plugin.start(), Ok(()));
}

#[test]
fn an_answer_that_is_not_on_record_is_not_replayed() {
    assert_eq!(
        said(Plugin::by_nodes().start()),
        "what the kubelet was answered for 0000:01:00.1 is not on record (/var/lib/doorbell/allocations/0000:01:00.1: \
         no such file): delete the pod to have it allocated anew"
    );
}

#[test]
fn a_record_that_is_none_is_not_guessed_at() {
    let plugin = Plugin::by_nodes();
    plugin.node.write("var/lib/doorbell/allocations/0000:01:00.1", b"");
    let said = said(plugin.start());
    assert_eq!(
        said,
        "what the kubelet was answered for 0000:01:00.1 is not on record (/var/lib/doorbell/allocations/0000:01:00.1: \
         /var/lib/doorbell/allocations/0000:01:00.1 is no record of an allocation: EOF while parsing a value at line 1 \
         column 0): delete the pod to have it allocated anew"
    );
}

#[test]
fn a_device_that_was_given_as_another_resource_is_not_started() {
    let mut plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    plugin.config = plugin.config.replace("fast", "slow");
    plugin.restart();
    let slow = "slow".parse().unwrap();
    let outcome = guard::may_start(&plugin.node.host(), &plugin.inventory, &slow, &[ID.to_owned()]);
    assert_eq!(
        said(outcome),
        "0000:01:00.1 was allocated as doorbell.dev/fast, not as doorbell.dev/slow: delete the pod to have it \
         allocated anew"
    );
}

#[test]
fn a_device_that_came_from_another_pool_is_not_allocated_while_its_pod_there_holds_it() {
    let mut plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    plugin.claim();
    plugin.config = plugin.config.replace("fast", "slow");
    plugin.restart();
    assert_eq!(
        said(plugin.allocate_from("slow")),
        "0000:01:00.1 came from another pool, and pod default/a still holds it as doorbell.dev/fast"
    );
    let record = allocation::read(&plugin.node.host(), &ID.parse().unwrap()).unwrap().unwrap();
    assert_eq!(record.resource, "doorbell.dev/fast");
    claim::remove(&plugin.node.host(), &ID.parse().unwrap()).unwrap();
    assert_eq!(plugin.allocate_from("slow"), Ok(()));
}

#[test]
fn nobody_holds_a_device_that_came_from_another_pool_since_an_earlier_boot() {
    let mut plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    plugin.claim();
    plugin.config = plugin.config.replace("fast", "slow");
    plugin.node.reboot("b2");
    plugin.restart();
    assert_eq!(plugin.allocate_from("slow"), Ok(()));
}

#[test]
fn a_claimed_device_is_allocated_again_from_its_own_pool() {
    let plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    plugin.claim();
    assert_eq!(plugin.allocate(), Ok(()));
}

const NOT_WIRED: &str = "0000:01:00.1 is not wired, and pool fast has requireCni: no sandbox of this boot has claimed \
                         it (is `doorbell` in the pod's CNI chain? a device that only an init container asks for is \
                         not wired)";

#[test]
fn where_the_cni_is_required_an_unclaimed_device_is_not_started() {
    assert_eq!(said(Plugin::require_cni().start()), NOT_WIRED);
}

#[test]
fn where_the_cni_is_required_a_claim_of_an_earlier_boot_does_not_count() {
    let plugin = Plugin::require_cni();
    plugin.claim();
    plugin.node.boot("b2");
    assert_eq!(said(plugin.start()), NOT_WIRED);
}

#[test]
fn a_claim_whose_sandbox_is_gone_wires_nobody() {
    let plugin = Plugin::require_cni();
    plugin.claim();
    plugin.node.host().remove(NETNS).unwrap();
    let said = said(plugin.start());
    assert!(said.contains("requireCni: the sandbox that claims it is gone with /var/run/netns/a"), "{said}");
}

#[test]
fn where_the_cni_is_required_a_claimed_device_is_started() {
    let plugin = Plugin::require_cni();
    plugin.claim();
    assert_eq!(plugin.start(), Ok(()));
}

#[test]
fn where_the_cni_is_required_an_unclaimed_device_is_allocated_all_the_same() {
    assert_eq!(Plugin::require_cni().allocate(), Ok(()));
}

#[test]
fn a_descriptor_that_was_wiped_is_waited_for() {
    let plugin = Plugin::by_nodes();
    plugin.allocate().unwrap();
    plugin.node.remove("run/doorbell/devices/0000:01:00.1/device.json");
    let gone = "/run/doorbell/devices/0000:01:00.1/device.json is gone; it is written anew in a moment";
    assert_eq!(said(plugin.allocate()), gone);
    assert_eq!(said(plugin.start()), gone);
}

#[test]
fn a_specification_that_was_wiped_is_waited_for() {
    let plugin = Plugin::with(BY_CDI, "");
    plugin.allocate().unwrap();
    plugin.node.remove("var/run/cdi/doorbell-fast.json");
    let gone = "/var/run/cdi/doorbell-fast.json is gone; it is written anew in a moment";
    assert_eq!(said(plugin.allocate()), gone);
    assert_eq!(said(plugin.start()), gone);
}

#[test]
fn what_is_published_anew_is_handed_out_again() {
    let mut plugin = Plugin::by_nodes();
    fs::remove_dir_all(plugin.node.at("run/doorbell/devices")).unwrap();
    plugin.restart();
    assert_eq!(plugin.allocate(), Ok(()));
}

#[test]
fn a_pool_that_left_the_config_hands_out_nothing() {
    assert_eq!(said(Plugin::by_nodes().allocate_from("slow")), "pool slow is no longer configured");
}

#[test]
fn configuration_space_that_is_cut_short_is_a_change() {
    let what = Plugin::changed(|node| {
        let config = fs::read(node.at("sys/bus/pci/devices/0000:01:00.1/config")).unwrap();
        node.write("sys/bus/pci/devices/0000:01:00.1/config", &config[..64]);
    });
    assert_eq!(
        what,
        "only 64 bytes of configuration space can be read, 256 are needed (is CAP_SYS_ADMIN missing?)"
    );
}

#[test]
fn unsafe_interrupts_that_were_allowed_later_are_a_change() {
    for module in ["vfio_iommu_type1", "iommufd"] {
        let file = format!("sys/module/{module}/parameters/allow_unsafe_interrupts");
        let what = Plugin::changed(|node| node.write(&file, b"Y\n"));
        assert_eq!(what, format!("module {module} has allow_unsafe_interrupts set"));
    }
}

#[test]
fn a_pf_that_went_to_a_vfio_driver_is_a_change() {
    let what = Plugin::changed(|node| {
        fs::create_dir_all(node.at(&format!("sys/bus/pci/devices/{PF}/vfio-dev/vfio9"))).unwrap();
    });
    assert_eq!(what, "its PF 0000:01:00.0 is on a VFIO driver itself");
}

#[test]
fn a_group_that_was_renumbered_below_the_plugin_is_a_change() {
    let what = Plugin::changed(|node| node.renumber(ID, 7, 8));
    assert_eq!(what, "it was at /dev/vfio/7 and /dev/vfio/vfio and is at /dev/vfio/8 and /dev/vfio/vfio");
}

#[test]
fn a_doorbell_that_moved_is_a_change() {
    let what = Plugin::changed(|node| node.reconfigure(ID, &Vf { multiplier: 8, ..GOOD }));
    assert_eq!(what, "its group or its doorbell is another than it was");
}
