//! What an attach showed.

use doorbell_common::error::chain;
use doorbell_common::trial::TrialError;
use serde::{Deserialize, Serialize};

/// What an attach showed of a PF's VFs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Proof {
    Attaches,
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
