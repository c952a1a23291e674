//! What Doorbell costs beside what the work itself costs.
//!
//! Every figure stands beside its floor, measured in the same run on the same load: the same reads, system calls and
//! round trips, made by a program that does nothing else. No test asserts a time: [`attributes`] is what tests hold.

pub mod apart;
pub mod attributes;
pub mod kubelet;
pub mod load;
pub mod process;
pub mod statistics;
pub mod uevents;
