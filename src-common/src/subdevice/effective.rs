//! How a consumer's ring reaches the device, and what each vDPA driver lets it map for that.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::doorbell::{self, Doorbell};

/// How a ring of the consumer reaches the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effective {
    /// The page is mapped into the consumer: no exit, no system call.
    Direct,
    /// The consumer is a VM whose VMM emulates the page: each ring leaves the VM.
    Trapped,
    /// The consumer writes an eventfd, and the kernel rings.
    Eventfd,
    /// The kernel has the rings, and rings itself.
    Kernel,
    /// There is no doorbell to ring.
    None,
}

/// What a vDPA driver lets a consumer map as a queue's doorbell (`get_vq_notification` in its source). The vhost core
/// maps exactly one page, and looks at nothing but its alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Maps {
    /// As much as the notify multiplier says; of 0, nothing or a page.
    Multiplier {
        /// Whether 0 stands for a page.
        zero_is_a_page: bool,
    },
    /// A page that only the driver knows the device's layout of.
    Attested,
    /// Nothing.
    Nothing,
}

/// The drivers of parents, as they are called on their bus.
const DRIVERS: [(&str, Maps); 6] = [
    ("vp-vdpa", Maps::Multiplier { zero_is_a_page: false }),
    ("ifcvf", Maps::Multiplier { zero_is_a_page: true }),
    ("mlx5_core", Maps::Attested),
    ("mlx5_core.sf", Maps::Attested),
    ("eni-vdpa", Maps::Nothing),
    ("snet-vdpa-driver", Maps::Nothing),
];

/// How the consumer of a vhost-vdpa device on such a driver rings, or why it must not be let near.
///
/// A page that the driver maps has to hold nothing else; one that it does not map may.
pub(super) fn rung(
    driver: Option<&str>,
    doorbell: Result<&Doorbell, &doorbell::Refusal>,
    page: u64,
) -> Result<Effective, String> {
    let driver = driver.unwrap_or("no driver");
    let Some((_, maps)) = DRIVERS.iter().find(|(name, _)| *name == driver) else {
        return Err(format!("what {driver} maps as a doorbell is not known"));
    };
    let mapped = match (maps, doorbell) {
        (Maps::Attested, _) => return Ok(Effective::Direct),
        (Maps::Nothing, _) => false,
        (Maps::Multiplier { zero_is_a_page }, Ok(Doorbell { stride: 0, .. })) => *zero_is_a_page,
        (Maps::Multiplier { .. }, Ok(Doorbell { stride, .. })) => u64::from(*stride) == page,
        // Without its layout it can't be told whether the driver maps it.
        (Maps::Multiplier { .. }, Err(_)) => true,
    };
    match doorbell {
        _ if !mapped => Ok(Effective::Eventfd),
        Ok(_) => Ok(Effective::Direct),
        Err(refusal) => Err(refusal.to_string()),
    }
}

impl Effective {
    /// Why it is so, for people; `stride` is the doorbell's, where it is known.
    #[must_use]
    pub fn reason(self, driver: Option<&str>, stride: Option<u32>) -> String {
        let driver = driver.unwrap_or("a simulator");
        let by_multiplier =
            |(name, maps): &(&str, Maps)| *name == driver && matches!(maps, Maps::Multiplier { .. });
        match (self, stride.filter(|_| DRIVERS.iter().any(by_multiplier))) {
            (Self::Direct, _) => format!("{driver} maps it into the consumer"),
            (Self::Trapped, _) => "the MSI-X table lies in its page, which a VMM emulates".to_owned(),
            (Self::Eventfd, Some(stride)) => format!(
                "{driver} maps a doorbell only where the notify multiplier is the page size, and it is {stride:#x}"
            ),
            (Self::Eventfd, None) => format!("{driver} maps no doorbell"),
            (Self::Kernel, _) => "the kernel drives the rings".to_owned(),
            (Self::None, _) => "there are no rings".to_owned(),
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Trapped => "trapped",
            Self::Eventfd => "eventfd",
            Self::Kernel => "kernel",
            Self::None => "none",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doorbell::{Granularity, Hull};

    const PAGE: u64 = 0x1000;

    fn doorbell(stride: u32) -> Doorbell {
        Doorbell {
            bar: 4,
            bar_length: 0x80_0000,
            offset: 0x3000,
            length: 0x1000,
            stride,
            granularity: Granularity::Queue,
            hull: Hull { start: 0x3000, length: 0x1000 },
        }
    }

    fn rung_by(driver: &str, stride: u32) -> Result<Effective, String> {
        rung(Some(driver), Ok(&doorbell(stride)), PAGE)
    }

    #[test]
    fn vp_vdpa_maps_a_page_per_queue_and_nothing_else() {
        assert_eq!(rung_by("vp-vdpa", 0x1000), Ok(Effective::Direct));
        for stride in [0, 4, 0x2000] {
            assert_eq!(rung_by("vp-vdpa", stride), Ok(Effective::Eventfd), "{stride}");
        }
    }

    #[test]
    fn a_multiplier_of_zero_is_a_page_to_ifcvf() {
        assert_eq!(rung_by("ifcvf", 0), Ok(Effective::Direct));
        assert_eq!(rung_by("ifcvf", 4), Ok(Effective::Eventfd));
    }

    #[test]
    fn a_page_that_would_be_mapped_and_is_not_verified_is_refused() {
        let refusal = doorbell::Refusal::NoNotify;
        assert!(rung(Some("vp-vdpa"), Err(&refusal), PAGE).is_err());
        assert_eq!(rung(Some("eni-vdpa"), Err(&refusal), PAGE), Ok(Effective::Eventfd));
    }

    #[test]
    fn an_eventfd_has_its_reason_from_the_driver() {
        let reason = |driver, stride| Effective::Eventfd.reason(driver, stride);
        assert!(reason(Some("vp-vdpa"), Some(4)).ends_with("the page size, and it is 0x4"));
        assert_eq!(reason(Some("eni-vdpa"), Some(4)), "eni-vdpa maps no doorbell");
        assert_eq!(reason(None, None), "a simulator maps no doorbell");
    }

    #[test]
    fn a_driver_that_nobody_knows_is_refused() {
        assert_eq!(rung_by("new-vdpa", 0x1000).unwrap_err(), "what new-vdpa maps as a doorbell is not known");
    }
}
