//! The double against a small device plugin, on any host: no VF, no runtime, no root.

// Helpers may panic like the tests that they serve; clippy excuses only the test functions themselves.
#![allow(clippy::unwrap_used)]

mod admission;
mod fake_plugin;
mod node;
mod pod_resources;
mod pre_start;
mod reboot;
mod registration;
mod restart;
