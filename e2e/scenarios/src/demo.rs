//! `make demo`: the main job, told as it happens, and `make demo-kata` that of VMs. Exit code 0 only if all of it happened.

use std::env;
use std::time::Instant;

use anyhow::{Context, Result};
use e2e_scenarios::{find, host};
use e2e_testbed::Testbed;

fn main() -> Result<()> {
    let began = Instant::now();
    let name = env::args().nth(1).unwrap_or_else(|| "main_job".to_owned());
    let scenario = find(&name).with_context(|| format!("there is no scenario {name}"))?;
    let testbed = Testbed::open(&|step| println!("testbed: {step}"))?;
    println!("booting a VM with a virtio-net PF, its VFs and an IOMMU");
    let outcome = host::run(&testbed, scenario, &[], &mut |line| println!("{line}"))?;
    println!(
        "{name} is done: the guest ran its first command {:.1} s after its start; {:.1} s in all",
        outcome.times.ready.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
