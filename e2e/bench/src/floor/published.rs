//! Writing a file so that a crash leaves all of it or nothing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Where what the floor publishes is; what the plugin publishes stays as it is.
const BELOW: &str = "/floor-published";
/// About as long as a descriptor.
const CONTENT: [u8; 1024] = [b' '; 1024];

/// Writes beside the file, syncs, renames, and syncs the folder.
pub(crate) fn write(path: &Path) -> io::Result<()> {
    let path = Path::new(BELOW).join(path.strip_prefix("/").unwrap_or(path));
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&CONTENT)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(folder)?.sync_all()
}
