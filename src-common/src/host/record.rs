//! What a host was asked, and what it answered: the material of a capture.
//!
//! A host that records is read by the very code that reads any host, so a captured tree holds what that code needs, no
//! more, and never lags behind it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// One path's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file's content, or as much of it as was asked for.
    File(Vec<u8>),
    /// What a symbolic link points at.
    Link(PathBuf),
    /// Names in a folder, sorted.
    Folder(Vec<String>),
    /// It exists, and nothing more was asked of it.
    There,
}

/// Every path that answered, in order. What is absent leaves no entry, and is absent from a capture too.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<BTreeMap<PathBuf, Entry>>);

impl Record {
    /// Keeps an answer. Mere existence does not replace a content that is known.
    pub(super) fn keep(&self, path: &Path, entry: Entry) {
        // A thread that panicked while it held this map left a whole map: an insert is all that is ever done to it.
        let mut kept = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if entry != Entry::There || !kept.contains_key(path) {
            kept.insert(path.to_owned(), entry);
        }
    }

    pub(super) fn entries(&self) -> BTreeMap<PathBuf, Entry> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}
