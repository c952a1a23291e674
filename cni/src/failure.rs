//! The error of every verb, and the codes that CNI leaves to plugins. One function a source turns it into a code.

use std::error::Error;

use doorbell_common::allocation::AllocationError;
use doorbell_common::claim::ClaimError;
use doorbell_common::error::chain;
use doorbell_common::formats::cni::{ErrorReply, VERSIONS, code};
use doorbell_common::formats::descriptor::DescriptorError;
use doorbell_common::host::HostError;
use doorbell_common::kernel::link::LinkError;
use doorbell_common::kernel::link::vf::VfError;
use doorbell_common::kernel::netns::NetnsError;
use doorbell_common::trial::TrialError;
use serde_json::Value;

/// The config names a device that the plugin does not advertise.
pub const NO_SUCH_DEVICE: u32 = 100;
/// The config names a device that the kubelet gave to another pod, or to none.
pub const NOT_THIS_PODS: u32 = 101;
/// No device is named and the pod holds none, or several, of ours.
pub const NOT_ONE: u32 = 102;
/// The device is not, or no longer, what its descriptor and the record of its allocation say.
pub const NOT_ELIGIBLE: u32 = 103;
/// The doorbell could not be mapped.
pub const TRIAL_FAILED: u32 = 104;
/// The device's claim can't be read, so nobody can say whose it is.
pub const BAD_CLAIM: u32 = 105;
/// The device's network interface could not be moved, or made what it is to be.
pub const INTERFACE_FAILED: u32 = 107;
/// The device's PF refuses what is asked of its VF.
pub const VF_REFUSED: u32 = 108;

/// What CHECK finds otherwise than ADD wired it.
pub const NOT_AS_WIRED: u32 = 109;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// A code of the specification, or one of the above.
    pub code: u32,
    /// What failed.
    pub msg: String,
    /// Why.
    pub details: String,
}

impl Failure {
    /// A failure without a cause beneath.
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// With the error that caused it.
    pub fn because(self, error: &(dyn Error + 'static)) -> Self {
        self.with_details(chain(error))
    }

    /// With more to tell.
    pub fn with_details(mut self, details: impl AsRef<str>) -> Self {
        if !self.details.is_empty() && !details.as_ref().is_empty() {
            self.details += "; ";
        }
        self.details += details.as_ref();
        self
    }

    /// The error document, in the version of the request where that can be told.
    pub fn document(&self, request: &[u8]) -> String {
        let newest = VERSIONS[VERSIONS.len() - 1];
        let asked = serde_json::from_slice::<Value>(request).ok();
        let asked = asked.as_ref().and_then(|request| request.get("cniVersion")?.as_str());
        let version = VERSIONS.into_iter().find(|version| Some(*version) == asked).unwrap_or(newest);
        let (msg, details) = (self.msg.clone(), self.details.clone());
        ErrorReply { cni_version: version.to_owned(), code: self.code, msg, details }.document()
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::new(code::IO, chain(&error))
    }
}

impl From<DescriptorError> for Failure {
    fn from(error: DescriptorError) -> Self {
        let code = match error {
            DescriptorError::Host(_) => code::IO,
            DescriptorError::Malformed { .. } | DescriptorError::Foreign { .. } => NOT_ELIGIBLE,
        };
        Self::new(code, chain(&error))
    }
}

impl From<AllocationError> for Failure {
    fn from(error: AllocationError) -> Self {
        let code = match error {
            AllocationError::Host(_) => code::IO,
            AllocationError::Malformed { .. } | AllocationError::Foreign { .. } => NOT_ELIGIBLE,
        };
        Self::new(code, chain(&error))
    }
}

impl From<ClaimError> for Failure {
    fn from(error: ClaimError) -> Self {
        let code = match error {
            ClaimError::Locked(_) => code::TRY_AGAIN,
            ClaimError::Malformed { .. } | ClaimError::Foreign { .. } => BAD_CLAIM,
            ClaimError::Host(_) | ClaimError::Lock { .. } => code::IO,
        };
        Self::new(code, chain(&error))
    }
}

impl From<TrialError> for Failure {
    fn from(error: TrialError) -> Self {
        let code = if error.is_busy() { code::TRY_AGAIN } else { TRIAL_FAILED };
        Self::new(code, chain(&error))
    }
}

impl From<NetnsError> for Failure {
    fn from(error: NetnsError) -> Self {
        Self::new(INTERFACE_FAILED, chain(&error))
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::new(INTERFACE_FAILED, chain(&error))
    }
}

impl From<VfError> for Failure {
    fn from(error: VfError) -> Self {
        Self::new(VF_REFUSED, chain(&error))
    }
}
