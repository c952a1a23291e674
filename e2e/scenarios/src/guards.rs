//! What a node does to its devices behind the plugin's back, and who tells whom: each case with its exact message.

use anyhow::{Context, Result, ensure};
use doorbell_common::error::chain;
use doorbell_common::formats::{cdi, descriptor};
use doorbell_common::host::Host;
use doorbell_common::kernel::pci;
use e2e_kubelet::Kubelet;
use serde_json::Value;

use crate::Story;
use crate::rig::node::{Node, command, make_vfs};
use crate::rig::plugin::{self, CONFIG as CONFIG_FILE, FAST, Plugin};
use crate::rig::{WITHIN, cni, pods, until};

/// Two pools that both select VF 0, and one whose PF will be on a VFIO driver itself.
const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
  prepare: {numVfs: 2}
- name: rest
  access: vfio
  select: {pfNames: ['0000:01:00.0']}
  prepare: {}
- name: token
  access: vfio
  select: {pfNames: ['0000:02:00.0']}
  prepare: {}
";
/// The same without the pool `rest`.
const WITHOUT_REST: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0#0']}
";
const REST: &str = "doorbell.dev/rest";
const VF: &str = "0000:01:00.1";
const UNSAFE: &str = "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
const SCHEMA: &str = include_str!("../../../docs/schema/explain.schema.json");
const POD_RESOURCES: &str = "/var/lib/kubelet/pod-resources/kubelet.sock";

pub(crate) async fn guards(story: Story) -> Result<()> {
    let node = Node::start().await?;
    let kubelet = &node.kubelet;
    vf_token_pf().await?;
    let plugin = Plugin::start(CONFIG).await?;
    for resource in [FAST, REST] {
        kubelet.wait_allocatable(resource, 1, WITHIN).await?;
    }

    explained(&story).await?;
    scanned(&story, kubelet).await?;
    unsafe_interrupts(&story).await?;
    podresources(&story, kubelet).await?;
    run_wiped(&story, kubelet).await?;
    pool_gone(&story, kubelet, plugin).await
}

/// A PF on vfio-pci with VFs: whoever opens it hands out a token that opens the VFs.
async fn vf_token_pf() -> Result<()> {
    command("modprobe", &["vfio-pci", "enable_sriov=1"]).await?;
    pci::bind(&Host::real(), "0000:02:00.0".parse()?, "vfio-pci")?;
    make_vfs("0000:02:00.0", 1)
}

/// Every check on a VF that passes them all, as a person and as a program see it.
async fn explained(story: &Story) -> Result<()> {
    let explanation = plugin::explain(VF).await?;
    let checks = explanation["checks"].as_array().context("no checks")?;
    let decided = checks.iter().filter(|check| check["outcome"] != "noted").count();
    ensure!(decided >= 15, "only {decided} checks: {explanation}");
    ensure!(explanation["advertised"] == true && explanation["pool"] == "fast", "{explanation}");
    let bare = |check: &Value| check["restsOn"].as_str().is_none_or(str::is_empty);
    ensure!(!checks.iter().any(bare), "a check rests on nothing: {explanation}");
    let overlap = plugin::check(&explanation, "overlap")?;
    ensure!(overlap["found"] == "selected by rest too: the first pool in the config has it", "{overlap}");
    let schema: Value = serde_json::from_str(SCHEMA)?;
    let errors: Vec<String> = jsonschema::validator_for(&schema)?
        .iter_errors(&explanation)
        .map(|error| error.to_string())
        .collect();
    ensure!(errors.is_empty(), "the schema says otherwise: {errors:?}");
    story.quote(plugin::explain_text(VF).await?);
    story.tell(format!(
        "explain: {decided} checks passed, {} facts beside them; its JSON is the schema's",
        checks.len() - decided
    ));
    Ok(())
}
/// VFs that may not be handed out, each with its reason.
async fn scanned(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let rows = plugin::scan().await?;
    let both = plugin::row(&rows, VF)?;
    ensure!(both["pool"] == "fast" && both["alsoSelectedBy"] == serde_json::json!(["rest"]), "{both}");
    let token = plugin::row(&rows, "0000:02:00.1")?;
    ensure!(
        token["reasons"].to_string().contains("its PF 0000:02:00.0 is on a VFIO driver itself"),
        "{token}"
    );
    ensure!(kubelet.allocatable("doorbell.dev/token") == 0, "a VF behind a token is advertised");
    story.tell(format!("scan: {}", token["reasons"]));

    // Without the capability the kernel gives 64 bytes of configuration space.
    let program = plugin::program();
    let limited = ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", &program];
    let scan = ["scan", "--config", CONFIG_FILE, "--output", "json"];
    let arguments: Vec<&str> = limited.into_iter().chain(scan).collect();
    let rows: Vec<Value> = serde_json::from_str(&command("setpriv", &arguments).await?)?;
    let row = plugin::row(&rows, VF)?;
    let expected =
        "only 64 bytes of configuration space can be read, 256 are needed (is CAP_SYS_ADMIN missing?)";
    ensure!(row["reasons"].to_string().contains(expected) && row["doorbell"] == "unverifiable", "{row}");
    story.tell(format!("scan without CAP_SYS_ADMIN: {expected}"));
    Ok(())
}

