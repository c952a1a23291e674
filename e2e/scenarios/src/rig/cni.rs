//! Calling the CNI binary as a runtime does, for cases that containerd does not bring about.

use std::process::{Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::rig::node::BIN;

/// A namespace that is not there: modes that move nothing into it do without.
const NOWHERE: &str = "/run/netns/none";

/// The one interface that is asked for.
const IFNAME: &str = "net1";

/// What the binary answered.
#[derive(Debug)]
pub(crate) struct Answer(Output);

impl Answer {
    /// Its error document; fails if it succeeded.
    pub(crate) fn failed(&self) -> Result<Value> {
        ensure!(!self.0.status.success(), "it succeeded: {}", String::from_utf8_lossy(&self.0.stdout));
        self.document()
    }

    /// Its stdout as it came; fails if it failed.
    pub(crate) fn bytes(&self) -> Result<&[u8]> {
        ensure!(self.0.status.success(), "it failed: {}", String::from_utf8_lossy(&self.0.stdout));
        Ok(&self.0.stdout)
    }

    /// Its result, null where it has none; fails if it failed.
    pub(crate) fn succeeded(&self) -> Result<Value> {
        ensure!(self.0.status.success(), "it failed: {}", String::from_utf8_lossy(&self.0.stdout));
        if self.0.stdout.is_empty() { Ok(Value::Null) } else { self.document() }
    }

    fn document(&self) -> Result<Value> {
        serde_json::from_slice(&self.0.stdout)
            .with_context(|| format!("stdout is no JSON: {}", String::from_utf8_lossy(&self.0.stdout)))
    }
}

/// ADD for a network of its own that names no device.
pub(crate) async fn add(container: &str, pod: &str) -> Result<Answer> {
    call("ADD", container, pod, json!({})).await
}

/// ADD with a device named.
pub(crate) async fn add_device(container: &str, pod: &str, device: &str) -> Result<Answer> {
    call("ADD", container, pod, json!({ "deviceID": device })).await
}

/// ADD with more in the configuration, for a network of its own.
pub(crate) async fn add_with(container: &str, pod: &str, extra: Value) -> Result<Answer> {
    call("ADD", container, pod, extra).await
}

/// ADD with more in the configuration, into a namespace that is there.
pub(crate) async fn add_into(netns: &str, container: &str, pod: &str, extra: Value) -> Result<Answer> {
    invoke("ADD", netns, container, pod, &conf(extra)).await
}

/// CHECK of what an ADD of that configuration gave.
pub(crate) async fn check(netns: &str, container: &str, pod: &str, result: &Value) -> Result<Answer> {
    invoke("CHECK", netns, container, pod, &conf(json!({ "prevResult": result }))).await
}

/// GC that leaves these sandboxes what they have.
pub(crate) async fn gc(valid: &[&str]) -> Result<Answer> {
    let attachment = |id: &&str| json!({ "containerID": id, "ifname": IFNAME });
    let valid: Vec<Value> = valid.iter().map(attachment).collect();
    let conf = conf(json!({ "cniVersion": "1.1.0", "cni.dev/valid-attachments": valid }));
    invoke("GC", "", "", "", &conf).await
}

/// DEL with more in the configuration.
pub(crate) async fn del_with(container: &str, pod: &str, extra: Value) -> Result<Answer> {
    call("DEL", container, pod, extra).await
}

/// ADD behind another plugin.
pub(crate) async fn add_chained(container: &str, pod: &str, previous: &str) -> Result<Answer> {
    add_chained_by(&[&format!("{BIN}/doorbell")], container, pod, previous).await
}

/// Likewise, by another command line.
pub(crate) async fn add_chained_by(
    words: &[&str],
    container: &str,
    pod: &str,
    previous: &str,
) -> Result<Answer> {
    let conf = format!(r#"{{"cniVersion":"1.0.0","name":"test","type":"doorbell","prevResult":{previous}}}"#);
    invoke_by(words, "ADD", NOWHERE, container, pod, &conf).await
}

/// DEL, as it comes when the namespace is gone.
pub(crate) async fn del(container: &str) -> Result<Answer> {
    call("DEL", container, "a", json!({})).await
}

async fn call(verb: &str, container: &str, pod: &str, extra: Value) -> Result<Answer> {
    let netns = if verb == "DEL" { "" } else { NOWHERE };
    invoke(verb, netns, container, pod, &conf(extra)).await
}

fn conf(extra: Value) -> String {
    let mut conf = json!({ "cniVersion": "1.0.0", "name": "test", "type": "doorbell" });
    if let (Some(conf), Value::Object(extra)) = (conf.as_object_mut(), extra) {
        conf.extend(extra);
    }
    conf.to_string()
}

/// Calls the binary as a runtime does, with these bytes as its configuration.
async fn invoke(verb: &str, netns: &str, container: &str, pod: &str, conf: &str) -> Result<Answer> {
    invoke_by(&[&format!("{BIN}/doorbell")], verb, netns, container, pod, conf).await
}

/// Likewise, by another command line.
async fn invoke_by(
    words: &[&str],
    verb: &str,
    netns: &str,
    container: &str,
    pod: &str,
    conf: &str,
) -> Result<Answer> {
    let [program, arguments @ ..] = words else { bail!("there is nothing to run") };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", container)
        .env("CNI_IFNAME", IFNAME)
        .env("CNI_NETNS", netns)
        .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod}"))
        .env("CNI_PATH", format!("{BIN}:/usr/lib/cni"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("run the CNI binary")?;
    let mut stdin = child.stdin.take().context("the CNI binary has no stdin")?;
    stdin.write_all(conf.as_bytes()).await?;
    drop(stdin);
    Ok(Answer(child.wait_with_output().await?))
}
