//! A listening socket whose file goes with it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tokio::net::UnixListener;

pub(super) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) file: SocketFile,
}

/// Removed when dropped.
pub(super) struct SocketFile(PathBuf);

impl Socket {
    /// Binds, for root alone: who can connect can have devices handed out.
    pub(super) fn bind(path: PathBuf) -> io::Result<Self> {
        // A socket that a killed predecessor left is nobody's.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, file: SocketFile(path) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The kubelet may have deleted it already.
        let _ = fs::remove_file(&self.0);
    }
}
