//! Network interfaces of the host, as `ip` shows them.

use anyhow::{Context, Result, ensure};
use doorbell_common::host::Host;
use doorbell_common::kernel::{net, pci};
use serde_json::Value;

use crate::rig::node::command;

/// All that `ip` says of an interface but its number, which the kernel gives anew where it is taken, and its queueing
/// discipline, which it gets once it is switched on for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link(Value);

impl Link {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.0["ifname"].as_str().unwrap_or_default()
    }

    /// Whether it is switched on.
    pub(crate) fn is_up(&self) -> bool {
        self.0["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"))
    }
}

/// Name of the one interface of a PF.
pub(crate) fn name_of_pf(pf: &str) -> Result<String> {
    name_of_vf(pf)?.with_context(|| format!("{pf} has no interface"))
}

/// Name of the one interface of a VF on the host, if it has one there.
pub(crate) fn name_of_vf(vf: &str) -> Result<Option<String>> {
    let mut names = net::interfaces(&Host::real(), &pci::folder(vf.parse()?))?;
    ensure!(names.len() <= 1, "{vf} has several interfaces: {names:?}");
    Ok(names.pop())
}

/// The interface of a VF on the host.
pub(crate) async fn of_vf(vf: &str) -> Result<Link> {
    let name = name_of_vf(vf)?.with_context(|| format!("{vf} has no interface on the host"))?;
    let mut shown = show(&name).await?;
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|name, _| name != "ifindex" && name != "qdisc");
    }
    Ok(Link(shown))
}

/// What `ip` says of an interface of the host.
pub(crate) async fn show(name: &str) -> Result<Value> {
    let shown = command("ip", &["-json", "-details", "link", "show", "dev", name]).await?;
    let mut shown: Vec<Value> = serde_json::from_str(&shown)?;
    shown.pop().with_context(|| format!("ip shows no {name}"))
}
