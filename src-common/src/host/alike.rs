//! What is alike for every device of the host, asked once a look: whether `/dev/vfio/vfio` is there, what a module's
//! parameter says, what a folder of nodes holds. For two thousand VFs it would be read two thousand times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Host, Result};

/// A host, asked for what is alike.
#[derive(Debug)]
pub struct Alike<'a>(pub(super) &'a Host);

/// What one look has been answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    there: Answered<bool>,
    texts: Answered<Option<String>>,
    folders: Answered<Arc<BTreeSet<String>>>,
}

type Answered<T> = Mutex<BTreeMap<PathBuf, T>>;

impl Alike<'_> {
    /// As [`Host::exists`].
    #[must_use]
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        let exists = |answers: &Answers| once(&answers.there, path, || Ok(self.0.exists(path)));
        // Nothing fails here.
        self.of_look().and_then(|answers| exists(answers).ok()).unwrap_or_else(|| self.0.exists(path))
    }

    /// As [`Host::attribute_if_any`].
    pub fn attribute_if_any(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        let ask = || self.0.attribute_if_any(&path);
        self.of_look().map_or_else(ask, |answers| once(&answers.texts, path.as_ref(), ask))
    }

    /// Whether a folder has something of that name, as [`Host::exists`] would say: many devices are in it.
    #[must_use]
    pub fn has(&self, folder: &str, name: &str) -> bool {
        // What can't be listed may be there all the same.
        let names = self.of_look().and_then(|answers| self.names(answers, folder).ok());
        names.map_or_else(|| self.0.exists(format!("{folder}/{name}")), |names| names.contains(name))
    }

    /// Whether a folder is empty or not there, as [`Host::list`] would say.
    pub fn is_empty(&self, folder: &str) -> Result<bool> {
        match self.of_look() {
            Some(answers) => Ok(self.names(answers, folder)?.is_empty()),
            None => Ok(self.0.list(folder)?.is_empty()),
        }
    }

    fn names(&self, answers: &Answers, folder: &str) -> Result<Arc<BTreeSet<String>>> {
        once(&answers.folders, folder.as_ref(), || Ok(Arc::new(self.0.list(folder)?.into_iter().collect())))
    }

    fn of_look(&self) -> Option<&Answers> {
        self.0.answers.as_deref()
    }
}

/// What can't be read is asked for anew.
fn once<T: Clone>(answered: &Answered<T>, path: &Path, ask: impl FnOnce() -> Result<T>) -> Result<T> {
    // A thread that panicked while it held the map left a whole one: an insert is all that is ever done to it.
    let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = answered.get(path) {
        return Ok(answer.clone());
    }
    let answer = ask()?;
    answered.insert(path.to_owned(), answer.clone());
    Ok(answer)
}
