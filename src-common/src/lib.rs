//! The domain of Doorbell.

pub mod doorbell;
pub mod formats;
pub mod isolation;
pub mod kernel;
#[cfg(feature = "kubelet")]
pub mod kubelet;
