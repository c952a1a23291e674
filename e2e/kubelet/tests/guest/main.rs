//! The double over a real containerd: real sandboxes, a real CNI chain, real containers. It wants root and the testbed's
//! guest, so every test is ignored elsewhere:
//!
//! ```text
//! doorbell-testbed run -- <this binary> --ignored --nocapture
//! ```

// Helpers may panic like the tests that they serve; clippy excuses only the test functions themselves.
#![allow(clippy::unwrap_used)]

mod devices;
// Shared with the tests that run anywhere; not all of it is wanted here.
#[allow(dead_code)]
#[path = "../double/fake_plugin.rs"]
mod fake_plugin;
mod guest;
mod network;
mod pods;
mod restarts;
