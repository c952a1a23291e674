//! The running plugin: what happens to devices and to the config is told to the kubelet, and nothing else is.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;
mod running;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use doorbell_common::kernel::netlink::Heard;
use doorbell_common::kernel::uevent::Uevent;
use doorbell_common::subdevice::DeviceId;
use doorbell_device_plugin::discovery::{self, Touched};
use node::{GOOD, Node, PAGE, PF, Vf};
use running::{FAST, HEALTHY, List, REST, Running, UNHEALTHY, VFS, config, list};

#[tokio::test]
async fn a_vf_that_goes_leaves_the_list_and_one_that_comes_is_in_it() {
    let running = Running::start(&[FAST, REST]);
    let (mut fast, mut rest) = (running.lists("fast").await, running.lists("rest").await);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    assert_eq!(rest.next().await, Some(list(&[(VFS[2], HEALTHY)])));

    let link = running.node.at(&format!("sys/bus/pci/devices/{PF}/virtfn1"));
    let (folder, away) =
        (running.node.at(&format!("sys/bus/pci/devices/{}", VFS[1])), running.node.at("away"));
    fs::remove_file(&link).unwrap();
    fs::rename(&folder, &away).unwrap();
    running.says("remove", "pci", VFS[1]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY)])));

    fs::rename(&away, &folder).unwrap();
    symlink(format!("../{}", VFS[1]), &link).unwrap();
    running.says("add", "pci", VFS[1]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    rest.says_nothing().await;
    running.ends().await;
}

