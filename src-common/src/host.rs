//! The root folder that a host lives in. The one room that reads and writes below it.
//!
//! Paths are kept as the host sees them (`/sys/bus/pci/…`) and prefixed only at the moment of I/O, so that a captured
//! tree or a test's folder stands in for the machine. Each module owns the constants of its own corner.

mod alike;
mod exchange;
mod record;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::fault;

pub use alike::Alike;
use alike::Answers;
pub use exchange::is_left_of_exchange;
pub use record::Entry;
use record::Record;

/// Of every file that is written here for others to read.
const FILE_MODE: u32 = 0o644;
/// Of those that nobody else reads, and of their folders.
const PRIVATE_FILE_MODE: u32 = 0o600;
const PRIVATE_FOLDER_MODE: u32 = 0o700;
/// Of programs.
const PROGRAM_MODE: u32 = 0o755;
/// The longest attribute that is read of each device, its BARs, is shorter.
const ATTRIBUTE: usize = 1024;

/// A host, by its root folder.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
    record: Option<Arc<Record>>,
    answers: Option<Arc<Answers>>,
}

/// What was tried on which file of the host.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}", path.display())]
pub struct HostError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl HostError {
    /// The kind of the I/O error beneath, to tell 'absent' from 'broken'.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Outcome of an access to the host.
pub type Result<T> = std::result::Result<T, HostError>;

impl Host {
    /// This machine.
    #[must_use]
    pub fn real() -> Self {
        Self::at("/")
    }

    /// A host whose tree lies below `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), record: None, answers: None }
    }

    /// The same host, with everything that it answers from now on kept in [`Host::recorded`].
    #[must_use]
    pub fn recording(self) -> Self {
        Self { record: Some(Arc::default()), ..self }
    }

    /// The same host, asked without a record: for what is no part of a capture.
    #[must_use]
    pub fn unrecorded(&self) -> Self {
        Self { root: self.root.clone(), record: None, answers: None }
    }

    /// The same host for one look at its devices: what is [`Host::alike`] for all of them is asked once. Of a recording
    /// host each device is to have its own answers.
    #[must_use]
    pub fn for_a_look(&self) -> Self {
        Self { answers: self.record.is_none().then(Arc::default), ..self.clone() }
    }

