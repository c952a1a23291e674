//! The folder that host and guest share as /job: `bin/`, `out/`, the command, and the exit code afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cache::Cache;
use crate::files::FileError;
use crate::job::Job;

/// Lives as long as somebody wants the results.
#[derive(Debug)]
pub(crate) struct Share {
    folder: TempDir,
    /// Held while the folder is in use; a folder that nobody holds was left by a killed process.
    _lock: File,
}

impl Share {
    /// A folder for this job. Called by one process at a time.
    pub(crate) fn new(cache: &Cache, job: &Job) -> Result<Self, FileError> {
        let jobs = cache.root().join("jobs");
        sweep(&jobs)?;
        let folder = tempfile::tempdir_in(&jobs).map_err(FileError::on("create a folder in", &jobs))?;
        let lock = File::open(folder.path()).map_err(FileError::on("open", folder.path()))?;
        lock.lock().map_err(FileError::on("lock", folder.path()))?;
        let share = Self { folder, _lock: lock };
        for name in ["bin", "out"] {
            let path = share.path(name);
            fs::create_dir(&path).map_err(FileError::on("create", &path))?;
        }
        for file in &job.files {
            let copy = share.path("bin").join(file.file_name().unwrap_or_default());
            // Not a link: the guest's root could write through it.
            fs::copy(file, copy).map_err(FileError::on("copy to the guest", file))?;
        }
        share.write("command", &job.script())?;
        Ok(share)
    }

    /// Leaves a file for the guest.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), FileError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(FileError::on("write", &path))
    }

    /// The job's exit code, if the guest got as far as that.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        parse_exit(&fs::read_to_string(self.path("exit")).ok()?)
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file or folder in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }
}

/// A whole line with what a shell's `$?` can be.
fn parse_exit(text: &str) -> Option<i32> {
    text.strip_suffix('\n')?.parse::<u8>().ok().map(i32::from)
}

fn sweep(jobs: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(jobs).map_err(FileError::on("list", jobs))? {
        let path = entry.map_err(FileError::on("list", jobs))?.path();
        // Its owner may remove it at this moment.
        if File::open(&path).is_ok_and(|folder| folder.try_lock().is_ok()) {
            fs::remove_dir_all(&path).ok();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_is_a_whole_line() {
        assert_eq!(parse_exit("0\n"), Some(0));
        assert_eq!(parse_exit("137\n"), Some(137));
        for cut in ["", "1", "\n", "x\n", "256\n", "-1\n"] {
            assert_eq!(parse_exit(cut), None, "{cut:?}");
        }
    }

    #[test]
    fn folder_left_by_a_killed_process_is_removed_and_a_used_one_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::at(root.path().to_owned()).unwrap();
        let left = root.path().join("jobs/left");
        fs::create_dir(&left).unwrap();
        let used = Share::new(&cache, &Job::new(["true"])).unwrap();
        assert!(!left.exists());
        let other = Share::new(&cache, &Job::new(["true"])).unwrap();
        assert!(used.path("out").is_dir());
        drop(used);
        assert_eq!(fs::read_dir(root.path().join("jobs")).unwrap().count(), 1);
        drop(other);
    }
}
