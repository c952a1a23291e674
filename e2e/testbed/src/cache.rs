//! The cache of built parts: where it is, its locks, and entries that are whole or not there.
//!
//! `<base>/doorbell/testbed/` holds `<part>-<key>/` for each part, `tmp-*` while one is built, `jobs/` for the folders
//! shared with guests, logs of the builds, and the lock files.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::files::FileError;
use crate::part::{Key, Part};

/// How long an entry of another key stays after its last use: two clones with different recipes share one cache.
const KEEP_UNUSED: Duration = Duration::from_secs(24 * 3600);

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Why the cache can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The environment names no place.
    #[error("no place for the testbed's cache: none of DOORBELL_CACHE, XDG_CACHE_HOME and HOME is set")]
    NoPlace,
    /// Another process holds a lock for longer than one should.
    #[error("{} is still held by another process after {waited:?}", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An exclusive lock, held until dropped or until its process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Cache {
    /// `${DOORBELL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}/doorbell/testbed`.
    pub fn from_env() -> Result<Self, CacheError> {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = set("DOORBELL_CACHE")
            .or_else(|| set("XDG_CACHE_HOME"))
            .or_else(|| Some(set("HOME")?.join(".cache")))
            .ok_or(CacheError::NoPlace)?;
        // QEMU and the recipes run with other working folders.
        let base = std::path::absolute(&base).map_err(FileError::on("resolve", &base))?;
        Self::at(base.join("doorbell/testbed"))
    }

    /// A cache in this folder, which is made if it is missing.
    pub fn at(root: PathBuf) -> Result<Self, CacheError> {
        let jobs = root.join("jobs");
        fs::create_dir_all(&jobs).map_err(FileError::on("create", &jobs))?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The entry, if it is there; it is then marked as used.
    pub(crate) fn entry(&self, part: &str, key: &Key) -> Option<PathBuf> {
        let path = self.path(part, key);
        let folder = File::open(&path).ok()?;
        // The mark only delays pruning; an entry that can't be marked serves all the same.
        folder.set_modified(SystemTime::now()).ok();
        Some(path)
    }

    /// Makes an entry: `build` fills `out/` below the folder that it is given, and only a whole one gets the name.
    pub(crate) fn fill<E: From<FileError>>(
        &self,
        part: &str,
        key: &Key,
        build: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let temporary = Temporary(self.root.join(format!("tmp-{part}-{key}")));
        let out = temporary.0.join("out");
        remove(&temporary.0)?;
        fs::create_dir_all(&out).map_err(FileError::on("create", &out))?;
        build(&temporary.0)?;
        let path = self.path(part, key);
        fs::rename(&out, &path).map_err(FileError::on("rename the finished part to", &path))?;
        Ok(path)
    }

    /// Removes what a killed build left, and entries of these parts' other keys that were not used for long. Needs the
    /// build lock.
    pub(crate) fn sweep(&self, parts: &[&Part]) -> Result<(), FileError> {
        for entry in fs::read_dir(&self.root).map_err(FileError::on("list", &self.root))? {
            let entry = entry.map_err(FileError::on("list", &self.root))?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let other_key = || {
                let (part, key) = name.rsplit_once('-')?;
                Some(parts.iter().find(|known| known.name == part)?.key().to_string() != key)
            };
            let unused = || {
                let age = entry.metadata().ok()?.modified().ok()?.elapsed().ok()?;
                Some(age > KEEP_UNUSED)
            };
            if name.starts_with("tmp-") || (other_key() == Some(true) && unused() == Some(true)) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Takes the lock of this name, waiting at most so long; `waiting` is called once if it is held.
    pub(crate) fn lock(
        &self,
        name: &str,
        wait: Duration,
        waiting: impl FnOnce(),
    ) -> Result<Lock, CacheError> {
        let path = self.root.join(format!("{name}.lock"));
        let file = File::create(&path).map_err(FileError::on("create", &path))?;
        let start = Instant::now();
        let mut waiting = Some(waiting);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::Error(error)) => return Err(FileError::on("lock", &path)(error).into()),
                Err(TryLockError::WouldBlock) if start.elapsed() > wait => {
                    return Err(CacheError::Locked { path, waited: wait });
                }
                Err(TryLockError::WouldBlock) => {}
            }
            if let Some(tell) = waiting.take() {
                tell();
            }
            // flock has no wait with a limit.
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn path(&self, part: &str, key: &Key) -> PathBuf {
        self.root.join(format!("{part}-{key}"))
    }
}

/// Removed when the build ends, however it ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What could not be removed is swept by the next build.
        remove(&self.0).ok();
    }
}

fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::on("remove", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = Part { name: "p", recipe: "", inputs: &[] };

    fn key() -> Key {
        PART.key()
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("cache")).unwrap();
        (folder, cache)
    }

    fn names(cache: &Cache) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(cache.root())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "jobs")
            .collect();
        names.sort();
        names
    }

    #[test]
    fn filled_entry_is_found() {
        let (_folder, cache) = cache();
        assert_eq!(cache.entry("p", &key()), None);
        cache
            .fill::<FileError>("p", &key(), |work| {
                fs::write(work.join("scratch"), "").unwrap();
                fs::write(work.join("out/made"), "1").unwrap();
                Ok(())
            })
            .unwrap();
        let entry = cache.entry("p", &key()).unwrap();
        assert_eq!(fs::read_to_string(entry.join("made")).unwrap(), "1");
        assert_eq!(names(&cache), [format!("p-{}", key())]);
    }

    #[test]
    fn failed_build_leaves_nothing() {
        let (_folder, cache) = cache();
        let failed = cache.fill("p", &key(), |work| {
            fs::write(work.join("out/half"), "").unwrap();
            Err(FileError::on("make", work)(std::io::ErrorKind::Other.into()))
        });
        assert!(failed.is_err());
        assert_eq!(cache.entry("p", &key()), None);
        assert_eq!(names(&cache), [""; 0]);
    }

    #[test]
    fn sweep_removes_what_a_killed_build_left_and_old_entries() {
        let (_folder, cache) = cache();
        let current = format!("p-{}", key());
        for name in ["tmp-p-1/out", "p-old", "p-new", "other-old", "p.log", &current] {
            fs::create_dir_all(cache.root().join(name)).unwrap();
        }
        for name in ["p-old", "other-old", "p.log", &current] {
            let folder = File::open(cache.root().join(name)).unwrap();
            folder.set_modified(SystemTime::now() - 2 * KEEP_UNUSED).unwrap();
        }
        cache.sweep(&[&PART]).unwrap();
        let mut kept = ["other-old", "p-new", "p.log", &current];
        kept.sort_unstable();
        assert_eq!(names(&cache), kept);
    }

    #[test]
    fn lock_is_exclusive_and_freed_on_drop() {
        let (_folder, cache) = cache();
        let held = cache.lock("build", Duration::ZERO, || ()).unwrap();
        let mut told = false;
        let error = cache.lock("build", Duration::from_millis(1), || told = true).unwrap_err();
        assert!(matches!(error, CacheError::Locked { .. }), "{error}");
        assert!(told);
        drop(held);
        cache.lock("build", Duration::ZERO, || ()).unwrap();
    }
}
