//! What is logged by the tasks of this thread, as it would be on stderr.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::subscriber::{DefaultGuard, set_default};

const WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct Logged {
    text: Log,
    _here: DefaultGuard,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Logged {
    /// From here on, until it is dropped.
    pub(crate) fn here() -> Self {
        let text = Log::default();
        let log = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || log.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        Self { text, _here: set_default(subscriber) }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.text.0.lock().unwrap().clone()).unwrap()
    }

    /// Lines that say it.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.text().lines().filter(|line| line.contains(what)).count()
    }

    /// Waits until it is said.
    pub(crate) async fn until(&self, what: &str) {
        let said = async {
            while self.count(what) == 0 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(WITHIN, said).await.is_err() {
            panic!("no {what} in:\n{}", self.text());
        }
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
