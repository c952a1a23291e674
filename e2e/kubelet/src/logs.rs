//! Container logs: the files that the runtime writes in the CRI's format, as plain lines.
//! A line is `<time> <stdout|stderr> <P|F> <text>`; `P` is a part, completed by the next lines of its stream up to `F`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use inotify::{Inotify, WatchMask};
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt as _;

use crate::{container::log_path, kubelet::Kubelet, lifecycle::PodError, pod::PodUid};

/// Why a log says nothing.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read or watched.
    #[error("cannot {verb} the log {}", path.display())]
    Io {
        /// "read" or "watch".
        verb: &'static str,
        /// The log.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The line did not come.
    #[error("no such line in {} after {limit:?}; it says {lines:#?}", path.display())]
    Missing {
        /// The log.
        path: PathBuf,
        /// The bound.
        limit: Duration,
        /// What it says instead.
        lines: Vec<String>,
    },
}

impl Kubelet {
    /// What the container's latest attempt has written, both streams in the order of their ends of line.
    pub fn logs(&self, uid: &PodUid, container: &str) -> Result<Vec<String>, PodError> {
        Ok(read(&self.log_file(uid, container)?)?)
    }

    /// Waits for a line of the container's latest attempt, past ones included.
    pub async fn wait_log_line(
        &self,
        uid: &PodUid,
        container: &str,
        mut wanted: impl FnMut(&str) -> bool,
        limit: Duration,
    ) -> Result<String, PodError> {
        let path = self.log_file(uid, container)?;
        Ok(wait(&path, &mut wanted, limit).await?)
    }

    fn log_file(&self, uid: &PodUid, container: &str) -> Result<PathBuf, PodError> {
        let found = self.shared.read(|state| {
            let pod = state.pods.get(uid)?;
            Some((pod.spec.clone(), pod.containers.get(container)?.attempt))
        });
        let (spec, attempt) = found.ok_or_else(|| PodError::no_container(uid, container))?;
        let folder = self.sandbox_config(&spec, 0).log_directory;
        Ok(Path::new(&folder).join(log_path(container, attempt)))
    }
}

async fn wait(
    path: &Path,
    wanted: &mut impl FnMut(&str) -> bool,
    limit: Duration,
) -> Result<String, LogError> {
    let end = Instant::now() + limit;
    let failed = |source| LogError::Io { verb: "watch", path: path.to_owned(), source };
    let inotify = Inotify::init().map_err(failed)?;
    // The folder, since the file may not be there yet; and before the first read, or a line could slip through.
    let folder = path.parent().unwrap_or(path);
    inotify.watches().add(folder, WatchMask::CREATE | WatchMask::MODIFY).map_err(failed)?;
    let mut changes = inotify.into_event_stream([0; 1024]).map_err(failed)?;
    loop {
        let lines = read(path)?;
        if let Some(line) = lines.iter().find(|line| wanted(line)) {
            return Ok(line.clone());
        }
        match timeout_at(end, changes.next()).await {
            Ok(Some(Err(source))) => return Err(failed(source)),
            Ok(_) => {}
            Err(_) => return Err(LogError::Missing { path: path.to_owned(), limit, lines }),
        }
    }
}

/// The log's lines; none where the runtime has not made the file yet.
fn read(path: &Path) -> Result<Vec<String>, LogError> {
    match std::fs::read(path) {
        Ok(text) => Ok(parse(&String::from_utf8_lossy(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(LogError::Io { verb: "read", path: path.to_owned(), source }),
    }
}

/// Plain lines of a log; what is not in the format is left out, and so is a line still being written.
fn parse(log: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut parts: BTreeMap<&str, String> = BTreeMap::new();
    for line in log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let mut fields = line.splitn(4, ' ');
        let (Some(_time), Some(stream), Some(tags)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let text = fields.next().unwrap_or_default();
        let whole = parts.entry(stream).or_default();
        whole.push_str(text);
        // Tags are separated by colons; the first one says whether the line is whole.
        if tags.split(':').next() == Some("F") {
            lines.push(std::mem::take(whole));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn parts_are_joined_by_stream() {
        let log = "2026-01-01T00:00:00.1Z stdout P one \n\
                   2026-01-01T00:00:00.2Z stderr F aside\n\
                   2026-01-01T00:00:00.3Z stdout F two\n\
                   2026-01-01T00:00:00.4Z stdout F \n\
                   2026-01-01T00:00:00.5Z stdout F half";
        assert_eq!(parse(log), ["aside", "one two", ""]);
    }

    #[tokio::test]
    async fn a_line_that_comes_later_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let writer = path.clone();
        let (ready, wait_ready) = tokio::sync::oneshot::channel();
        let mut ready = Some(ready);
        let waiting = tokio::spawn(async move {
            let wanted = &mut |line: &str| {
                // Called for the first line, so the watch stands: now the second may be written.
                ready.take().map(|ready| ready.send(()));
                line == "second"
            };
            wait(&path, wanted, Duration::from_secs(20)).await
        });
        fs::write(&writer, "t stdout F first\n").unwrap();
        wait_ready.await.unwrap();
        fs::write(&writer, "t stdout F first\nt stdout F second\n").unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), "second");
    }

    #[tokio::test]
    async fn a_line_that_never_comes_is_an_error_with_what_the_log_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        fs::write(&path, "t stdout F other\n").unwrap();
        let error = wait(&path, &mut |_| false, Duration::from_millis(10)).await.unwrap_err();
        assert!(matches!(error, LogError::Missing { lines, .. } if lines == ["other"]));
    }
}
