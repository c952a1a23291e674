//! What a configuration asks of its device beyond addresses: parsed, and held against itself and the device.
//!
//! Keys and values are those of sriov-cni (`docs/configuration-reference.md` there), so that its networks can be taken
//! over as they are. What is asked and can't be had is refused: nothing is left out in silence.

use std::ops::RangeInclusive;

use doorbell_common::formats::cni::{AttributesConf, code};
use doorbell_common::kernel::link::vf::{LinkState, Rate, VfChange, Vlan, VlanProtocol};
use doorbell_common::kernel::mac::MacAddress;
use doorbell_common::subdevice::Eligible;
use serde_json::Value;

use crate::call;
use crate::failure::Failure;

/// Keys of the network's own configuration; those after the first two are for a PF to set.
pub const KEYS: [&str; 10] = [
    MAC,
    MTU,
    "vlan",
    "vlanQoS",
    "vlanProto",
    "spoofchk",
    "trust",
    "min_tx_rate",
    "max_tx_rate",
    "link_state",
];
const MAC: &str = "mac";
const MTU: &str = "mtu";

/// Where a MAC address may stand, beside the configuration's own key.
const RUNTIME_MAC: &str = "runtimeConfig.mac";
const ARGS_MAC: &str = "args.cni.mac";
const CNI_ARGS_MAC: &str = "CNI_ARGS MAC";

/// VLAN numbers; 4095 is reserved (IEEE 802.1Q, 9.6), 0 is none.
const VLANS: RangeInclusive<u32> = 0..=4094;
/// Priority code points (IEEE 802.1Q, 6.9.3).
const PRIORITIES: RangeInclusive<u32> = 0..=7;
/// From the smallest packet of IPv4 to its largest (`ETH_MIN_MTU`, `ETH_MAX_MTU` of linux/if_ether.h).
const MTUS: RangeInclusive<u32> = 68..=65535;
const RATES: RangeInclusive<u32> = 0..=u32::MAX;

const SWITCH: [(&str, bool); 2] = [("on", true), ("off", false)];
const PROTOCOLS: [(&str, VlanProtocol); 2] =
    [("802.1q", VlanProtocol::Dot1Q), ("802.1ad", VlanProtocol::Dot1Ad)];
const LINK_STATES: [(&str, LinkState); 3] =
    [("auto", LinkState::Auto), ("enable", LinkState::Enable), ("disable", LinkState::Disable)];

/// What is asked of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// MAC address.
    pub mac: Option<MacAddress>,
    /// Bytes of the largest packet.
    pub mtu: Option<u32>,
    /// What only a PF can set, which is all but the address.
    vf: VfChange,
    /// The keys that ask, as they are called where they stand.
    keys: Vec<&'static str>,
}

impl Attributes {
    /// Parses what is asked: by the configuration, by `runtimeConfig.mac`, and by `CNI_ARGS`.
    pub fn parse(conf: &AttributesConf, runtime_mac: Option<&str>, args: &str) -> Result<Self, Failure> {
        let mac = mac(conf, runtime_mac, args)?;
        let mtu = number(MTU, conf.mtu.as_ref(), MTUS)?;
        let vf = VfChange {
            mac: None,
            vlan: vlan(conf)?,
            rate: rate(conf)?,
            spoof_check: word("spoofchk", conf.spoof_check.as_ref(), &SWITCH)?,
            trust: word("trust", conf.trust.as_ref(), &SWITCH)?,
            link_state: word("link_state", conf.link_state.as_ref(), &LINK_STATES)?,
        };
        let values = [
            &conf.mtu,
            &conf.vlan,
            &conf.vlan_qos,
            &conf.vlan_protocol,
            &conf.spoof_check,
            &conf.trust,
            &conf.min_tx_rate,
            &conf.max_tx_rate,
            &conf.link_state,
        ];
        let others = KEYS[1..].iter().zip(values).filter(|(_, value)| value.is_some()).map(|(key, _)| *key);
        let keys = mac.iter().map(|(key, _)| *key).chain(others).collect();
        Ok(Self { mac: mac.map(|(_, mac)| mac), mtu, vf, keys })
    }

    /// The keys that ask for something, as they are called where they stand.
    #[must_use]
    pub fn keys(&self) -> &[&'static str] {
        &self.keys
    }

    /// What a PF is to set of its VF; nothing, where nothing is asked.
    #[must_use]
    pub fn change(&self) -> VfChange {
        VfChange { mac: self.mac, ..self.vf.clone() }
    }