#[tokio::test]
async fn a_vf_that_is_taken_off_its_driver_is_unhealthy_until_it_is_back() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(0);
    running.says("unbind", "pci", VFS[0]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], UNHEALTHY), (VFS[1], HEALTHY)])));
    // Its descriptor stays: a container may have it.
    let id: DeviceId = VFS[0].parse().unwrap();
    assert!(running.node.at(&format!("run/doorbell/devices/{id}/device.json")).exists());
    running.binds(0);
    running.says("bind", "pci", VFS[0]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn who_joins_a_group_makes_its_members_unhealthy() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    let stranger = "0000:01:00.7";
    running.node.write(&format!("sys/bus/pci/devices/{stranger}/class"), b"0x020000\n");
    fs::create_dir_all(running.node.at(&format!("sys/kernel/iommu_groups/8/devices/{stranger}"))).unwrap();
    let group = running.node.at(&format!("sys/bus/pci/devices/{stranger}/iommu_group"));
    symlink("../../../../kernel/iommu_groups/8", group).unwrap();
    running.says("add", "pci", stranger);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], UNHEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn where_uevents_were_lost_everything_is_looked_at() {
    let running = Running::start(&[FAST, REST]);
    let mut rest = running.lists("rest").await;
    rest.next().await;
    running.unbinds(2);
    rest.says_nothing().await;
    running.uevents.send(Heard::Lost).unwrap();
    assert_eq!(rest.next().await, Some(list(&[(VFS[2], UNHEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn a_config_is_swapped_and_pools_that_stay_are_not_touched() {
    let running = Running::start(&[FAST, REST]);
    let (mut fast, mut rest) = (running.lists("fast").await, running.lists("rest").await);
    fast.next().await;
    rest.next().await;

    let other = "- {name: other, access: vfio, select: {pfNames: ['ens1f0#2']}}\n";
    config(&running.node, "2", &[FAST, other]);
    assert_eq!(rest.next().await, Some(List::new()), "what is no longer offered is withdrawn");
    assert_eq!(rest.next().await, None, "and that is the last word");
    let mut other = running.lists("other").await;
    assert_eq!(other.next().await, Some(list(&[(VFS[2], HEALTHY)])));
    fast.says_nothing().await;
    assert!(!running.node.at("var/lib/kubelet/device-plugins/doorbell-rest.sock").exists());
    running.ends().await;
}

#[tokio::test]
async fn a_wrong_config_changes_nothing_and_the_next_right_one_does() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.counts("doorbell_config_refused 0").await;
    config(&running.node, "2", &["- {name: fast, access: vfio}\n"]);
    fast.says_nothing().await;
    running.counts("doorbell_config_refused 1").await;
    running.counts(r#"doorbell_config_reloads_total{outcome="refused"} 1"#).await;
    running.counts(r#"doorbell_devices{pool="fast",state="healthy",reason=""} 2"#).await;
    config(&running.node, "3", &["- {name: fast, access: vfio, select: {pfNames: ['ens1f0#0']}}\n"]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY)])));
    running.counts("doorbell_config_refused 0").await;
    running.counts(r#"doorbell_config_reloads_total{outcome="applied"} 1"#).await;
    running.counts(r#"doorbell_devices{pool="fast",state="healthy",reason=""} 1"#).await;
    running.ends().await;
}

#[tokio::test]
async fn the_metrics_have_the_health_of_devices() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.unbinds(1);
    running.says("unbind", "pci", VFS[1]);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], UNHEALTHY)])));
    running.counts(r#"doorbell_devices{pool="fast",state="healthy",reason=""} 1"#).await;
    running.counts(r#"doorbell_devices{pool="fast",state="unhealthy",reason="driver"} 1"#).await;
    running.ends().await;
}

#[tokio::test]
async fn the_plugin_is_ready_while_the_kubelet_listens_to_every_pool() {
    let running = Running::start(&[FAST, REST]);
    running.answers("/healthz", 200, "ok").await;
    running.answers("/readyz", 503, "the kubelet does not listen to fast, rest").await;
    let mut fast = running.lists("fast").await;
    fast.next().await;
    running.answers("/readyz", 503, "the kubelet does not listen to rest").await;
    let mut rest = running.lists("rest").await;
    rest.next().await;
    running.answers("/readyz", 200, "ok").await;
    drop(fast);
    running.answers("/readyz", 503, "the kubelet does not listen to fast").await;
    running.ends().await;
}

#[tokio::test]
async fn a_pool_that_nobody_is_to_listen_to_any_more_keeps_none_from_being_ready() {
    let running = Running::start(&[FAST, REST]);
    let (mut fast, mut rest) = (running.lists("fast").await, running.lists("rest").await);
    fast.next().await;
    rest.next().await;
    running.answers("/readyz", 200, "ok").await;
    config(&running.node, "2", &[FAST]);
    assert_eq!(rest.next().await, Some(List::new()));
    running.answers("/readyz", 200, "ok").await;
    running.ends().await;
}

#[tokio::test]
async fn a_pool_under_another_prefix_is_another_resource() {
    let running = Running::start(&[FAST]);
    let mut fast = running.lists("fast").await;
    fast.next().await;
    config(&running.node, "2", &[FAST, "resourcePrefix: example.com\n"]);
    assert_eq!(fast.next().await, Some(List::new()));
    assert_eq!(fast.next().await, None);
    let mut fast = running.lists("fast").await;
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn a_pf_without_a_link_matters_to_the_pool_that_says_so() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }]);
    let carrier = "sys/class/net/ens1f0/carrier";
    node.write(carrier, b"0\n");
    let caring = "- {name: caring, access: vfio, pfLinkDown: unhealthy, select: {pfNames: ['ens1f0#2']}}\n";
    let running = Running::on(node, &[FAST, caring]);
    let (mut fast, mut cares) = (running.lists("fast").await, running.lists("caring").await);
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    assert_eq!(cares.next().await, Some(list(&[(VFS[2], UNHEALTHY)])));
    running.node.write(carrier, b"1\n");
    running.uevents.send(Heard::Lost).unwrap();
    assert_eq!(cares.next().await, Some(list(&[(VFS[2], HEALTHY)])));
    running.ends().await;
}

#[tokio::test]
async fn a_folder_that_is_made_anew_is_registered_in() {
    let running = Running::start(&[FAST]);
    running.lists("fast").await.next().await;
    fs::remove_dir_all(running.node.at("var/lib/kubelet/device-plugins")).unwrap();
    let mut fast = running.lists("fast").await;
    assert_eq!(fast.next().await, Some(list(&[(VFS[0], HEALTHY), (VFS[1], HEALTHY)])));
    running.ends().await;
}

#[test]
fn of_the_vfs_that_were_not_touched_nothing_is_read_again_but_where_they_are() {
    let node = Node::with(&[GOOD, Vf { group: 8, ..GOOD }, Vf { group: 9, ..GOOD }]);
    let before = discovery::survey(&node.host(), PAGE).unwrap();
    let mut touched = Touched::default();
    let message = format!("bind@/devices/pci0000:00/{}\0SUBSYSTEM=pci\0", VFS[1]);
    assert!(touched.add(&Uevent::parse(message.as_bytes()).unwrap()));
    let host = node.host().recording();
    let after = before.again(&host, PAGE, &touched).unwrap();
    assert_eq!(after.vfs, before.vfs);
    let read =
        |vf: &str| host.recorded().contains_key(Path::new(&format!("/sys/bus/pci/devices/{vf}/config")));
    assert_eq!(VFS.map(read), [false, true, false]);
}
