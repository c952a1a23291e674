//! Builds the parts that the cache lacks: one builder at a time, what downloads beside what compiles.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crate::apt::{self, AptError};
use crate::cache::{Cache, CacheError};
use crate::files::FileError;
use crate::part::{self, Part};
use crate::recipe::{self, RecipeError};

/// A build takes some ten minutes; whoever waits for another's is not kept for ever.
const WAIT_FOR_BUILDER: Duration = Duration::from_secs(40 * 60);

/// Where the built parts are.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) qemu: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) root: PathBuf,
}

/// Why there is no testbed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The cache can't be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The host's packages can't be had.
    #[error(transparent)]
    Apt(#[from] AptError),
    /// A recipe failed.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
}

/// The parts from the cache, after building those that it lacks. `progress` gets one line a step.
pub(crate) fn ensure(cache: &Cache, progress: &(dyn Fn(&str) + Sync)) -> Result<Parts, BuildError> {
    if let Some(parts) = cached(cache) {
        return Ok(parts);
    }
    let _lock = cache.lock("build", WAIT_FOR_BUILDER, || progress("another builder is at work: waiting"))?;
    if let Some(parts) = cached(cache) {
        return Ok(parts);
    }
    let all = [&part::KERNEL, &part::QEMU, &part::ROOT];
    cache.sweep(&all)?;
    let missing: Vec<_> =
        all.into_iter().filter(|part| cache.entry(part.name, &part.key()).is_none()).collect();

    let start = Instant::now();
    let tell = |line: &str| {
        let seconds = start.elapsed().as_secs();
        progress(&format!("[{:2}:{:02}] {line}", seconds / 60, seconds % 60));
    };
    let mirror = prepare_host(&missing, &tell)?;
    // The kernel compiles alone on one thread; the others mostly download and unpack, one after the other.
    let (compiled, fetched): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|part| part.name == part::KERNEL.name);
    let make_all =
        |parts: Vec<&Part>| parts.into_iter().try_for_each(|part| make(cache, part, &mirror, &tell));
    let (compiled, fetched) = thread::scope(|scope| {
        let other = scope.spawn(|| make_all(fetched));
        (make_all(compiled), other.join().expect("no recipe panics"))
    });
    compiled.and(fetched)?;
    tell(&format!("testbed: built in {}", cache.root().display()));
    cached(cache).ok_or_else(|| {
        let gone = std::io::ErrorKind::NotFound.into();
        FileError::on("find the parts just built in", cache.root())(gone).into()
    })
}

fn cached(cache: &Cache) -> Option<Parts> {
    let find = |part: Part| cache.entry(part.name, &part.key());
    Some(Parts { qemu: find(part::QEMU)?, kernel: find(part::KERNEL)?, root: find(part::ROOT)? })
}

/// Installs what the recipes need and the host lacks, and gives the mirror.
fn prepare_host(parts: &[&Part], tell: &dyn Fn(&str)) -> Result<String, AptError> {
    let mut packages: Vec<_> = parts.iter().flat_map(|part| part.packages()).collect();
    packages.sort_unstable();
    packages.dedup();
    let missing = apt::missing(&packages)?;
    if !missing.is_empty() {
        tell(&format!("host: installing by apt: {}", missing.join(" ")));
        apt::update()?;
        apt::install(&missing)?;
    }
    // A fresh host knows no labels before its first update.
    apt::mirror().or_else(|_| {
        tell("host: apt-get update");
        apt::update()?;
        apt::mirror()
    })
}

fn make(cache: &Cache, part: &Part, mirror: &str, tell: &dyn Fn(&str)) -> Result<(), RecipeError> {
    let log = cache.root().join(format!("{}.log", part.name));
    let step = |name: &str| tell(&format!("{}: {name}", part.name));
    let made = cache.fill(part.name, &part.key(), |folder| recipe::run(part, folder, mirror, &log, &step));
    // What is built beside it goes on, so that the next try finds it: the failure is told at once.
    let end = if made.is_ok() { "done".to_owned() } else { format!("failed: see {}", log.display()) };
    tell(&format!("{}: {end}", part.name));
    made.map(drop)
}
