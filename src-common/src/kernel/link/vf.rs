//! What a PF holds of one of its VFs: addresses, VLAN, rates and checks, by the VF's number.
//!
//! Reads by the one list that rtnetlink has of them (`vf/read.rs`); sets by number, without that list. Follows
//! `do_setvfinfo` of the kernel's `net/core/rtnetlink.c`.

mod error;
mod read;
mod traffic;

use std::fmt;

use netlink_packet_route::link::{
    LinkAttribute, LinkMessage, LinkVfInfo, VfInfo, VfInfoLinkState, VfInfoMac, VfInfoRate, VfInfoSpoofCheck,
    VfInfoTrust, VfLinkState, VfVlan, VfVlanInfo,
};
use serde::{Deserialize, Serialize};

use crate::kernel::mac::MacAddress;
use crate::kernel::netlink::{Netlink, NetlinkError};

use super::{Request, called};

pub use error::VfError;
pub use read::read;
pub use traffic::{Carried, Traffic, traffic_of};

/// What a PF holds of a VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VfAttributes {
    /// The address that the PF gave it; all zeros where it gave none.
    pub mac: MacAddress,
    /// The VLAN that it is in, unaware of it.
    pub vlan: Vlan,
    /// How fast it may send.
    pub rate: Rate,
    /// Whether it may send under its own address only; `None` where the driver does not say.
    pub spoof_check: Option<bool>,
    /// Whether it may do what concerns others, such as promiscuous mode; `None` where the driver does not say.
    pub trust: Option<bool>,
    /// The link that it sees.
    pub link_state: LinkState,
}

/// A port VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// Its number, 1 to 4095; 0 is none.
    pub id: u16,
    /// Priority of the tags, 0 to 7.
    pub qos: u8,
    /// What the tags are.
    pub protocol: VlanProtocol,
}

/// The tag of a VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum VlanProtocol {
    /// A customer's, EtherType 0x8100.
    #[default]
    #[serde(rename = "802.1q")]
    Dot1Q,
    /// A provider's, EtherType 0x88a8; few drivers take it (EPROTONOSUPPORT).
    #[serde(rename = "802.1ad")]
    Dot1Ad,
}

/// How fast a VF may send, in Mbit/s. The kernel sets both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// What it has for sure; 0 is nothing. Few drivers take another (EINVAL).
    pub min: u32,
    /// What it has at most; 0 is without a limit.
    pub max: u32,
}

/// The link that a VF sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// The PF's own.
    #[default]
    Auto,
    /// Always there, so that VFs of one PF reach each other without a cable.
    Enable,
    /// Never there.
    Disable,
}

/// What is to be otherwise of a VF. What is `None` stays.
///
/// As a document it goes into a claim, to bring back what was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VfChange {
    /// As in [`VfAttributes`]; all zeros give the choice back to the VF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// As in [`VfAttributes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// As in [`VfAttributes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// As in [`VfAttributes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoof_check: Option<bool>,
    /// As in [`VfAttributes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<bool>,
    /// As in [`VfAttributes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_state: Option<LinkState>,
}

/// What can be set of a VF, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// [`VfChange::mac`].
    Mac,
    /// [`VfChange::vlan`].
    Vlan,
    /// [`VfChange::rate`].
    Rate,
    /// [`VfChange::spoof_check`].
    SpoofCheck,
    /// [`VfChange::trust`].
    Trust,
    /// [`VfChange::link_state`].
    LinkState,
}

impl VfChange {
    /// The part of this change that comes before an attribute: what has been done when that one failed.
    #[must_use]
    pub fn before(&self, attribute: Attribute) -> Self {
        let done = |part| part < attribute;
        Self {
            mac: self.mac.filter(|_| done(Attribute::Mac)),
            vlan: self.vlan.filter(|_| done(Attribute::Vlan)),
            rate: self.rate.filter(|_| done(Attribute::Rate)),
            spoof_check: self.spoof_check.filter(|_| done(Attribute::SpoofCheck)),
            trust: self.trust.filter(|_| done(Attribute::Trust)),
            link_state: self.link_state.filter(|_| done(Attribute::LinkState)),
        }
    }

