//! Scenarios: what a user does with Doorbell, in a VM with real VFs, real IOMMU and real containerd.
//!
//! A scenario is a file: a function that runs in the guest, tells its [`story`] and fails at the first thing that is
//! not as it should be. [`SCENARIOS`] says what machine each one needs. [`host`] builds the binaries and boots the
//! machine; [`rig`] is what a scenario is told with.

mod busy;
mod chain;
mod dan;
pub mod figures;
mod granularity;
mod guards;
pub mod host;
mod igb;
mod installation;
mod installed;
mod installed_chained;
mod installed_vdpa;
mod isolation;
mod kata;
mod killed;
mod kubelet_restart;
mod late_del;
mod live;
mod main_job;
mod memlock;
mod netdevs;
mod power_cycle;
mod reboot;
mod refusals;
mod rig;
mod sharing;
mod software;
mod sole_network;
mod storm;
mod story;
mod stray;
mod testpmd;
mod vhost_vdpa;
mod ways;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;
use e2e_testbed::{Iommu, Machine, Pf};

pub use story::Story;

type Run = fn(Story) -> Pin<Box<dyn Future<Output = Result<()>>>>;

/// One scenario.
pub struct Scenario {
    /// Its name, as the guest's program and the test know it.
    pub name: &'static str,
    /// The machine that it needs.
    pub machine: fn() -> Result<Machine>,
    /// Whether the plugin is installed there: by the image, and by what the chart makes.
    pub installs: bool,
    /// What happens in the guest.
    pub run: Run,
}

macro_rules! scenario {
    ($module:ident :: $function:ident on $machine:expr) => {
        scenario!($module::$function on $machine, installs: false)
    };
    ($module:ident :: $function:ident installed on $machine:expr) => {
        scenario!($module::$function on $machine, installs: true)
    };
    ($module:ident :: $function:ident on $machine:expr, installs: $installs:expr) => {
        Scenario {
            name: stringify!($function),
            machine: || Ok($machine),
            installs: $installs,
            run: |story| Box::pin($module::$function(story)),
        }
    };
}

/// All scenarios.
pub const SCENARIOS: [Scenario; 41] = [
    scenario!(main_job::main_job on Machine::new([Pf::virtio(4)?])),
    scenario!(late_del::late_del on Machine::new([Pf::virtio(4)?])),
    scenario!(granularity::granularity on Machine::new([Pf::virtio(2)?, Pf::virtio_page_per_vq(2)?, Pf::igb()])),
    scenario!(kubelet_restart::kubelet_restart on Machine::new([Pf::virtio(2)?])),
    scenario!(live::vf_rebind on Machine::new([Pf::virtio(4)?])),
    scenario!(live::unplug on Machine::new([Pf::virtio(4)?])),
    scenario!(live::vfs_gone_and_back on Machine::new([Pf::virtio(4)?])),
    scenario!(live::config_swap on Machine::new([Pf::virtio(4)?])),
    scenario!(live::pf_link_down on Machine::new([Pf::virtio(4)?])),
    scenario!(live::plugin_killed on Machine::new([Pf::virtio(4)?])),
    scenario!(live::containerd_restart on Machine::new([Pf::virtio(4)?])),
    scenario!(live::kubelet_folder_anew on Machine::new([Pf::virtio(4)?])),
    scenario!(live::plugin_watcher on Machine::new([Pf::virtio(4)?])),
    scenario!(figures::figures on Machine::new([Pf::virtio(4)?])),
    scenario!(storm::storm on Machine::new([Pf::virtio(4)?])),
    scenario!(refusals::refusals on Machine::new([Pf::virtio(2)?])),
    scenario!(busy::busy on Machine::new([Pf::virtio(2)?])),
    scenario!(ways::ways on Machine::new([Pf::virtio(4)?])),
    scenario!(sharing::sharing on Machine::new([Pf::virtio(4)?])),
    scenario!(chain::chain on Machine::new([Pf::virtio(2)?])),
    scenario!(sole_network::sole_network on Machine::new([Pf::virtio(2)?])),
    scenario!(kata::kata on Machine::new([Pf::virtio(3)?]).memory_mib(2048).vmm()),
    scenario!(guards::guards on Machine::new([Pf::virtio(2)?, Pf::virtio(1)?])),
    scenario!(reboot::reboot_by_cdi on Machine::new([Pf::virtio(2)?, Pf::virtio(2)?, Pf::virtio(1)?])),
    scenario!(reboot::reboot_by_device_spec on Machine::new([Pf::virtio(2)?, Pf::virtio(2)?, Pf::virtio(1)?])),
    scenario!(power_cycle::power_cycle on Machine::new([Pf::virtio(2)?, Pf::virtio(2)?]).resets(1)),
    scenario!(testpmd::testpmd on Machine::new([Pf::virtio(2)?, Pf::virtio_page_per_vq(2)?])),
    scenario!(memlock::memlock on Machine::new([Pf::virtio(4)?])),
    scenario!(vhost_vdpa::vhost_vdpa on Machine::new([Pf::virtio_page_per_vq(4)?, Pf::virtio(2)?])),
    scenario!(software::software on Machine::new([])),
    scenario!(netdevs::netdevs on Machine::new([Pf::virtio(4)?, Pf::virtio(1)?])),
    scenario!(netdevs::netdevs_beside on Machine::new([Pf::virtio(4)?, Pf::virtio(1)?])),
    scenario!(igb::igb on Machine::new([Pf::igb()])),
    scenario!(isolation::no_iommu on Machine::new([Pf::virtio(2)?]).iommu(Iommu::Off)),
    scenario!(isolation::no_interrupt_remapping on Machine::new([Pf::virtio(2)?]).iommu(Iommu::NoInterruptRemapping)),
    scenario!(installed_vdpa::installed_vdpa installed on Machine::new([Pf::virtio_page_per_vq(2)?])),
    scenario!(installed_chained::installed_chained installed on Machine::new([Pf::virtio(4)?])),
    scenario!(installed::installed installed on Machine::new([Pf::virtio(4)?])),
    scenario!(stray::stray on Machine::new([Pf::virtio_page_per_vq(2)?])),
    scenario!(killed::killed_making on Machine::new([Pf::virtio_page_per_vq(1)?])),
    scenario!(killed::killed_taking_back on Machine::new([Pf::virtio_page_per_vq(1)?])),
];

/// The scenario of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