    /// Refuses what such a device can't have; `in_vm` says whether it is an interface of its VM.
    pub fn fit(&self, device: &Eligible, in_vm: bool) -> Result<(), Failure> {
        let of_pf = self.keys.iter().find(|key| KEYS[2..].contains(key));
        if let (Some(key), None) = (of_pf, device.parent.vf()) {
            return Err(bad(format!("{key} is for a PF to set, and device {} stands on no VF", device.id)));
        }
        if self.mtu.is_some() && !device.access.is_netdev() && !in_vm {
            let (id, access) = (&device.id, device.access);
            return Err(bad(format!("mtu is for a network interface, and {id} gives none in mode {access}")));
        }
        Ok(())
    }
}

/// What the runtime asks for goes before what the network has for all; with it, where it stands.
fn mac(
    conf: &AttributesConf,
    runtime: Option<&str>,
    args: &str,
) -> Result<Option<(&'static str, MacAddress)>, Failure> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let in_args = conf.args.as_ref().and_then(|args| args.cni.as_ref()?.mac.as_ref());
    let places = [
        (RUNTIME_MAC, runtime.map(str::to_owned)),
        (ARGS_MAC, in_args.map(text)),
        (CNI_ARGS_MAC, call::arg(args, "MAC").map(str::to_owned)),
        (MAC, conf.mac.as_ref().map(text)),
    ];
    let Some((key, text)) = places.into_iter().find_map(|(key, text)| Some((key, text?))) else {
        return Ok(None);
    };
    let refused = |what: &str| {
        let code = if key == CNI_ARGS_MAC { code::BAD_ENVIRONMENT } else { code::BAD_CONFIG };
        Failure::new(code, format!("{key} `{text}` is {what}"))
    };
    let mac: MacAddress = text.parse().map_err(|_| refused("no MAC address"))?;
    // All zeros would give a VF's choice back; the first bit on the wire says that it is a group's.
    let octets = mac.octets();
    if octets == [0; 6] || octets[0] & 1 == 1 {
        return Err(refused("no MAC address of one device"));
    }
    Ok(Some((key, mac)))
}

fn vlan(conf: &AttributesConf) -> Result<Option<Vlan>, Failure> {
    let id = number("vlan", conf.vlan.as_ref(), VLANS)?;
    let qos = number("vlanQoS", conf.vlan_qos.as_ref(), PRIORITIES)?.unwrap_or_default();
    let protocol = word("vlanProto", conf.vlan_protocol.as_ref(), &PROTOCOLS)?.unwrap_or_default();
    if id.unwrap_or_default() == 0 && qos != 0 {
        return Err(bad(format!("vlanQoS {qos} needs a vlan")));
    }
    if id.unwrap_or_default() == 0 && protocol == VlanProtocol::Dot1Ad {
        return Err(bad("vlanProto 802.1ad needs a vlan"));
    }
    let narrow = "the ranges are";
    Ok(id.map(|id| Vlan {
        id: u16::try_from(id).expect(narrow),
        qos: u8::try_from(qos).expect(narrow),
        protocol,
    }))
}

/// One of the two without the other leaves that one at 0: nothing for sure, or no limit.
fn rate(conf: &AttributesConf) -> Result<Option<Rate>, Failure> {
    let min = number("min_tx_rate", conf.min_tx_rate.as_ref(), RATES)?;
    let max = number("max_tx_rate", conf.max_tx_rate.as_ref(), RATES)?;
    if min.is_none() && max.is_none() {
        return Ok(None);
    }
    let rate = Rate { min: min.unwrap_or_default(), max: max.unwrap_or_default() };
    if rate.max != 0 && rate.min > rate.max {
        return Err(bad(format!("min_tx_rate {} is more than max_tx_rate {}", rate.min, rate.max)));
    }
    Ok(Some(rate))
}

fn number(key: &str, value: Option<&Value>, range: RangeInclusive<u32>) -> Result<Option<u32>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    match number.filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(bad(format!("{key} {value} is no number from {} to {}", range.start(), range.end()))),
    }
}

fn word<T: Copy>(key: &str, value: Option<&Value>, words: &[(&str, T)]) -> Result<Option<T>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let known = |text: &str| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
    match value.as_str().and_then(known) {
        Some((_, meaning)) => Ok(Some(*meaning)),
        None => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(bad(format!("{key} {value} is none of {}", words.join(", "))))
        }
    }
}

fn bad(msg: impl Into<String>) -> Failure {
    Failure::new(code::BAD_CONFIG, msg)
}

#[cfg(test)]
mod tests;