    /// The change that brings back what was, of all that this one touches.
    #[must_use]
    pub fn back_to(&self, was: &VfAttributes) -> Self {
        Self {
            mac: self.mac.and(Some(was.mac)),
            vlan: self.vlan.and(Some(was.vlan)),
            rate: self.rate.and(Some(was.rate)),
            spoof_check: self.spoof_check.and(was.spoof_check),
            trust: self.trust.and(was.trust),
            link_state: self.link_state.and(Some(was.link_state)),
        }
    }

    /// The change in the kernel's terms, part by part.
    fn parts(&self, vf: u32) -> impl Iterator<Item = (Attribute, VfInfo)> {
        let vlan = |vlan: Vlan| {
            let protocol = vlan.protocol.into();
            vec![VfVlan::Info(VfVlanInfo::new(vf, vlan.id.into(), vlan.qos.into(), protocol))]
        };
        let parts = [
            self.mac.map(|mac| (Attribute::Mac, VfInfo::Mac(VfInfoMac::new(vf, &mac.octets())))),
            // IFLA_VF_VLAN, the older form, has no protocol.
            self.vlan.map(|to| (Attribute::Vlan, VfInfo::VlanList(vlan(to)))),
            self.rate.map(|to| (Attribute::Rate, VfInfo::Rate(VfInfoRate::new(vf, to.min, to.max)))),
            self.spoof_check
                .map(|on| (Attribute::SpoofCheck, VfInfo::SpoofCheck(VfInfoSpoofCheck::new(vf, on)))),
            self.trust.map(|on| (Attribute::Trust, VfInfo::Trust(VfInfoTrust::new(vf, on)))),
            self.link_state
                .map(|to| (Attribute::LinkState, VfInfo::LinkState(VfInfoLinkState::new(vf, to.into())))),
        ];
        parts.into_iter().flatten()
    }
}

/// Changes a VF through its PF, a request an attribute in the order of [`Attribute`], up to the first that fails.
///
/// The VF's own driver, or whoever drives it, may have to start anew to see a new address or VLAN.
pub fn set(netlink: &mut Netlink, pf: u32, vf: u32, change: &VfChange) -> Result<(), VfError> {
    for (attribute, part) in change.parts(vf) {
        let Err(error) = netlink.request_raw(0, request(pf, part)) else { continue };
        let pf = called(netlink, pf);
        return Err(match error {
            NetlinkError::Refused { source, message } => {
                VfError::Refused { pf, vf, attribute, message, source }
            }
            source => VfError::Unset { pf, vf, attribute, source },
        });
    }
    Ok(())
}

fn request(pf: u32, part: VfInfo) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = pf;
    message.attributes.push(LinkAttribute::VfInfoList(vec![LinkVfInfo(vec![part])]));
    Request::SetLink(message)
}

impl From<VlanProtocol> for netlink_packet_route::link::VlanProtocol {
    fn from(protocol: VlanProtocol) -> Self {
        match protocol {
            VlanProtocol::Dot1Q => Self::Ieee8021Q,
            VlanProtocol::Dot1Ad => Self::Ieee8021Ad,
        }
    }
}

impl From<LinkState> for VfLinkState {
    fn from(state: LinkState) -> Self {
        match state {
            LinkState::Auto => Self::Auto,
            LinkState::Enable => Self::Enable,
            LinkState::Disable => Self::Disable,
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mac => "the MAC address",
            Self::Vlan => "the VLAN",
            Self::Rate => "the rate",
            Self::SpoofCheck => "spoof check",
            Self::Trust => "trust",
            Self::LinkState => "the link state",
        })
    }
}

#[cfg(test)]
mod tests;
