//! Links of PFs, for pools to which one that is down makes its devices useless (`pfLinkDown: unhealthy`).

use std::collections::BTreeMap;
use std::future::pending;

use anyhow::Result;
use doorbell_common::host::Host;
use doorbell_common::kernel::net;
use doorbell_common::kernel::netlink::{Heard, Listener, protocols};
use doorbell_common::kernel::pci::{self, PciAddress};
use doorbell_common::subdevice::DeviceId;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tracing::warn;

use crate::config::{Config, PfLinkDown, Pool};
use crate::heard;
use crate::inventory::Inventory;

/// `RTMGRP_LINK` of `linux/rtnetlink.h`.
const GROUP: u32 = 1;

/// What the kernel says of links, where a pool wants to know.
#[derive(Default)]
pub struct Links(Option<BoxStream<'static, Result<Heard>>>);

impl Links {
    /// Listens where the config has a pool that cares, in the network namespace of the thread. Where that is not the
    /// host's no link of a PF is ever said to change: it shows at the next look at everything.
    pub fn follow(&mut self, config: &Config) {
        let cared = caring(config).next().is_some();
        if !cared {
            self.0 = None;
        } else if self.0.is_none() {
            let heard = Listener::open(protocols::NETLINK_ROUTE, GROUP).map_err(anyhow::Error::from);
            match heard.and_then(heard::stream) {
                Ok(heard) => self.0 = Some(heard.boxed()),
                Err(error) => {
                    warn!(
                        error = format!("{error:#}"),
                        "links are not listened to, looking at them now and then"
                    );
                }
            }
        }
    }

    /// Returns when some link changed, be it of a PF or not: a look at the few that matter tells.
    pub async fn changed(&mut self) -> Result<()> {
        match &mut self.0 {
            Some(heard) => match heard.next().await {
                Some(heard) => heard.map(drop),
                None => pending().await,
            },
            None => pending().await,
        }
    }
}

fn caring(config: &Config) -> impl Iterator<Item = &Pool> {
    config.pools.iter().filter(|pool| pool.pf_link_down == PfLinkDown::Unhealthy)
}

/// Devices whose PF has no link, of the pools that care.
#[must_use]
pub fn down(host: &Host, config: &Config, inventory: &Inventory) -> BTreeMap<DeviceId, String> {
    let pools = caring(config).filter_map(|pool| inventory.pools.get(&pool.name));
    let mut pfs: BTreeMap<PciAddress, Option<String>> = BTreeMap::new();
    let mut down = BTreeMap::new();
    for device in pools.flat_map(|pool| pool.devices.values()) {
        let Some(pf) = device.pf else { continue };
        if let Some(reason) = pfs.entry(pf).or_insert_with(|| why_down(host, pf)) {
            down.insert(device.id.clone(), reason.clone());
        }
    }
    down
}

/// Why a PF has no link: none of its interfaces on the wire has a carrier. `None` where one has, and where that can't be
/// said: a PF without an interface of the kernel's, or one that is in another network namespace.
#[must_use]
pub fn why_down(host: &Host, pf: PciAddress) -> Option<String> {
    let mut interfaces = net::interfaces(host, &pci::folder(pf)).unwrap_or_default();
    interfaces.retain(|name| !net::is_representor(host, name).unwrap_or(false));
    let up = |name: &String| net::has_carrier(host, name).unwrap_or(true);
    let is_down = !interfaces.is_empty() && !interfaces.iter().any(up);
    is_down.then(|| format!("the link of PF {pf} ({}) is down", interfaces.join(", ")))
}
