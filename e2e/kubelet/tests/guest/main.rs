//! The double over a real containerd: real sandboxes, a real CNI chain, real containers.
//!
//! On the host this program boots the testbed with itself as the job; in the guest it runs the tests, one after the
//! other, since a guest has one containerd.

// Helpers may panic like the tests that they serve; clippy excuses only the test functions themselves.
#![allow(clippy::unwrap_used)]

mod devices;
// Shared with the tests that run anywhere; not all of it is wanted here.
#[allow(dead_code)]
#[path = "../double/fake_plugin.rs"]
mod fake_plugin;
mod guest;
mod network;
mod pods;
mod restarts;

use std::time::Duration;

use doorbell_common::error::chain;
use e2e_testbed::{Job, Machine, Testbed};

/// The arguments that say that this is the guest, and which tests it is for.
const IN_GUEST: &str = "in-the-guest";
const POWER_CYCLE: &str = "power-cycle";
/// For all tests, on a busy host.
const TIME_LIMIT: Duration = Duration::from_secs(400);

macro_rules! run {
    ($runtime:ident: $($module:ident::$test:ident),+ $(,)?) => {$(
        println!("test {}", stringify!($test));
        $runtime.block_on($module::$test());
    )+};
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some(IN_GUEST) => in_the_guest(),
        Some(POWER_CYCLE) => power_cycle(),
        // What test runners ask for; to them all of it is one test.
        Some("--list") => println!("guest: test"),
        Some(filter) if !filter.starts_with('-') && !"guest".contains(filter) => {}
        _ => {
            on_the_host(IN_GUEST, &Machine::new([]));
            on_the_host(POWER_CYCLE, &Machine::new([]).resets(1));
        }
    }
}

fn on_the_host(tests: &str, machine: &Machine) {
    let testbed = Testbed::open(&|step| println!("testbed: {step}"));
    let testbed = testbed.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let job = Job::program(std::env::current_exe().unwrap(), [tests]).time_limit(TIME_LIMIT);
    let outcome = testbed.run(machine, &job, &mut |line| println!("{line}"));
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
    assert_eq!(outcome.exit_code, 0, "a test in the guest failed");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn power_cycle() {
    let runtime = runtime();
    run!(runtime: restarts::a_pod_of_before_a_power_cycle_is_started_again_by_a_new_process);
}

fn in_the_guest() {
    let runtime = runtime();
    run!(runtime:
        pods::a_pod_lives_from_its_sandbox_to_its_removal,
        pods::exit_codes_and_both_streams_are_seen,
        pods::init_containers_run_one_by_one_before_the_containers,
        pods::a_pod_on_the_hosts_network_calls_no_cni,
        pods::a_container_that_is_not_root_uses_the_nodes_huge_pages,
        network::a_plugins_refusal_reaches_the_caller_and_the_pod_may_be_started_again,
        network::a_late_del_of_an_old_sandbox_comes_after_the_new_add,
        devices::the_answer_is_what_the_container_sees,
        devices::a_refused_pre_start_leaves_no_container,
        restarts::a_running_pod_is_readmitted_without_its_plugin_and_a_stopped_one_is_not,
        restarts::a_pod_of_before_the_reboot_is_started_again_from_the_checkpoint,
    );
}
