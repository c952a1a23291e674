//! The log, whose level follows the config. One test: a process has one log.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use doorbell_device_plugin::config::{Config, LogLevel};
use doorbell_device_plugin::logs::{self, LogFormat, Logs};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const WITHIN: Duration = Duration::from_secs(10);
/// As a line of the plugin has it.
const OURS: &str = "doorbell_device_plugin";

/// What was written, line by line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for &Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn take(&self) -> Vec<Value> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn config(level: &str) -> Arc<Config> {
    let text = format!(
        "apiVersion: doorbell.dev/v1\nlogLevel: {level}\npools:\n- {{name: fast, access: vfio, select: {{vendors: ['1af4']}}}}\n"
    );
    Arc::new(Config::parse("config.yaml", &text).unwrap())
}

#[tokio::test]
async fn its_level_follows_the_config() {
    let lines: &'static Lines = Box::leak(Box::default());
    let logs = Logs::writing(LogFormat::Json, move || lines);
    let closing = CancellationToken::new();
    let (sender, configs) = watch::channel(config("info"));
    let keeping = tokio::spawn(logs::keep(logs, configs, closing.clone()));
    let says = async |level: &str, messages: &[&str]| {
        sender.send_replace(config(level));
        let followed = async {
            loop {
                lines.take();
                tracing::debug!(target: OURS, pool = "fast", "fine");
                tracing::info!(target: OURS, pool = "fast", "changed");
                tracing::warn!(target: OURS, pool = "fast", "look");
                let said = lines.take();
                let of_fields: Vec<&str> =
                    said.iter().map(|line| line["fields"]["message"].as_str().unwrap()).collect();
                if of_fields == messages {
                    return said;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(WITHIN, followed).await.unwrap_or_else(|_| panic!("level {level} is not followed"))
    };
    says("info", &["changed", "look"]).await;
    says("debug", &["fine", "changed", "look"]).await;
    let said = says("warn", &["look"]).await;
    assert_eq!((&said[0]["level"], &said[0]["fields"]["pool"]), (&json!("WARN"), &json!("fast")));
    says("trace", &["fine", "changed", "look"]).await;
    assert_eq!(sender.borrow().log_level, LogLevel::Trace);
    closing.cancel();
    keeping.await.unwrap().unwrap();
}
