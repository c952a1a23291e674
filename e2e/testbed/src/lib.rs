//! The testbed: a VM with real SR-IOV virtual functions, built from Debian packages, cached, and run for one job.
//!
//! QEMU emulates a virtio-net PF whose VFs sit behind an emulated IOMMU, so what runs in the guest sees real VFs, real
//! IOMMU groups, real vfio and real vDPA. [`Testbed::open`] builds what is missing from the cache, [`Machine`] says
//! what the VM has, [`Job`] what it runs, and [`Testbed::run`] boots it, streams its log and gives the [`Outcome`].
//!
//! ```no_run
//! use e2e_testbed::{Job, Machine, Pf, Testbed};
//!
//! let testbed = Testbed::open(&|step| println!("{step}"))?;
//! let machine = Machine::new([Pf::virtio(4)?]);
//! let outcome = testbed.run(&machine, &Job::new(["lspci"]), &mut |line| println!("{line}"))?;
//! assert_eq!(outcome.exit_code, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accel;
mod apt;
mod build;
mod cache;
mod command_line;
mod files;
mod job;
mod machine;
mod part;
mod qemu;
mod recipe;
mod run;
mod share;
mod testbed;

pub use build::BuildError;
pub use cache::{Cache, CacheError};
pub use files::FileError;
pub use job::Job;
pub use machine::{BadMachine, Iommu, Machine, Pf};
pub use run::{Line, Outcome, RunError, Times};
pub use testbed::Testbed;
