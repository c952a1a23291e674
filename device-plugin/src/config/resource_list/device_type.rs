//! What the devices of a resource of sriov-network-device-plugin are.

use super::tree::At;

/// What the devices of a resource are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceType {
    NetDevice,
    Accelerator,
    AuxNetDevice,
}

impl DeviceType {
    /// Of `deviceType`.
    pub(super) fn read(field: &At<'_>) -> Option<Self> {
        match field.text()? {
            "" | "netDevice" => Some(Self::NetDevice),
            "accelerator" => Some(Self::Accelerator),
            "auxNetDevice" => Some(Self::AuxNetDevice),
            other => {
                field.refuse(format!(
                    "`{other}` is no device type: expected netDevice, accelerator or auxNetDevice"
                ));
                None
            }
        }
    }
}
