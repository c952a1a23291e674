//! A machine apart: a root, mounts and a network of its own, for one thread and the processes that it starts.
//!
//! So the shipped binary runs as it is, at the root that it takes for the node's, and uevents can be told to it alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::chroot;

/// Has a thread work below `root`, where `fill` makes what is there; what was made is gone with the thread.
pub fn apart<T: Send>(
    root: &Path,
    fill: impl FnOnce(&Path) -> Result<()> + Send,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter(root, fill)?;
            work()
        });
        inside.join().unwrap_or_else(|_| Err(anyhow!("the thread apart panicked")))
    })
}

fn enter(root: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .context("unshare mounts and network (root is needed)")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .context("keep mounts here")?;
    mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::empty(), nothing).context("mount a tmpfs")?;
    fill(root)?;
    fs::create_dir_all(root.join("dev"))?;
    mknod(&root.join("dev/null"), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3))
        .context("make /dev/null")?;
    // For what is no part of a figure: strace and valgrind.
    symlink("usr/bin", root.join("bin"))?;
    fs::create_dir_all(root.join("tmp"))?;
    for folder in ["usr", "lib", "lib64"] {
        let (from, to) = (Path::new("/").join(folder), root.join(folder));
        fs::create_dir_all(&to)?;
        mount(Some(&from), &to, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)
            .with_context(|| format!("mount /{folder}"))?;
    }
    let proc = root.join("proc");
    fs::create_dir_all(&proc)?;
    mount(Some("/proc"), &proc, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)
        .context("mount /proc")?;
    chroot(root).context("chroot")?;
    std::env::set_current_dir("/").context("go to the new root")
}
