//! Whether a VF attaches.

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::iommu::GroupId;
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::{iommu, sriov};
use doorbell_common::trial::{self, TrialError};
use serde::{Deserialize, Serialize};

use super::{Question, ask, is_denied};

/// What an attach showed of a PF's VFs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Proof {
    /// They attach.
    Attaches,
    /// The kernel refuses one that nobody has.
    Fails(String),
    /// No VF of the PF could be opened.
    Untried(String),
}

impl From<Result<(), TrialError>> for Proof {
    fn from(attached: Result<(), TrialError>) -> Self {
        match attached {
            Ok(()) => Self::Attaches,
            Err(error) if error.is_busy() => Self::Untried("every VF of its PF is in use".to_owned()),
            // What was not opened says nothing of interrupts.
            Err(error @ (TrialError::Open { .. } | TrialError::Nodes(_) | TrialError::NotReal)) => {
                Self::Untried(chain(&error))
            }
            Err(error) => Self::Fails(chain(&error)),
        }
    }
}

/// By ourselves, or by the prover where we may open no device node.
pub fn attach(host: &Host, address: PciAddress, group: GroupId) -> Proof {
    match trial::attach(host, address, group) {
        Err(error) if is_open_denied(&error) => ask::ask(host, &Question::Attach(address))
            .unwrap_or_else(|no_answer| Proof::Untried(format!("{}; {no_answer}", chain(&error)))),
        attached => attached.into(),
    }
}

fn is_open_denied(error: &TrialError) -> bool {
    matches!(error, TrialError::Open { source, .. } if is_denied(source))
}

/// The prover's side. A PF's driver may be the host's network: no PF is opened, whoever asks.
pub(super) fn for_another(host: &Host, address: PciAddress) -> Proof {
    match sriov::pf_of(host, address) {
        Ok(Some(_)) => {}
        Ok(None) => return Proof::Untried(format!("{address} is no VF")),
        Err(error) => return Proof::Untried(chain(&error)),
    }
    match iommu::group_of(host, address) {
        Ok(Some(group)) => trial::attach(host, address, group).into(),
        Ok(None) => Proof::Untried(format!("{address} has no IOMMU group")),
        Err(error) => Proof::Untried(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_tree_leaves_the_attach_untried() {
        let tree = tempfile::tempdir().unwrap();
        let proof = attach(&Host::at(tree.path()), "0000:01:00.1".parse().unwrap(), GroupId(7));
        assert_eq!(proof, Proof::Untried("a captured tree has no device nodes to open".to_owned()));
    }
}
