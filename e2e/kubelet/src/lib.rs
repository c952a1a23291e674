//! A kubelet double: what the kubelet does to device plugins, CNI chains and the container runtime, by its documented
//! behaviour, with every moment of it open to a test.
//!
//! - The device manager: registration, live device lists, admission, the checkpoint ([`Kubelet`]).
//! - PodResources v1, with its rate limit and its quirks.
//! - Pods over the real Container Runtime Interface, on a [`Containerd`] that it can start itself.
//!
//! It takes the scheduler's part as far as one node shows it, and leaves out what no device sees: probes, volumes,
//! QoS cgroups, pod status. Texts of refusals are the kubelet's own, since users meet them in a pod's events.

mod admission;
mod allocations;
mod checkpoint;
mod config;
mod container;
mod containerd;
mod cri;
mod devices;
mod knobs;
mod kubelet;
mod lifecycle;
mod logs;
mod manifest;
mod plugin;
mod pod;
mod podresources;
mod prestart;
mod rate_limit;
mod reboot;
mod registration;
mod sandbox;
mod scheduler;
mod select;
mod state;
mod view;
mod wait;
mod watcher;

pub use crate::{
    admission::{Admission, AdmissionError, AdmitError},
    allocations::RunOptions,
    config::KubeletConfig,
    container::Exec,
    containerd::{Containerd, ContainerdConfig, ContainerdError},
    cri::{Condition, Cri, CriError},
    kubelet::{Kubelet, StartError},
    lifecycle::PodError,
    logs::LogError,
    manifest::{Manifest, ManifestError},
    pod::{ContainerSpec, DEFAULT_IMAGE, HostMount, PodSpec, PodUid},
    prestart::PreStartError,
    reboot::RebootError,
    sandbox::Sandbox,
    view::{DeviceView, NodeView, Phase, PodView, ResourceView, Timeout},
};
