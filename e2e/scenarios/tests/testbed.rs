//! Every scenario, each in a machine of its own. They fail where the testbed can't be built.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use e2e_scenarios::{find, host};
use e2e_testbed::Testbed;

fn scenario(name: &str) {
    let testbed = Testbed::open(&|step| println!("testbed: {step}"));
    let run = testbed
        .map_err(anyhow::Error::from)
        .and_then(|testbed| host::run(&testbed, find(name).unwrap(), &[], &mut |line| println!("{line}")));
    run.map_or_else(|error| panic!("{error:#}"), drop);
}

#[test]
fn two_pods_ring_the_doorbells_of_their_own_vfs() {
    scenario("main_job");
}

#[test]
fn a_late_del_of_an_old_sandbox_changes_nothing() {
    scenario("late_del");
}

#[test]
fn a_doorbell_is_per_device_or_per_queue() {
    scenario("granularity");
}

#[test]
fn pools_are_registered_again_after_a_kubelet_restart() {
    scenario("kubelet_restart");
}

#[test]
fn what_is_not_the_pods_is_refused() {
    scenario("refusals");
}

#[test]
fn a_held_device_is_busy_and_its_holder_named() {
    scenario("busy");
}

#[test]
fn nothing_is_advertised_without_an_iommu() {
    scenario("no_iommu");
}

#[test]
fn nothing_is_advertised_without_interrupt_remapping() {
    scenario("no_interrupt_remapping");
}

#[test]
fn a_device_is_driven_by_its_group_or_by_its_own_node_and_not_by_root_alone() {
    scenario("ways");
}

#[test]
fn containers_restart_and_share_with_the_devices_that_are_theirs() {
    scenario("sharing");
}

#[test]
fn every_pod_of_a_node_passes_the_chain() {
    scenario("chain");
}

#[test]
fn the_plugin_is_a_network_of_its_own() {
    scenario("sole_network");
}

#[test]
fn vms_of_kata_get_their_vfs_by_cold_plug_and_by_a_dan_file_and_ring_them_directly() {
    scenario("kata");
}

#[test]
fn what_changes_behind_the_plugins_back_is_refused_with_its_reason() {
    scenario("guards");
}

#[test]
fn a_replayed_cdi_name_leads_to_the_right_device_after_a_reboot() {
    scenario("reboot_by_cdi");
}

#[test]
fn replayed_nodes_of_another_device_are_refused_after_a_reboot() {
    scenario("reboot_by_device_spec");
}

#[test]
fn a_pod_has_its_own_device_after_a_power_cycle() {
    scenario("power_cycle");
}

#[test]
fn dpdk_answers_pings_on_the_vf_that_it_was_given() {
    scenario("testpmd");
}

#[test]
fn a_consumer_maps_what_it_may_lock_and_more_with_the_capability() {
    scenario("memlock");
}

#[test]
fn a_vdpa_device_on_a_vf_is_rung_by_its_page_or_by_an_eventfd() {
    scenario("vhost_vdpa");
}

#[test]
fn simulators_and_mdevs_are_made_opened_and_taken_back() {
    scenario("software");
}

#[test]
fn the_daemonset_makes_vdpa_devices_with_net_admin_on_the_hosts_network() {
    scenario("installed_vdpa");
}

#[test]
fn a_device_that_a_stranger_holds_is_unhealthy_and_nothing_is_taken_away_under_it() {
    scenario("stray");
}

#[test]
fn a_plugin_killed_at_any_step_of_preparing_comes_to_the_same_state() {
    scenario("killed_making");
}

#[test]
fn a_plugin_killed_at_any_step_of_taking_back_comes_to_the_same_state() {
    scenario("killed_taking_back");
}

#[test]
fn network_interfaces_of_vfs_go_into_pods_and_come_back_however_these_end() {
    scenario("netdevs");
}

#[test]
fn in_a_chain_a_pod_has_its_vfs_interfaces_beside_its_own() {
    scenario("netdevs_beside");
}

#[test]
fn what_a_pf_is_asked_of_its_vf_is_set_and_given_back() {
    scenario("igb");
}

#[test]
fn a_vf_that_is_bound_elsewhere_is_unhealthy_until_it_is_back() {
    scenario("vf_rebind");
}

#[test]
fn a_pf_that_is_unplugged_and_plugged_in_is_prepared_again() {
    scenario("unplug");
}

#[test]
fn vfs_that_go_and_come_are_prepared_and_advertised_again() {
    scenario("vfs_gone_and_back");
}

#[test]
fn a_config_that_is_swapped_is_in_force_and_a_wrong_one_is_not() {
    scenario("config_swap");
}

#[test]
fn a_pf_without_a_link_matters_to_pools_that_say_so() {
    scenario("pf_link_down");
}

#[test]
fn a_plugin_that_is_killed_comes_back_to_what_pods_have() {
    scenario("plugin_killed");
}

#[test]
fn containerd_restarts_under_a_pod_that_keeps_its_device() {
    scenario("containerd_restart");
}

#[test]
fn the_kubelets_folder_is_made_anew() {
    scenario("kubelet_folder_anew");
}

#[test]
fn the_kubelets_plugin_watcher_finds_the_pools() {
    scenario("plugin_watcher");
}

#[test]
fn what_things_cost_can_be_measured() {
    scenario("figures");
}

#[test]
fn whatever_happens_the_node_is_as_it_was() {
    scenario("storm");
}

#[test]
fn the_chart_keeps_the_plugin_in_the_conflist_of_a_node_without_multus() {
    scenario("installed_chained");
}

#[test]
fn the_daemonset_of_the_manifest_serves_and_needs_all_that_it_asks_for() {
    scenario("installed");
}
