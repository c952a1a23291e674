//! Selecting VFs by their PF: `ens1f0#0-7,9`, `0000:01:00.0#0-3`.

use std::ops::RangeInclusive;
use std::str::FromStr;

use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::sriov::Pf;
use serde::{Deserialize, de};

/// A PF and which of its VFs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PfSelector {
    /// The PF.
    pub pf: PfName,
    /// Numbers of VFs; empty for all.
    ranges: Vec<RangeInclusive<u32>>,
}

/// A PF by the name of its network interface, or by its address where its driver makes none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PfName {
    /// Name of the PF's netdev.
    Netdev(String),
    /// Address of the PF.
    Address(PciAddress),
}

/// A PF by its address alone, and which of its VFs: `0000:01:00.0#0-3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDevice(PfSelector);

/// Why a string selects no VFs.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` selects no VFs: expected <PF's interface or address>, then at will #<from>-<to>,<number>,…")]
pub struct BadSelector(String);

/// Why a string is no root device.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no root device: expected <PF's address>, then at will #<from>-<to>,<number>,…")]
pub struct BadRootDevice(String);

impl PfSelector {
    /// Whether it selects VF `index` of `pf`.
    #[must_use]
    pub fn selects(&self, pf: &Pf, index: u32) -> bool {
        self.pf.is(pf) && (self.ranges.is_empty() || self.ranges.iter().any(|range| range.contains(&index)))
    }
}

impl RootDevice {
    /// The selector that it is a narrower form of.
    #[must_use]
    pub fn selector(&self) -> &PfSelector {
        &self.0
    }
}

impl PfName {
    /// Whether it names this PF.
    #[must_use]
    pub fn is(&self, pf: &Pf) -> bool {
        match self {
            Self::Netdev(name) => pf.netdevs.contains(name),
            Self::Address(address) => pf.address == *address,
        }
    }
}

impl FromStr for PfSelector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Self, BadSelector> {
        let bad = || BadSelector(text.to_owned());
        let (pf, ranges) = match text.split_once('#') {
            None => (text, Vec::new()),
            Some((pf, list)) => (pf, list.split(',').map(range).collect::<Option<_>>().ok_or_else(bad)?),
        };
        // An interface name has no slash, no space and no colon (dev_valid_name in net/core/dev.c).
        let pf = match pf.parse() {
            Ok(address) => PfName::Address(address),
            Err(_) if pf.is_empty() || pf.contains(['/', ' ', ':']) => return Err(bad()),
            Err(_) => PfName::Netdev(pf.to_owned()),
        };
        Ok(Self { pf, ranges })
    }
}

impl FromStr for RootDevice {
    type Err = BadRootDevice;

    fn from_str(text: &str) -> Result<Self, BadRootDevice> {
        match text.parse() {
            Ok(selector @ PfSelector { pf: PfName::Address(_), .. }) => Ok(Self(selector)),
            Ok(_) | Err(BadSelector(_)) => Err(BadRootDevice(text.to_owned())),
        }
    }
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
    let (from, to) = (number(from)?, number(to)?);
    (from <= to).then_some(from..=to)
}

impl<'de> Deserialize<'de> for PfSelector {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for RootDevice {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl std::fmt::Display for PfSelector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.pf.fmt(f)?;
        for (index, range) in self.ranges.iter().enumerate() {
            f.write_str(if index == 0 { "#" } else { "," })?;
            match (range.start(), range.end()) {
                (one, same) if one == same => one.fmt(f)?,
                (from, to) => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Display for RootDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for PfName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Netdev(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pf() -> Pf {
        Pf { address: "0000:01:00.0".parse().unwrap(), netdevs: vec!["ens1f0".to_owned()], vfs: Vec::new() }
    }

    #[test]
    fn ranges_are_inclusive() {
        let selector: PfSelector = "ens1f0#0-2,7".parse().unwrap();
        let selected: Vec<u32> = (0..10).filter(|index| selector.selects(&pf(), *index)).collect();
        assert_eq!(selected, [0, 1, 2, 7]);
    }

    #[test]
    fn a_pf_without_a_netdev_has_an_address() {
        assert!("0000:01:00.0".parse::<PfSelector>().unwrap().selects(&pf(), 99));
        assert!(!"ens2f0".parse::<PfSelector>().unwrap().selects(&pf(), 0));
    }

    #[test]
    fn nonsense_selects_nothing() {
        for bad in
            ["", "#1", "ens1f0#", "ens1f0#3-1", "ens1f0#a", "ens1f0#1,", "ens1f0#+1", "0000:01:00.9", "ens 1"]
        {
            assert!(bad.parse::<PfSelector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_root_device_is_an_address() {
        let root: RootDevice = "0000:01:00.0#1-2".parse().unwrap();
        let selected: Vec<u32> = (0..5).filter(|index| root.selector().selects(&pf(), *index)).collect();
        assert_eq!(selected, [1, 2]);
        for bad in ["ens1f0", "ens1f0#1", "01:00.0", "0000:01:00.0#", ""] {
            assert!(bad.parse::<RootDevice>().is_err(), "{bad}");
        }
    }
}
