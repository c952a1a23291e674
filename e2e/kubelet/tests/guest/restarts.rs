//! Pods outlive the kubelet and containerd; after a reboot they have to be admitted anew.

use std::path::Path;

use doorbell_common::kubelet::deviceplugin::DevicePluginOptions;
use e2e_kubelet::{Kubelet, Phase, PodSpec, PodUid};

use crate::{
    fake_plugin::FakePlugin,
    guest::{Guest, IDLE, LIMIT, shell},
};

const RESOURCE: &str = "example.com/disk";

/// A plugin that registers, whose device "a" sets DISK in the container.
async fn plugin(kubelet: &Kubelet) -> FakePlugin {
    let cdi = r#"{"cdiVersion":"0.6.0","kind":"example.com/disk","devices":[{"name":"a","containerEdits":{"env":["DISK=1"]}}]}"#;
    std::fs::create_dir_all("/var/run/cdi").unwrap();
    std::fs::write("/var/run/cdi/example.com-disk.json", cdi).unwrap();
    let options = DevicePluginOptions::default();
    let plugin = FakePlugin::serve(&kubelet.config().plugins(), "disk.sock", RESOURCE, &["a"], options);
    plugin.register(&kubelet.config().registration_socket()).await.unwrap();
    kubelet.wait_allocatable(RESOURCE, 1, LIMIT).await.unwrap();
    plugin
}

pub(crate) async fn a_running_pod_is_readmitted_without_its_plugin_and_a_stopped_one_is_not() {
    let mut guest = Guest::new().await;
    let _plugin = plugin(&guest.kubelet).await;
    let spec = PodSpec::new("p").container(shell("c", IDLE).resource(RESOURCE, 1));
    let uid = guest.kubelet.run_pod(spec, LIMIT).await.unwrap();
    guest.step("pod started");

    guest.kubelet.restart().await.unwrap();
    guest.kubelet.readmit(&uid).await.unwrap();
    guest.step("kubelet restarted");
    guest.restart_containerd().await;
    guest.step("containerd restarted");
    assert_eq!(guest.kubelet.view().pods[&uid].phase, Phase::Running);
    let exec = guest.kubelet.exec(&uid, "c", ["sh", "-c", "echo $DISK"], LIMIT).await.unwrap();
    assert_eq!(exec.stdout, "1\n");

    // As after a reboot: nothing runs, and the plugin is not back yet.
    let sandbox = guest.kubelet.sandboxes(&uid).await.unwrap().remove(0);
    guest.kubelet.stop_sandbox(&sandbox.id).await.unwrap();
    guest.kubelet.restart().await.unwrap();
    let error = guest.kubelet.readmit(&uid).await.unwrap_err();
    assert!(error.to_string().contains("no healthy devices present"), "{error}");
    guest.kubelet.remove_pod(&uid).await.unwrap();
}

pub(crate) async fn a_pod_of_before_the_reboot_is_started_again_from_the_checkpoint() {
    let mut guest = Guest::new().await;
    let before = plugin(&guest.kubelet).await;
    let spec = PodSpec::new("p").container(shell("c", IDLE).resource(RESOURCE, 1));
    let uid = guest.kubelet.run_pod(spec.clone(), LIMIT).await.unwrap();
    before.kill();
    guest.kubelet.reboot().await.unwrap();
    guest.step("rebooted");
    let old = guest.kubelet.sandboxes(&uid).await.unwrap().remove(0);
    assert!(!old.ready && guest.cni_calls().len() == 1, "{old:?}");
    let again = plugin(&guest.kubelet).await;
    guest.kubelet.readmit(&uid).await.unwrap();
    let new = guest.kubelet.start_pod(&uid).await.unwrap();
    guest.step("started again");
    assert_eq!((new.attempt, again.asked()), (1, vec![]));
    let mut calls: Vec<_> = guest.cni_calls().into_iter().map(|[verb, id, _]| (verb, id)).collect();
    calls.dedup();
    let expected = [("ADD", &old.id), ("DEL", &old.id), ("ADD", &new.id)];
    assert_eq!(calls, expected.map(|(verb, id)| (verb.to_owned(), id.clone())));

    // The kubelet of another process finds the pod running.
    let config = guest.kubelet.config().clone();
    guest.kubelet.stop().await;
    guest.kubelet = Kubelet::start(config).await.unwrap();
    assert_eq!(guest.kubelet.adopt(spec).unwrap(), uid);
    guest.kubelet.readmit(&uid).await.unwrap();
    assert_eq!(guest.kubelet.view().pods[&uid].phase, Phase::Running);
    let exec = guest.kubelet.exec(&uid, "c", ["sh", "-c", "echo $DISK"], LIMIT).await.unwrap();
    assert_eq!(exec.stdout, "1\n");
    guest.kubelet.restart_container(&uid, "c").await.unwrap();
    guest.kubelet.remove_pod(&uid).await.unwrap();
}

pub(crate) async fn a_pod_of_before_a_power_cycle_is_started_again_by_a_new_process() {
    let mut guest = Guest::on(Path::new("/var/lib/guest")).await;
    let plugin = plugin(&guest.kubelet).await;
    let uid = PodUid::from("00000000-0000-0000-0000-000000000001");
    let container = shell("c", "echo up $DISK; sleep 1000").resource(RESOURCE, 1);
    let spec = PodSpec::new("p").uid(uid.clone()).container(container);
    if std::env::var("DOORBELL_BOOT").unwrap() == "1" {
        guest.kubelet.run_pod(spec, LIMIT).await.unwrap();
        guest.kubelet.wait_log_line(&uid, "c", |line| line == "up 1", LIMIT).await.unwrap();
        std::process::Command::new("doorbell-reset").status().unwrap();
        unreachable!("the machine was reset");
    }
    guest.kubelet.adopt(spec).unwrap();
    let old = guest.kubelet.sandboxes(&uid).await.unwrap().remove(0);
    assert!(!old.ready, "{old:?}");
    guest.kubelet.readmit(&uid).await.unwrap();
    let new = guest.kubelet.start_pod(&uid).await.unwrap();
    guest.step("started again");
    guest.kubelet.wait_log_line(&uid, "c", |line| line == "up 1", LIMIT).await.unwrap();
    assert_eq!((new.attempt, plugin.asked()), (1, vec![]));
    let mut calls: Vec<_> = guest.cni_calls().into_iter().map(|[verb, id, _]| (verb, id)).collect();
    calls.dedup();
    let expected = [("ADD", &old.id), ("DEL", &old.id), ("ADD", &new.id)];
    assert_eq!(calls, expected.map(|(verb, id)| (verb.to_owned(), id.clone())));
}
