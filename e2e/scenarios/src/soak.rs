//! `make soak N=100`: so many sequences of the storm, in machines that are started for a few each. A seed that fails is
//! told, and `make soak SEED=<seed> N=1` replays it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use e2e_scenarios::{find, host};
use e2e_testbed::Testbed;

/// Within a machine's time.
const A_MACHINE: u64 = 12;

fn main() -> Result<()> {
    let number =
        |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse());
    let sequences: u64 = number("N").transpose().context("N is no number")?.unwrap_or(100);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let seed: u64 = number("SEED").transpose().context("SEED is no number")?.unwrap_or(now.as_secs());
    let testbed = Testbed::open(&|step| println!("testbed: {step}"))?;
    let storm = find("storm").context("there is no storm")?;
    let began = Instant::now();
    let last = seed.saturating_add(sequences);
    for first in (seed..last).step_by(usize::try_from(A_MACHINE)?) {
        let arguments = [first, A_MACHINE.min(last - first)].map(|number| number.to_string());
        println!("soak: SEED={} N={}", arguments[0], arguments[1]);
        host::run(&testbed, storm, &arguments, &mut |line| println!("{line}"))?;
    }
    println!(
        "soak: {sequences} sequences from seed {seed} on passed in {:.0} s",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
