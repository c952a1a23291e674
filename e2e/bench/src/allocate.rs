//! Allocate, call by call, beside an empty call that makes the system calls of its verification.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use doorbell_common::kubelet::deviceplugin::device_plugin_client::DevicePluginClient;
use doorbell_common::kubelet::deviceplugin::{AllocateRequest, ContainerAllocateRequest};
use e2e_bench::kubelet::{FOLDER, Kubelet, dial};
use e2e_bench::load::{Load, Vf};
use e2e_bench::process::Process;
use tonic::transport::Channel;

use crate::programs::Programs;
use crate::start::{first, inside};

const FLOOR: &str = "/floor.sock";
/// Calls to one, then to the other: what else the machine does falls on both.
const BLOCK: usize = 32;
/// A process that listens is there within this.
const LISTENS_WITHIN: Duration = Duration::from_secs(5);
const SETTLES: Duration = Duration::from_secs(1);

/// How long each call took, in seconds.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// To the plugin.
    pub(crate) plugin: Vec<f64>,
    /// To the floor.
    pub(crate) floor: Vec<f64>,
}

/// Asks for each device of a load once.
pub(crate) fn calls(programs: &Programs, load: Load) -> Result<Calls> {
    inside(programs, load, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut kubelet = Kubelet::listen()?;
            let plugin = Process::plugin()?;
            first(&mut kubelet, load).await?;
            let counts = [load.vfs, load.pfs, load.pools].map(|count| count.to_string());
            let mut arguments = vec!["allocate", FLOOR];
            arguments.extend(counts.iter().map(String::as_str));
            let floor = Process::start("/floor", &arguments, Path::new("/floor.log"))?;
            tokio::time::sleep(SETTLES).await;

            let mut to_plugin = DevicePluginClient::new(dial(&plugin_socket()?).await?);
            let mut to_floor = DevicePluginClient::new(dial_soon(Path::new(FLOOR)).await?);
            let ids: Vec<String> = load.vfs().map(Vf::address).collect();
            let mut calls = Calls::default();
            for block in ids.chunks(BLOCK) {
                for id in block {
                    calls.floor.push(call(&mut to_floor, id).await.context("call the floor")?);
                }
                for id in block {
                    calls.plugin.push(call(&mut to_plugin, id).await.context("call the plugin")?);
                }
            }
            drop(floor);
            plugin.stop()?;
            Ok(calls)
        })
    })
}

async fn call(client: &mut DevicePluginClient<Channel>, id: &str) -> Result<f64> {
    let container = ContainerAllocateRequest { devices_ids: vec![id.to_owned()] };
    let request = AllocateRequest { container_requests: vec![container] };
    let started = Instant::now();
    let answer = client.allocate(request).await;
    let took = started.elapsed();
    ensure!(answer?.into_inner().container_responses.len() == 1, "no answer for {id}");
    Ok(took.as_secs_f64())
}

/// The one socket beside the kubelet's own.
fn plugin_socket() -> Result<std::path::PathBuf> {
    for entry in fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name != "kubelet.sock") {
            return Ok(path);
        }
    }
    anyhow::bail!("the plugin has no socket")
}

async fn dial_soon(socket: &Path) -> Result<Channel> {
    let until = Instant::now() + LISTENS_WITHIN;
    while !socket.exists() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    dial(socket).await
}
