//! `doorbell-device-plugin`: finds sub-devices, prepares them, proves them, and advertises them to the kubelet.
//!
//! The way of a device, a module a step: [`config`] says what is wanted, [`discovery`] finds it, [`prepare`] makes and
//! binds it, [`proof`] shows that it attaches, [`inventory`] lists it, [`publish`] describes it, [`advertise`] tells
//! the kubelet, [`preferred`] advises which to take, [`allocate`] hands it out. [`runtime`] says whether the node takes
//! CDI names, [`guard`] stands before each hand-out and each start of a container, [`kubelet`] keeps all of that
//! registered. [`live`] keeps the inventory true by a [`look`] at what changed: [`heard`] from the kernel, [`reload`]ed
//! from the config, [`strangers`] and [`links`] besides. `cluster` tells the API server, where it is built in and asked
//! for. [`prover`] opens device nodes where the plugin may not. [`run`],
//! [`scan`] and [`explain`] are the commands, [`captured`] the hosts that the last two can look at; [`metrics`] are what
//! the first tells of itself. [`install`] and [`chain`] are of the CNI binary and of the conflist that names it.

pub mod advertise;
pub mod allocate;
pub mod allocated;
pub mod captured;
pub mod chain;
#[cfg(feature = "kube")]
pub mod cluster;
pub mod config;
pub mod discovery;
pub mod doctor;
pub mod explain;
pub mod given;
pub mod guard;
pub mod heard;
pub mod http;
pub mod install;
pub mod inventory;
pub mod kubelet;
pub mod links;
pub mod listening;
pub mod live;
pub mod logs;
pub mod look;
pub mod metrics;
mod parallel;
pub mod preferred;
pub mod prepare;
pub mod proof;
pub mod prover;
pub mod publish;
pub mod quiet;
pub mod reload;
pub mod run;
pub mod runtime;
pub mod scan;
mod side_by_side;
pub mod strangers;
pub mod tasks;
