//! The plugin is killed at each step of preparing, and of taking back: the next start comes to the same state.
//!
//! strace kills it as it enters its n-th system call that changes something: writing a file or a sysfs attribute,
//! renaming, removing, and starting the thread that asks the kernel by netlink.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::vdpa;
use e2e_kubelet::Kubelet;
use serde_json::Value;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::{Node, vdpa_modules};
use crate::rig::plugin::{FAST, OTHER, Plugin, WITHOUT};

const WITH: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vhost-vdpa
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 1}
";
const PF: &str = "/sys/bus/pci/devices/0000:01:00.0";
const VF: &str = "/sys/bus/pci/devices/0000:01:00.1";
const CALLS: [&str; 4] = ["write", "rename", "unlink", "clone3"];
/// Far more than there are steps.
const MOST: u32 = 200;
const FEWEST: u32 = 20;
const UP_WITHIN: Duration = Duration::from_secs(30);

/// Killed while it makes.
pub(crate) async fn killed_making(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let (nothing, prepared) = both_states(&story, &node.kubelet).await?;
    let steps = each_step(&node.kubelet, (WITH, FAST, &prepared), (WITHOUT, OTHER, &nothing)).await?;
    story
        .tell(format!("killed at each of {steps} steps of preparing: the next start came to the same state"));
    Ok(())
}

/// Killed while it takes back.
pub(crate) async fn killed_taking_back(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let (nothing, prepared) = both_states(&story, &node.kubelet).await?;
    start_and_stop(&node.kubelet, WITH, FAST).await?;
    let steps = each_step(&node.kubelet, (WITHOUT, OTHER, &nothing), (WITH, FAST, &prepared)).await?;
    story.tell(format!(
        "killed at each of {steps} steps of taking back: the next start came to the same state"
    ));
    Ok(())
}

/// The node with nothing made, and with all of it, both reached undisturbed.
async fn both_states(story: &Story, kubelet: &Kubelet) -> Result<(State, State)> {
    vdpa_modules().await?;
    let nothing = state()?;
    start_and_stop(kubelet, WITH, FAST).await?;
    let prepared = state()?;
    ensure!(prepared != nothing, "nothing was prepared");
    story.quote(format!("prepared: {prepared:?}"));
    start_and_stop(kubelet, WITHOUT, OTHER).await?;
    ensure!(state()? == nothing, "not all is taken back: {:?}", state()?);
    Ok((nothing, prepared))
}

type State = BTreeMap<String, String>;

/// A config, a resource by whose registration its start is seen to be over, and the state that it leads to.
type Target<'a> = (&'a str, &'a str, &'a State);

/// [`each_call`] for every kind of call, as strace counts each by itself. Gives how many steps there are in all.
async fn each_step(kubelet: &Kubelet, there: Target<'_>, back: Target<'_>) -> Result<u32> {
    let mut steps = 0;
    for call in CALLS {
        steps += each_call(kubelet, call, there, back).await?;
    }
    ensure!(steps > FEWEST, "there were {steps} steps only: it was not killed where it should be");
    Ok(steps)
}

/// From the state of `back`, starts with the other config, killed at the first such call, then at the second, and so
/// on; after each, an undisturbed start has to come to its state. Gives how many there are.
async fn each_call(
    kubelet: &Kubelet,
    call: &str,
    (config, resource, wanted): Target<'_>,
    (back, back_resource, before): Target<'_>,
) -> Result<u32> {
    for step in 1..MOST {
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=SIGKILL:when={step}"));
        let strace = ["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let registered = kubelet.registrations(resource);
        let mut killed = Plugin::start_under(&strace, config).await?;
        let survived = tokio::select! {
            ended = killed.ended() => {
                ended?;
                false
            }
            up = kubelet.wait_registrations(resource, registered + 1, UP_WITHIN) => {
                up.with_context(|| format!("{call} {step}: neither killed nor up"))?;
                true
            }
        };
        drop(killed);
        start_and_stop(kubelet, config, resource)
            .await
            .with_context(|| format!("after a kill at {call} {step}"))?;
        let now = state()?;
        ensure!(now == *wanted, "a kill at {call} {step} led to {now:?}, not {wanted:?}");
        start_and_stop(kubelet, back, back_resource)
            .await
            .with_context(|| format!("back from {call} {step}"))?;
        let now = state()?;
        ensure!(now == *before, "back from {call} {step} there is {now:?}, not {before:?}");
        if survived {
            return Ok(step - 1);
        }
    }
    bail!("more than {MOST} steps")
}

/// Starts the plugin and ends it once it is registered: by then all is prepared.
async fn start_and_stop(kubelet: &Kubelet, config: &str, resource: &str) -> Result<()> {
    let before = kubelet.registrations(resource);
    let plugin = Plugin::start(config).await?;
    kubelet.wait_registrations(resource, before + 1, WITHIN).await?;
    plugin.terminate().await?;
    Ok(())
}

/// What the plugin has made, as the kernel and its records have it.
fn state() -> Result<State> {
    let host = Host::real();
    let mut state = State::new();
    for file in ["sriov_numvfs", "sriov_drivers_autoprobe"] {
        state.insert(file.to_owned(), host.read_text(format!("{PF}/{file}"))?);
    }
    let driver = host.link_name(format!("{VF}/driver"))?;
    state.insert("driver".to_owned(), driver.unwrap_or_default());
    for device in vdpa::list(&host)? {
        state.insert(format!("vdpa {}", device.name), format!("{:?} {:?}", device.parent, device.driver));
    }
    state.insert("autoprobe".to_owned(), vdpa::autoprobe(&host)?.to_string());
    for name in host.list("/var/lib/doorbell/made")? {
        let record: Value = serde_json::from_str(&host.read_text(format!("/var/lib/doorbell/made/{name}"))?)?;
        state.insert(format!("record {name}"), record["steps"].to_string());
    }
    Ok(state)
}
