//! Bringing a device's interface back to the host, from wherever the pod's end has left it.
//!
//! A pod's namespace may stand, or have been taken down with the interface in it. Then the kernel brings a device's
//! interface to the host by itself and under whatever name is free, but not at once (`cleanup_net` in the kernel's
//! `net/core/net_namespace.c`, `default_device_exit_net` in `net/core/dev.c`). The interface of a device that was taken
//! away, or off its driver, is no more.

use std::thread;
use std::time::{Duration, Instant};

use doorbell_common::claim::Netdev;
use doorbell_common::error::chain;
use doorbell_common::formats::cni::code;
use doorbell_common::host::Host;
use doorbell_common::kernel::link::{self, Link, LinkChange, LinkError, LinkName};
use doorbell_common::kernel::net;
use doorbell_common::kernel::netlink::Netlink;
use doorbell_common::kernel::netns::{Netns, NetnsError};

use crate::failure::Failure;

use super::{at, free, open, own};

/// A namespace without processes is gone within a moment; one behind others in the kernel's queue takes longer.
const BACK_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// Of interfaces whose name on the host was taken meanwhile.
const RENAMED: &str = "dbl";

/// Brings an interface back to the host and makes it what it was there; fine where that is so, or where it is no more.
/// `netns` are the files by which the pod's namespace is or was known.
pub fn bring_back(host: &Host, step: &Netdev, netns: &[&str]) -> Result<(), Failure> {
    bring_back_within(host, step, netns, BACK_WITHIN)
}

pub(super) fn bring_back_within(
    host: &Host,
    step: &Netdev,
    netns: &[&str],
    within: Duration,
) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    let own = own(host)?;
    let mut netlink = open(&own)?;
    loop {
        // First: who never left must not be looked for among those of the pod.
        if let Some(link) = at(host, &mut netlink, &step.home)? {
            return Ok(settle(&mut netlink, &link, step)?);
        }
        if !net::has_interface(host, &step.home)? {
            return Ok(());
        }
        let mut seen = Vec::new();
        for path in netns {
            match Netns::at(host, path) {
                Ok(pod) => {
                    if let Some(link) = out_of(&pod, &own, &mut netlink, step)? {
                        return Ok(settle(&mut netlink, &link, step)?);
                    }
                    seen.push(format!("it is not in {path}"));
                }
                Err(error @ (NetnsError::Absent(_) | NetnsError::NoNamespace(_))) => {
                    seen.push(error.to_string());
                }
                // It may come to the host nonetheless.
                Err(error) => seen.push(chain(&error)),
            }
        }
        if Instant::now() >= deadline {
            let msg = format!("network interface {} is not back on the host", step.name);
            return Err(Failure::new(code::TRY_AGAIN, msg).with_details(seen.join("; ")));
        }
        thread::sleep(PAUSE);
    }
}

/// Takes the interface out of a pod, where it is there.
fn out_of(pod: &Netns, own: &Netns, netlink: &mut Netlink, step: &Netdev) -> Result<Option<Link>, Failure> {
    let links = link::list(&mut open(pod)?)?;
    // By name alone where the kernel names no device below it: a link with one is another's.
    let is_ours = |link: &Link| match &step.device {
        Some(_) => link.parent == step.device,
        None => link.parent.is_none() && link.name == step.inside,
    };
    let Some(ours) = links.into_iter().find(is_ours) else { return Ok(None) };
    let name = match link::by_name(netlink, &step.name)? {
        None => step.name.clone(),
        Some(_) => free(netlink, RENAMED, ours.index)?,
    };
    Ok(Some(link::move_to(pod, ours.index, own, &name)?))
}

/// Makes an interface on the host what it was there, as far as it is not. It keeps its name where its old one is taken.
fn settle(netlink: &mut Netlink, link: &Link, step: &Netdev) -> Result<(), LinkError> {
    let change = LinkChange {
        name: name(netlink, link, &step.name)?,
        mac: step.mac.filter(|mac| link.mac != Some(*mac)),
        mtu: (link.mtu != step.mtu).then_some(step.mtu),
        up: None,
    };
    let nothing = change == LinkChange::default();
    if nothing && link.up == step.up {
        return Ok(());
    }
    // Kernels before 6.2 rename no link that is up, and some drivers change no address then.
    if !nothing && link.up {
        link::set(netlink, link.index, &LinkChange { up: Some(false), ..Default::default() })?;
    }
    link::set(netlink, link.index, &LinkChange { up: Some(step.up), ..change })
}

/// The name that a link is to have and has not, where it is free.
fn name(netlink: &mut Netlink, link: &Link, wanted: &LinkName) -> Result<Option<LinkName>, LinkError> {
    let free = link.name != *wanted && link::by_name(netlink, wanted)?.is_none();
    Ok(free.then(|| wanted.clone()))
}