/// A host that takes interrupts that are not isolated, from one moment to the next.
async fn unsafe_interrupts(story: &Story) -> Result<()> {
    Host::real().write_attribute(UNSAFE, "Y")?;
    let refused = plugin::allocate("fast", VF).await?.err().context("Allocate passed")?;
    let expected =
        format!("{VF} is not what was advertised: module vfio_iommu_type1 has allow_unsafe_interrupts set");
    ensure!(refused.message() == expected, "{refused:?}");
    let refused = plugin::pre_start("fast", VF).await?.err().context("PreStartContainer passed")?;
    ensure!(refused.message() == expected, "{refused:?}");
    Host::real().write_attribute(UNSAFE, "N")?;
    ensure!(plugin::allocate("fast", VF).await?.is_ok(), "Allocate is refused though all is well again");
    story.tell(format!("Allocate and PreStartContainer: {expected}"));
    Ok(())
}

/// The kubelet that is asked too often, and the one that is not there.
async fn podresources(story: &Story, kubelet: &Kubelet) -> Result<()> {
    let pod = pods::admitted(kubelet, pods::answering("asked", FAST, "10.9.0.11")).await?;
    kubelet.limit_next(5);
    cni::add("c1", "asked").await?.succeeded()?;
    cni::del("c1").await?.succeeded()?;
    story.tell("five times refused by the kubelet's rate limit, ADD goes through");

    // An older kubelet: no Get, and ended pods are listed with what they held.
    kubelet.remove_pod(&pod).await?;
    kubelet.set_get_enabled(false);
    kubelet.set_list_terminated(true);
    let pod = pods::admitted(kubelet, pods::answering("asked", FAST, "10.9.0.11")).await?;
    let refused = cni::add("c1", "asked").await?.failed()?;
    let expected = "it lists 2 pods of that name, a former one among them";
    ensure!(refused["code"] == 11 && refused["details"].to_string().contains(expected), "{refused}");
    story.tell(format!("an older kubelet that lists a pod's predecessor too: {expected}"));
    kubelet.set_get_enabled(true);
    kubelet.set_list_terminated(false);

    // The double keeps its sockets' files when it stops, as a killed kubelet does.
    kubelet.stop().await;
    std::fs::remove_file(POD_RESOURCES)?;
    let refused = cni::add("c1", "asked").await?.failed()?;
    kubelet.resume().await?;
    ensure!(refused["code"] == 11, "{refused}");
    ensure!(refused["msg"] == "the kubelet does not say what pod default/asked holds", "{refused}");
    ensure!(refused["details"].to_string().contains(POD_RESOURCES), "{refused}");
    story.tell(format!("without a kubelet: {} ({})", refused["msg"], refused["details"]));
    kubelet.wait_allocatable(FAST, 1, WITHIN).await?;
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

/// Everything that the plugin wrote below /run is taken away under it.
async fn run_wiped(story: &Story, kubelet: &Kubelet) -> Result<()> {
    for folder in ["/run/doorbell", "/run/cdi", "/run/k8s.cni.cncf.io"] {
        std::fs::remove_dir_all(folder).with_context(|| format!("wipe {folder}"))?;
    }
    let files = [cdi::file("fast"), descriptor::device_file(&VF.parse()?)];
    until("what was wiped is back", || files.iter().all(|file| Host::real().exists(file))).await?;
    let pod = kubelet.run_pod(pods::answering("after", FAST, "10.9.0.12"), WITHIN).await?;
    pods::up(kubelet, &pod).await?;
    story.tell("/run was wiped under the live plugin: all of it is back, and a pod starts");
    kubelet.remove_pod(&pod).await?;
    Ok(())
}

/// A pool leaves the config while a pod holds a device of it.
async fn pool_gone(story: &Story, kubelet: &Kubelet, plugin: Plugin) -> Result<()> {
    let pod = kubelet.run_pod(pods::answering("held", REST, "10.9.0.13"), WITHIN).await?;
    let device = pods::device(kubelet, &pod, REST)?;
    ensure!(plugin.terminate().await?.success(), "the plugin did not end well");
    let before = kubelet.registrations(FAST);
    let gone = Plugin::start(WITHOUT_REST).await?;
    kubelet.wait_registrations(FAST, before + 1, WITHIN).await?;
    let refused =
        kubelet.restart_container(&pod, pods::CONTAINER).await.err().context("the container restarted")?;
    story.tell(format!("the container is not started again: {}", chain(&refused)));

    // Nobody claims the device once its sandbox is gone. It is the pod's all the same, which has another sandbox then.
    for sandbox in kubelet.sandboxes(&pod).await? {
        kubelet.stop_sandbox(&sandbox.id).await?;
    }
    ensure!(gone.terminate().await?.success(), "the plugin did not end well");
    let before = kubelet.registrations(FAST);
    let gone = Plugin::start(WITHOUT_REST).await?;
    kubelet.wait_registrations(FAST, before + 1, WITHIN).await?;
    let files = [descriptor::device_file(&device), cdi::file("rest")];
    ensure!(files.iter().all(|file| Host::real().exists(file)), "a pod has the device, and lost its files");
    let refused =
        kubelet.start_pod(&pod).await.err().context("a container of a pool that is gone started")?;
    ensure!(chain(&refused).contains("PreStartContainer"), "{}", chain(&refused));
    let sandboxes = kubelet.sandboxes(&pod).await?;
    ensure!(sandboxes.iter().any(|sandbox| sandbox.ready), "no sandbox stands: {sandboxes:?}");
    story.tell("what its sandbox is made of stays while the kubelet says that it has the device");

    kubelet.remove_pod(&pod).await?;
    ensure!(gone.terminate().await?.success(), "the plugin did not end well");
    let _gone = Plugin::start(WITHOUT_REST).await?;
    until("what the pod had is gone", || !files.iter().any(|file| Host::real().exists(file))).await?;
    story.tell("and goes with the pod");
    Ok(())
}
