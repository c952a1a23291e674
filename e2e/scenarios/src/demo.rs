//! `make demo`: the main job, told as it happens. Exit code 0 only if all of it happened.

use std::time::Instant;

use anyhow::{Context, Result};
use e2e_scenarios::{find, host};
use e2e_testbed::Testbed;

fn main() -> Result<()> {
    let began = Instant::now();
    let testbed = Testbed::open(&|step| println!("testbed: {step}"))?;
    let scenario = find("main_job").context("there is no main job")?;
    println!("booting a VM with a virtio-net PF, 4 VFs and an IOMMU");
    let outcome = host::run(&testbed, scenario, &[], &mut |line| println!("{line}"))?;
    println!(
        "the main job is done: the guest ran its first command {:.1} s after its start; {:.1} s in all",
        outcome.times.ready.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
