//! What the VFs of a PF have carried, where its driver counts that.

use std::collections::BTreeMap;

use netlink_packet_route::link::{LinkExtentMask, LinkMessage};
use netlink_sys::protocols;

use crate::host::Host;
use crate::kernel::netlink::Netlink;
use crate::kernel::pci::{self, PciAddress};
use crate::kernel::{net, sriov};

use super::super::{attributes, by_name, get_with_counters, nested};
use super::read::{IFLA_VF_MAC, IFLA_VFINFO_LIST, number};

/// Attributes of the kernel's `include/uapi/linux/if_link.h`.
const IFLA_VF_STATS: u16 = 8;
const IFLA_VF_STATS_RX_PACKETS: u16 = 0;
const IFLA_VF_STATS_TX_PACKETS: u16 = 1;
const IFLA_VF_STATS_RX_BYTES: u16 = 2;
const IFLA_VF_STATS_TX_BYTES: u16 = 3;
const IFLA_VF_STATS_RX_DROPPED: u16 = 7;
const IFLA_VF_STATS_TX_DROPPED: u16 = 8;

/// What one VF has carried since it was made, or since its driver began to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// What it has received.
    pub received: Carried,
    /// What it has sent.
    pub sent: Carried,
}

/// One direction of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Packets.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// What the VFs of a PF have carried, by their addresses; `None` where that can't be asked: the PF has no interface in the
/// network namespace of the caller, or none that says whose it is, as it does since Linux 5.14.
pub fn traffic_of(host: &Host, pf: PciAddress) -> Option<BTreeMap<PciAddress, Traffic>> {
    let mut netlink = Netlink::open(protocols::NETLINK_ROUTE).ok()?;
    let name_of_pf = pf.to_string();
    // Names are those of the host's namespace, in which another interface may have it than here.
    let names = net::interfaces(host, &pci::folder(pf)).ok()?;
    let mut links = names.iter().filter_map(|name| by_name(&mut netlink, &name.parse().ok()?).ok()?);
    let link = links.find(|link| link.parent.as_ref() == Some(&name_of_pf))?;
    let counted = traffic(&mut netlink, link.index)?;
    let vfs = sriov::vfs(host, pf).ok()?;
    Some(vfs.into_iter().filter_map(|(vf, address)| Some((address, *counted.get(&vf)?))).collect())
}

/// What the VFs of a PF, by the index of its link, have carried, by their numbers. A VF of which all is 0 is left out: the
/// kernel says so for a driver that counts nothing, too.
///
/// Of more than 221 VFs the kernel lists, with their counters, only a part (see [`mod@super::read`]).
fn traffic(netlink: &mut Netlink, pf: u32) -> Option<BTreeMap<u32, Traffic>> {
    let mut question = LinkMessage::default();
    question.header.index = pf;
    let answers = netlink.request_raw(0, get_with_counters(question, &[LinkExtentMask::Vf])).ok()?;
    answers.first().map(|answer| parse(&answer.payload))
}

fn parse(payload: &[u8]) -> BTreeMap<u32, Traffic> {
    let list =
        attributes(payload).find(|(kind, _)| *kind == IFLA_VFINFO_LIST).map_or(&[][..], |(_, list)| list);
    let vfs = nested(list).filter_map(|(_, entry)| of_vf(entry));
    vfs.filter(|(_, traffic)| *traffic != Traffic::default()).collect()
}

fn of_vf(entry: &[u8]) -> Option<(u32, Traffic)> {
    let (mut vf, mut traffic) = (None, Traffic::default());
    for (kind, value) in nested(entry) {
        match kind {
            IFLA_VF_MAC => vf = number(value, 0),
            IFLA_VF_STATS => nested(value).for_each(|(kind, value)| traffic.set(kind, value)),
            _ => {}
        }
    }
    Some((vf?, traffic))
}

impl Traffic {
    fn set(&mut self, kind: u16, value: &[u8]) {
        let Some(count) = value.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes)) else { return };
        match kind {
            IFLA_VF_STATS_RX_PACKETS => self.received.packets = count,
            IFLA_VF_STATS_TX_PACKETS => self.sent.packets = count,
            IFLA_VF_STATS_RX_BYTES => self.received.bytes = count,
            IFLA_VF_STATS_TX_BYTES => self.sent.bytes = count,
            IFLA_VF_STATS_RX_DROPPED => self.received.dropped = count,
            IFLA_VF_STATS_TX_DROPPED => self.sent.dropped = count,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::link::{LinkAttribute, LinkVfInfo, VfInfo, VfInfoMac, VfStats as Stats};
    use proptest::prelude::*;

    use super::*;

    /// A message as the kernel writes it, by a crate that knows the format.
    fn message(vfs: Vec<Vec<VfInfo>>) -> Vec<u8> {
        let mut message = LinkMessage::default();
        let vfs = vfs.into_iter().map(LinkVfInfo).collect();
        message.attributes.push(LinkAttribute::VfInfoList(vfs));
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    fn mac(vf: u32) -> VfInfo {
        VfInfo::Mac(VfInfoMac::new(vf, &[0; 6]))
    }

    #[test]
    fn each_vf_has_what_its_driver_counted() {
        let counted = VfInfo::Stats(vec![
            Stats::RxPackets(3),
            Stats::TxPackets(4),
            Stats::RxBytes(300),
            Stats::TxBytes(u64::MAX),
            Stats::Broadcast(9),
            Stats::RxDropped(1),
            Stats::TxDropped(2),
        ]);
        let none = VfInfo::Stats(vec![Stats::RxPackets(0), Stats::TxPackets(0)]);
        let vfs = parse(&message(vec![vec![mac(0), none], vec![mac(5), counted], vec![mac(6)]]));
        let received = Carried { packets: 3, bytes: 300, dropped: 1 };
        let sent = Carried { packets: 4, bytes: u64::MAX, dropped: 2 };
        assert_eq!(vfs, BTreeMap::from([(5, Traffic { received, sent })]));
    }

    proptest! {
        #[test]
        fn no_message_is_too_odd(payload: Vec<u8>) {
            parse(&payload);
        }
    }
}
