//! The CNI plugin in the pod network's chain: `keep-cni` keeps it at the end of the node's active conflist, for pods that
//! no Multus gives a network of its own, and `uninstall-cni` takes it out.
//!
//! The conflist is the main CNI plugin's, who may write it anew at any time. So nothing of it is kept here: each look
//! begins with what is in the folder ([`active`]), and changes the entry in it alone ([`entry`]), as often as [`pace`]
//! lets it. A chain that names a binary which is not there keeps every pod of the node from starting and from ending: the
//! entry comes after the binary and goes before it.

pub mod active;
pub mod conflist;
pub mod entry;
mod keep;
pub mod pace;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use doorbell_common::claim;
use doorbell_common::host::{self, Host};

use active::File;
use conflist::Network;
use entry::{Refusal, Wanted};
use pace::Pace;

use crate::install::{self, NAME};

pub use keep::{keep, run};

/// Where a container runtime looks, as paths on the host.
#[derive(Debug, Clone)]
pub struct Folders {
    /// For network configurations.
    pub configs: String,
    /// For plugins.
    pub binaries: PathBuf,
}

/// What is kept, and what is taken away in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// Whether the active conflist has the entry. Without it, nothing is done before the end.
    pub entry: bool,
    /// Whether the binary goes with the plugin.
    pub remove_binary: bool,
}

/// How things stand after a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The entry is in this file.
    Chained(String),
    /// This file has one by hand.
    ByHand(String),
    /// This file is active and gets none.
    Refused(String, Refusal),
    /// Nothing is active.
    NoNetwork,
    /// The binary is not there, or can't be run.
    NoBinary,
    /// The entry is not where it should be, and it is too early to put it there again.
    Early,
    /// A file was changed during the look.
    Overtaken,
}

/// Has the entry be in the active conflist and nowhere else. How things stand then, and whether something was written.
pub fn look(host: &Host, folders: &Folders, pace: &mut Pace, now: Instant) -> Result<(Standing, bool)> {
    let configs = folders.configs.as_str();
    if !host.exists(configs) {
        return Ok((Standing::NoNetwork, false));
    }
    let _lock = claim::lock_shared(host, configs)?;
    remove_unfinished(host, configs)?;
    let files = active::files(host, configs)?;
    let has_binary = host.is_program(folders.binaries.join(NAME));
    let (standing, changes) = match active::active(host, configs, &files)? {
        _ if !has_binary => (Standing::NoBinary, taken_out(&files, None)),
        None => (Standing::NoNetwork, taken_out(&files, None)),
        Some((file, network)) => of_active(file, &network, &files),
    };
    if changes.is_empty() {
        return Ok((standing, false));
    }
    // What keeps pods from starting is not waited with.
    if matches!(standing, Standing::Chained(_)) && !pace.wait(now).is_zero() {
        return Ok((Standing::Early, false));
    }
    for (file, text) in changes {
        if !host.exchange(&file.path, file.text.as_bytes(), text.as_bytes())? {
            // Who overtakes us time and again is no better than who takes out what was put in.
            pace.wrote(now);
            return Ok((Standing::Overtaken, true));
        }
    }
    pace.wrote(now);
    Ok((standing, true))
}

/// A file, and what it is to be.
type Change<'a> = (&'a File, String);

fn of_active<'a>(file: &'a File, network: &Network<'_>, files: &'a [File]) -> (Standing, Vec<Change<'a>>) {
    let path = file.path.clone();
    match entry::put_in(network) {
        Ok(Wanted::Text(_)) if file.is_link => {
            (Standing::Refused(path, Refusal::Link), taken_out(files, None))
        }
        // First in, then out: a pod that starts in between passes the plugin.
        Ok(Wanted::Text(text)) => {
            let mut changes = vec![(file, text)];
            changes.extend(taken_out(files, Some(file)));
            (Standing::Chained(path), changes)
        }
        Ok(Wanted::AsItIs) => (Standing::Chained(path), taken_out(files, Some(file))),
        Ok(Wanted::ByHand) => (Standing::ByHand(path), taken_out(files, None)),
        Err(refusal) => (Standing::Refused(path, refusal), taken_out(files, None)),
    }
}

/// All files that have the entry, without it; `kept` may have it. What a link leads to is seen by its own name, or was
/// never given the entry.
fn taken_out<'a>(files: &'a [File], kept: Option<&File>) -> Vec<Change<'a>> {
    let others = files.iter().filter(|file| !file.is_link && kept.is_none_or(|kept| kept.path != file.path));
    let without = |file: &'a File| match file.as_list()? {
        Network::List(list) => Some((file, entry::taken_out(&list)?)),
        Network::Apart(_) | Network::Single(_) => None,
    };
    others.filter_map(without).collect()
}

/// How often a file may be another under our hands.
const TRIES: usize = 10;

/// Takes the entry out of every file of the folder, whoever else writes there; fine where there is none.
pub fn take_out(host: &Host, configs: &str) -> Result<()> {
    if !host.exists(configs) {
        return Ok(());
    }
    let _lock = claim::lock_shared(host, configs)?;
    remove_unfinished(host, configs)?;
    for _ in 0..TRIES {
        let files = active::files(host, configs)?;
        let changes = taken_out(&files, None);
        if changes.is_empty() {
            return Ok(());
        }
        for (file, text) in changes {
            host.exchange(&file.path, file.text.as_bytes(), text.as_bytes())?;
        }
    }
    bail!("{configs} is written again and again, each time with the entry of the CNI plugin")
}

/// Takes the entry out, then the binary away, which stays where a configuration still names it.
pub fn uninstall(host: &Host, folders: &Folders) -> Result<()> {
    take_out(host, &folders.configs).context("take the CNI plugin out of the chain")?;
    let files = active::files(host, &folders.configs)?;
    let names = |file: &&File| file.network().is_some_and(|network| network.kinds().any(|kind| kind == NAME));
    if let Some(file) = files.iter().find(names) {
        bail!("the CNI binary stays: {} names it, and was written by hand", file.path);
    }
    install::uninstall(host, &folders.binaries).context("uninstall the CNI binary")
}

fn remove_unfinished(host: &Host, configs: &str) -> Result<()> {
    for name in host.list(configs)?.iter().filter(|name| host::is_left_of_exchange(name)) {
        host.remove(format!("{configs}/{name}"))?;
    }
    Ok(())
}
