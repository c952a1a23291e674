//! The list that rtnetlink has of a PF's VFs, and what it says of one.
//!
//! There is no question for a single VF. The list is one attribute, whose length is 16 bits: without counters a VF
//! takes 196 bytes of it (236 with InfiniBand's GUIDs), so that 334 (277) fit, and with counters 296, so that 221 do.
//! Kernels let the length overflow: the list then seems to end early, and what follows it is not what it seems
//! (`rtnl_fill_vf`, `nla_nest_end` of 6.12). Or they refuse with EMSGSIZE, which kernels before 6.14 also do over GUIDs
//! that they have made no room for.

use netlink_packet_route::link::{LinkExtentMask, LinkMessage};
use nix::errno::Errno;

use crate::kernel::mac::MacAddress;
use crate::kernel::netlink::{Netlink, NetlinkError};

use super::super::{IFLA_IFNAME, attributes, called, get, nested, text};
use super::{LinkState, Rate, VfAttributes, VfError, Vlan, VlanProtocol};

/// Attributes of the kernel's `include/uapi/linux/if_link.h`.
const IFLA_NUM_VF: u16 = 21;
pub(super) const IFLA_VFINFO_LIST: u16 = 22;
pub(super) const IFLA_VF_MAC: u16 = 1;
const IFLA_VF_VLAN: u16 = 2;
const IFLA_VF_SPOOFCHK: u16 = 4;
const IFLA_VF_LINK_STATE: u16 = 5;
const IFLA_VF_RATE: u16 = 6;
const IFLA_VF_TRUST: u16 = 9;
const IFLA_VF_VLAN_LIST: u16 = 12;
/// Bytes of a VF in the list, at least.
const A_VF: usize = 196;
/// EtherType of a provider's tag (ETH_P_8021AD).
const ETHERTYPE_8021AD: u16 = 0x88a8;

/// What a PF, by the index of its link, holds of one of its VFs.
pub fn read(netlink: &mut Netlink, pf: u32, vf: u32) -> Result<VfAttributes, VfError> {
    let mut question = LinkMessage::default();
    question.header.index = pf;
    match netlink.request_raw(0, get(question, &[LinkExtentMask::Vf])) {
        Ok(answers) => find(answers.first().map_or(&[], |answer| &answer.payload), vf),
        Err(NetlinkError::Refused { source: Errno::EMSGSIZE, .. }) => {
            Err(VfError::TooMany { pf: called(netlink, pf), vf })
        }
        Err(source) => Err(VfError::Unlisted { pf: called(netlink, pf), source }),
    }
}

/// One VF of an answer about its PF.
fn find(payload: &[u8], vf: u32) -> Result<VfAttributes, VfError> {
    let (mut name, mut total, mut list) = ("", 0, None);
    for (kind, value) in attributes(payload) {
        match kind {
            IFLA_IFNAME => name = text(value).unwrap_or_default(),
            IFLA_NUM_VF => total = number(value, 0).unwrap_or_default(),
            IFLA_VFINFO_LIST => {
                list = Some(value);
                // Where the length overflowed, what follows is the rest of the list.
                break;
            }
            _ => {}
        }
    }
    let pf = name.to_owned();
    // The kernel counts the VFs of the device right below a link, and below a virtio PF's that is no PCI function.
    if total == 0 {
        return Err(VfError::NoList { pf });
    }
    if vf >= total {
        return Err(VfError::NoVf { pf, vf, total });
    }
    let Some(list) = list else {
        // An overflow may leave a length that is none.
        let fits = usize::try_from(total).is_ok_and(|total| total <= usize::from(u16::MAX) / A_VF);
        return Err(if fits { VfError::NoList { pf } } else { VfError::TooMany { pf, vf } });
    };
    let mut listed = 0;
    for (number, found) in nested(list).filter_map(|(_, entry)| parse(entry)) {
        if number == vf {
            return Ok(found);
        }
        listed += 1;
    }
    Err(VfError::NotListed { pf, vf, listed, total })
}

/// A VF's number and what is held of it; `None` where an attribute is missing that all kernels write.
fn parse(entry: &[u8]) -> Option<(u32, VfAttributes)> {
    let (mut mac, mut vlan, mut rate) = (None, None, None);
    let (mut spoof_check, mut trust, mut link_state) = (None, None, LinkState::default());
    for (kind, value) in nested(entry) {
        // Each opens with the VF's number.
        let (first, second) = (number(value, 1), number(value, 2));
        match kind {
            IFLA_VF_MAC => {
                let octets = value.get(4..).and_then(<[u8]>::first_chunk::<6>);
                mac = number(value, 0).zip(octets.copied());
            }
            // The list says the protocol too, and comes later; kernels before 4.9 have none.
            IFLA_VF_VLAN => vlan = as_vlan(first, second, VlanProtocol::Dot1Q),
            IFLA_VF_VLAN_LIST => vlan = nested(value).find_map(|(_, entry)| in_list(entry)).or(vlan),
            IFLA_VF_RATE => rate = first.zip(second).map(|(min, max)| Rate { min, max }),
            IFLA_VF_SPOOFCHK => spoof_check = first.and_then(switch),
            IFLA_VF_TRUST => trust = first.and_then(switch),
            IFLA_VF_LINK_STATE => {
                link_state = match first {
                    Some(1) => LinkState::Enable,
                    Some(2) => LinkState::Disable,
                    _ => LinkState::Auto,
                }
            }
            _ => {}
        }
    }
    let ((vf, octets), vlan, rate) = (mac?, vlan?, rate?);
    let mac = MacAddress::from(octets);
    Some((vf, VfAttributes { mac, vlan, rate, spoof_check, trust, link_state }))
}

/// An entry of IFLA_VF_VLAN_LIST (`struct ifla_vf_vlan_info`), whose protocol is in network order.
fn in_list(value: &[u8]) -> Option<Vlan> {
    let ethertype = u16::from_be_bytes(*value.get(12..)?.first_chunk()?);
    let provider = ethertype == ETHERTYPE_8021AD;
    let protocol = if provider { VlanProtocol::Dot1Ad } else { VlanProtocol::Dot1Q };
    as_vlan(number(value, 1), number(value, 2), protocol)
}

fn as_vlan(id: Option<u32>, qos: Option<u32>, protocol: VlanProtocol) -> Option<Vlan> {
    Some(Vlan { id: u16::try_from(id?).ok()?, qos: u8::try_from(qos?).ok()?, protocol })
}

/// A switch as a driver tells it: -1 where it does not.
fn switch(setting: u32) -> Option<bool> {
    (setting != u32::MAX).then_some(setting != 0)
}

/// A word of a structure of 32-bit numbers.
pub(super) fn number(value: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*value.get(place * size_of::<u32>()..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
