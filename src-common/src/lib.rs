//! The domain of Doorbell: sub-devices, the host they live in, and the files that describe them.
//!
//! Synchronous, and innocent of Kubernetes but for the generated messages behind the feature `kubelet`.
//! [`host`] is the one room that touches files; [`kernel`] reads the kernel's objects through it; [`doorbell`] and
//! [`isolation`] judge them; [`subdevice`] is the model that results; [`trial`] proves it on the open device;
//! [`claim`] says who holds it; [`calls`] counts how the CNI fares; [`formats`] are the files that others read. [`fault`] is for tests, and nothing without
//! its feature.

pub mod allocation;
pub mod calls;
pub mod check;
pub mod claim;
pub mod doorbell;
pub mod error;
pub mod fault;
pub mod formats;
pub mod host;
pub mod isolation;
pub mod kernel;
#[cfg(feature = "kubelet")]
pub mod kubelet;
pub mod subdevice;
pub mod trial;