    /// This host, asked for what is alike for every device.
    #[must_use]
    pub fn alike(&self) -> Alike<'_> {
        Alike(self)
    }

    /// What a recording host was asked, by path, with its answers.
    #[must_use]
    pub fn recorded(&self) -> BTreeMap<PathBuf, Entry> {
        self.record.as_ref().map(|record| record.entries()).unwrap_or_default()
    }

    /// Keeps what the kernel said by another way than a file as a file at `path`: a capture holds nothing else.
    pub fn note_answer(&self, path: impl AsRef<Path>, answer: &[u8]) {
        self.note(path, || Entry::File(answer.to_vec()));
    }

    fn note(&self, path: impl AsRef<Path>, entry: impl FnOnce() -> Entry) {
        if let Some(record) = &self.record {
            record.keep(path.as_ref(), entry());
        }
    }

    /// Whether device nodes opened here are this machine's.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.root.as_os_str() == "/"
    }

    /// Where `path`, absolute on the host, is reached from this process.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.reached(path.as_ref()).into_owned()
    }

    /// [`Host::path`], without a copy where this machine is the host.
    fn reached<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        if self.is_real() && path.is_absolute() {
            return Cow::Borrowed(path);
        }
        Cow::Owned(self.root.join(path.strip_prefix("/").unwrap_or(path)))
    }

    /// The whole file, as bytes.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        let bytes = fs::read(self.reached(path.as_ref())).map_err(failed("read", &path))?;
        self.note(path, || Entry::File(bytes.clone()));
        Ok(bytes)
    }

    /// `None` where the file does not exist.
    pub fn read_if_any(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        absent_is_none(self.read(path))
    }

    /// The first `length` bytes, or as many as the file gives.
    pub fn read_start(&self, path: impl AsRef<Path>, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        let mut read = || -> io::Result<()> {
            let mut file = File::open(self.reached(path.as_ref()))?;
            while filled < length {
                match file.read(&mut bytes[filled..])? {
                    0 => break,
                    more => filled += more,
                }
            }
            Ok(())
        };
        read().map_err(failed("read", &path))?;
        bytes.truncate(filled);
        self.note(path, || Entry::File(bytes.clone()));
        Ok(bytes)
    }

    /// The whole file as text, without the newline that sysfs ends it with.
    pub fn read_text(&self, path: impl AsRef<Path>) -> Result<String> {
        let text = fs::read_to_string(self.path(&path)).map_err(failed("read", &path))?;
        self.note(path, || Entry::File(text.clone().into_bytes()));
        Ok(text.trim_end().to_owned())
    }

    /// An attribute of sysfs as text, without the newline that it ends with. A read that fills less than it could has given
    /// all of it.
    pub fn attribute(&self, path: impl AsRef<Path>) -> Result<String> {
        let mut bytes = [0; ATTRIBUTE];
        let mut read = || -> io::Result<String> {
            let mut file = File::open(self.reached(path.as_ref()))?;
            let length = file.read(&mut bytes)?;
            let mut text = str::from_utf8(&bytes[..length])
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
                .to_owned();
            if length == bytes.len() {
                // There may be more.
                file.read_to_string(&mut text)?;
            }
            Ok(text)
        };
        let text = read().map_err(failed("read", &path))?;
        self.note(&path, || Entry::File(text.clone().into_bytes()));
        Ok(text.trim_end().to_owned())
    }

    /// `None` where there is no such attribute.
    pub fn attribute_if_any(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        absent_is_none(self.attribute(path))
    }

    /// `None` where the file does not exist.
    pub fn read_text_if_any(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        absent_is_none(self.read_text(path))
    }

    /// Base name of what a symbolic link points at; `None` where there is no such link.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        let target = self.link_target(path)?;
        Ok(target.and_then(|target| Some(target.file_name()?.to_str()?.to_owned())))
    }

    /// Where a symbolic link leads, as a path on the host; `None` where there is no such link.
    ///
    /// `..` is taken off by name: right where no folder on the way is a link itself, as in sysfs' own folders.
    pub fn follow(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        let folder = path.as_ref().parent().map(Path::to_owned).unwrap_or_default();
        Ok(self.link_target(path)?.map(|target| without_dots(&folder.join(target))))
    }

    fn link_target(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        let target =
            absent_is_none(fs::read_link(self.reached(path.as_ref())).map_err(failed("follow", &path)))?;
        if let Some(target) = &target {
            self.note(path, || Entry::Link(target.clone()));
        }
        Ok(target)
    }

    /// Names in a folder, sorted; none where the folder does not exist.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>> {
        let Some(entries) =
            absent_is_none(fs::read_dir(self.reached(path.as_ref())).map_err(failed("list", &path)))?
        else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &path))?.file_name();
            // sysfs and our own folders hold ASCII names only; anything else is not ours to read.
            names.extend(name.into_string().ok());
        }
        names.sort();
        self.note(path, || Entry::Folder(names.clone()));
        Ok(names)
    }

    /// Whether the path exists (links followed).
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        let there = self.reached(path.as_ref()).exists();
        if there {
            self.note(path, || Entry::There);
        }
        there
    }

    /// Whether the path is a file (links followed): reading one ends.
    #[must_use]
    pub fn is_file(&self, path: impl AsRef<Path>) -> bool {
        fs::metadata(self.path(path)).is_ok_and(|file| file.is_file())
    }

    /// Whether the path is a symbolic link.
    #[must_use]
    pub fn is_link(&self, path: impl AsRef<Path>) -> bool {
        self.path(path).is_symlink()
    }

    /// Whether the path is a file that its owner may run (links followed).
    #[must_use]
    pub fn is_program(&self, path: impl AsRef<Path>) -> bool {
        fs::metadata(self.path(path)).is_ok_and(|file| file.is_file() && file.mode() & 0o100 != 0)
    }

    /// Whether a folder was removed and is still seen here, because it is mounted here: nothing can be made in it.
    #[must_use]
    pub fn is_removed(&self, folder: impl AsRef<Path>) -> bool {
        fs::metadata(self.path(folder)).is_ok_and(|folder| folder.is_dir() && folder.nlink() == 0)
    }

    /// What keeps files from being made in a folder, or in what of the way to it there is, as far as the filesystem
    /// says; `None` where nothing does.
    pub fn obstacle(&self, folder: impl AsRef<Path>) -> Result<Option<&'static str>> {
        let whole = self.path(&folder);
        let there = whole.ancestors().find(|folder| folder.exists()).unwrap_or(&whole);
        let room = statvfs(there).map_err(|errno| failed("ask for the room in", &folder)(errno.into()))?;
        Ok(if room.flags().contains(FsFlags::ST_RDONLY) {
            Some("it is mounted read-only")
        } else if room.blocks_free() == 0 {
            Some("no space is left")
        } else if room.files() > 0 && room.files_free() == 0 {
            Some("no inode is left")
        } else {
            None
        })
    }

    /// One write to an existing file: a sysfs attribute takes its value in a single system call.
    pub fn write_attribute(&self, path: impl AsRef<Path>, value: &str) -> Result<()> {
        let write = || File::options().write(true).open(self.path(&path))?.write_all(value.as_bytes());
        change(write).map_err(failed("write", path))
    }

    /// Replaces a file as a whole: a reader, or a crash, sees the old content or the new one.
    ///
    /// The folder must exist. The content and its name are on disk when this returns.
    pub fn replace(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        self.replace_with(path, content, FILE_MODE)
    }

    /// [`Host::replace`], for a file that nobody else reads.
    pub fn replace_private(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        self.replace_with(path, content, PRIVATE_FILE_MODE)
    }

    /// Has a program be this one, in a folder that is made where it is missing; who runs the old one runs on. Whether it
    /// was another, or one that not all may run.
    pub fn keep_program(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<bool> {
        let path = path.as_ref();
        let mode = fs::metadata(self.path(path)).map(|metadata| metadata.mode() & 0o777);
        if mode.is_ok_and(|mode| mode == PROGRAM_MODE) && self.read(path).is_ok_and(|now| now == content) {
            return Ok(false);
        }
        if let Some(folder) = path.parent() {
            self.make_folder(folder)?;
        }
        self.replace_with(path, content, PROGRAM_MODE)?;
        Ok(true)
    }

    /// Whatever umask the caller's caller has.
    fn replace_with(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> Result<()> {
        let target = self.path(&path);
        let temporary = unfinished(&target);
        let write = || {
            let mut file = File::create(&temporary)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()?;
            fault::point();
            fs::rename(&temporary, &target)?;
            sync_folder(&target)
        };
        change(write)
            .inspect_err(|_| {
                // Half a file is worth nothing; the write's own error is the one to report.
                let _ = fs::remove_file(&temporary);
            })
            .map_err(failed("write", path))
    }

    /// [`Host::replace`] in a folder that is made where it is missing; a file that has this content is not written.
    pub fn keep_as(&self, path: impl AsRef<Path>, content: &[u8]) -> Result<()> {
        let path = path.as_ref();
        if self.read(path).is_ok_and(|now| now == content) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            self.make_folder(folder)?;
        }
        self.replace(path, content)
    }

    /// Removes a file; fine where there is none.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let target = self.path(&path);
        let removed = change(|| fs::remove_file(&target)).map_err(failed("remove", &path));
        let removed = absent_is_none(removed)?;
        if removed.is_some() {
            sync_folder(&target).map_err(failed("remove", path))?;
        }
        Ok(())
    }

    /// Makes a folder and its parents; fine where it stands.
    pub fn make_folder(&self, path: impl AsRef<Path>) -> Result<()> {
        change(|| fs::create_dir_all(self.path(&path))).map_err(failed("make folder", path))
    }

    /// [`Host::make_folder`], where the folder itself is nobody else's. What stands keeps its mode.
    pub fn make_private_folder(&self, path: impl AsRef<Path>) -> Result<()> {
        if let Some(parent) = path.as_ref().parent() {
            self.make_folder(parent)?;
        }
        let make = || DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER_MODE).create(self.path(&path));
        change(make).map_err(failed("make folder", &path))
    }
}

