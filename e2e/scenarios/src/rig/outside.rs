//! The far end: a VF of the same PF as an ordinary kernel netdev, in a network namespace of its own.

use anyhow::{Context, Result, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::pci;

use crate::rig::node::command;
use crate::rig::{links, until};

const NETNS: &str = "outside";
/// Its address.
pub(crate) const ADDRESS: &str = "10.9.0.1";
/// Echo requests a ping.
pub(crate) const COUNT: u64 = 5;

/// Binds the VF to the kernel's virtio driver and gives it a namespace and an address.
pub(crate) async fn set_up(vf: &str) -> Result<()> {
    set_up_on("virtio-pci", vf).await
}

/// Likewise, with another driver.
pub(crate) async fn set_up_on(driver: &str, vf: &str) -> Result<()> {
    pci::bind(&Host::real(), vf.parse()?, driver)?;
    let netdev = links::name_of_vf(vf)?.with_context(|| format!("{vf} has no netdev"))?;
    command("ip", &["netns", "add", NETNS]).await?;
    command("ip", &["link", "set", &netdev, "netns", NETNS]).await?;
    command("ip", &["-n", NETNS, "addr", "add", &format!("{ADDRESS}/24"), "dev", &netdev]).await?;
    command("ip", &["-n", NETNS, "link", "set", &netdev, "up"]).await?;
    Ok(())
}

/// Takes its namespace down: the netdev is back on the host, and switched off.
pub(crate) async fn tear_down(vf: &str) -> Result<()> {
    command("ip", &["netns", "delete", NETNS]).await?;
    until("the far end is back", || matches!(links::name_of_vf(vf), Ok(Some(_)))).await
}

/// Pings an address from there; fails unless every request is answered.
pub(crate) async fn ping(target: &str) -> Result<()> {
    let count = COUNT.to_string();
    let arguments = ["netns", "exec", NETNS, "ping", "-n", "-c", &count, "-i", "0.2", "-W", "3", target];
    let output = command("ip", &arguments).await?;
    let all = format!("{count} received");
    ensure!(output.contains(&all), "not every ping of {target} was answered:\n{output}");
    Ok(())
}
