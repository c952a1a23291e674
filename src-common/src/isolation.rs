//! Isolation classes.

use serde::{Deserialize, Serialize};

/// What confines a sub-device's DMA to its consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The IOMMU, by the function's own requester id.
    IommuRid,
    /// Nothing that can be shown.
    None,
}