/// What [`Host::replace`] leaves beside a file where it is killed.
pub fn unfinished(file: impl AsRef<Path>) -> PathBuf {
    let mut temporary = file.as_ref().as_os_str().to_owned();
    temporary.push(".new");
    temporary.into()
}

/// Makes a change, with a point before and after it.
fn change<T>(make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    fault::point();
    let made = make();
    fault::point();
    made
}

fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            // At the root there is nothing to take off, as for the kernel.
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            _ => plain.push(component),
        }
    }
    plain
}

fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn failed(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError { doing, path: path.as_ref().to_owned(), source }
}

fn absent_is_none<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_replace_leaves_the_old_file_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/state/held").unwrap();
        // A folder in the file's place makes the rename fail.
        assert!(host.replace("/state/held", b"new").is_err());
        assert_eq!(host.list("/state").unwrap(), ["held"]);
    }

    #[test]
    fn a_replaced_file_is_for_all_to_read_and_for_its_owner_to_write() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        fs::write(root.path().join("held.new"), "").unwrap();
        fs::set_permissions(root.path().join("held.new"), Permissions::from_mode(0o600)).unwrap();
        host.replace("/held", b"new").unwrap();
        assert_eq!(fs::metadata(root.path().join("held")).unwrap().permissions().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn a_link_is_followed_to_a_path_on_the_host() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/sys/bus/vdpa/devices").unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, host.path(format!("/sys/bus/vdpa/devices/{name}"))).unwrap();
            host.follow(format!("/sys/bus/vdpa/devices/{name}")).unwrap().unwrap()
        };
        assert_eq!(
            link("../../../devices/pci0000:00/vdpa0", "a"),
            Path::new("/sys/devices/pci0000:00/vdpa0")
        );
        assert_eq!(link("/sys/./devices/b", "b"), Path::new("/sys/devices/b"));
        assert_eq!(link("../../../../../../../sys", "c"), Path::new("/sys"));
        assert_eq!(host.follow("/sys/bus/vdpa/devices/none").unwrap(), None);
    }

    #[test]
    fn errors_name_the_host_path() {
        let root = tempfile::tempdir().unwrap();
        let error = Host::at(root.path()).read("/sys/none").unwrap_err();
        assert_eq!(error.to_string(), "read /sys/none");
    }
}
