//! The log, on stderr: as text, or a JSON object a line. Its level follows the config.

use std::io;
use std::sync::Arc;

use anyhow::Result;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Config, LogLevel};

/// What is ours; the libraries below are heard only when something is wrong.
const OURS: &str = "doorbell";

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: `timestamp`, `level`, `fields.message`, and the other fields beside it.
    Json,
}

/// The log of this process, whose level can be changed.
#[derive(Debug, Clone)]
pub struct Logs(reload::Handle<Targets, Registry>);

impl Logs {
    /// Begins it on stderr, at level info. A process has one.
    #[must_use]
    pub fn begin(format: LogFormat) -> Self {
        Self::writing(format, io::stderr)
    }

    /// Likewise, elsewhere.
    #[must_use]
    pub fn writing<W>(format: LogFormat, writer: W) -> Self
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        let (filter, handle) = reload::Layer::new(filter(LogLevel::Info));
        let lines = fmt::layer().with_writer(writer).with_target(false);
        let lines = match format {
            LogFormat::Text => lines.with_ansi(false).boxed(),
            LogFormat::Json => lines.json().with_current_span(false).with_span_list(false).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(filter)).init();
        Self(handle)
    }

    /// Lets it have this level, from the next line on.
    pub fn set(&self, level: LogLevel) {
        // It fails when the log is gone, which it is at the process' end.
        let _ = self.0.reload(filter(level));
    }
}

/// Keeps the level as the config has it, until `closing`.
pub async fn keep(
    logs: Logs,
    mut configs: watch::Receiver<Arc<Config>>,
    closing: CancellationToken,
) -> Result<()> {
    let follow = async {
        loop {
            let level = configs.borrow_and_update().log_level;
            logs.set(level);
            if configs.wait_for(|config| config.log_level != level).await.is_err() {
                // Who reads the config has ended, and all ends with it.
                return;
            }
        }
    };
    closing.run_until_cancelled(follow).await;
    Ok(())
}

fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_target(OURS, level).with_default(level.min(LevelFilter::WARN))
}
