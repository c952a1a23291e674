//! Files and messages that others read: one format a file, each with the specification it follows.

pub mod capture;
pub mod cdi;
pub mod cni;
pub mod descriptor;
pub mod devinfo;
