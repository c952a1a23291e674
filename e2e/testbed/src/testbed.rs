//! The built testbed: what runs machines, one at a time on this host.

use std::time::Duration;

use crate::accel;
use crate::build::{self, BuildError, Parts};
use crate::cache::{Cache, Lock};
use crate::job::Job;
use crate::machine::Machine;
use crate::run::{self, Line, Outcome, RunError};

/// Tests ask for a machine all at once and each needs seconds: whoever is last in the queue still gets one.
const WAIT_FOR_MACHINE: Duration = Duration::from_secs(30 * 60);

/// A testbed that is built.
#[derive(Debug, Clone)]
pub struct Testbed {
    pub(crate) cache: Cache,
    pub(crate) parts: Parts,
}

impl Testbed {
    /// The testbed of the cache that the environment names, after building what it lacks: some ten minutes the first
    /// time, as root on a Debian host. `progress` gets one line a step.
    pub fn open(progress: &(dyn Fn(&str) + Sync)) -> Result<Self, BuildError> {
        Self::open_in(Cache::from_env()?, progress)
    }

    /// The same with a cache in another place.
    pub fn open_in(cache: Cache, progress: &(dyn Fn(&str) + Sync)) -> Result<Self, BuildError> {
        let parts = build::ensure(&cache, progress)?;
        Ok(Self { cache, parts })
    }

    /// Where its parts are cached.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Boots `machine`, runs `job` in it, and powers off. `sink` gets each line of the log as it comes. One machine
    /// runs at a time on a host: others wait here.
    pub fn run(
        &self,
        machine: &Machine,
        job: &Job,
        sink: &mut dyn FnMut(Line<'_>),
    ) -> Result<Outcome, RunError> {
        let _turn = self.turn(sink)?;
        let accel = accel::choose(self)?;
        run::job(self, machine, job, accel, sink)
    }

    /// Boots `machine` with an interactive shell on this process's terminal. The job's files and environment are
    /// there; what it runs and its time limit don't count. `sink` hears if it has to wait.
    pub fn shell(
        &self,
        machine: &Machine,
        job: &Job,
        sink: &mut dyn FnMut(Line<'_>),
    ) -> Result<(), RunError> {
        let _turn = self.turn(sink)?;
        let accel = accel::choose(self)?;
        run::shell(self, machine, job, accel)
    }

    fn turn(&self, sink: &mut dyn FnMut(Line<'_>)) -> Result<Lock, RunError> {
        let waiting = || sink(Line::Machine("waiting: another machine runs on this host"));
        Ok(self.cache.lock("machine", WAIT_FOR_MACHINE, waiting)?)
    }
}
