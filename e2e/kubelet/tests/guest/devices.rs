//! What a device plugin's answer becomes in a container.

use doorbell_common::kubelet::deviceplugin::{
    ContainerAllocateResponse, DevicePluginOptions, DeviceSpec, Mount,
};
use e2e_kubelet::{PodError, PodSpec};
use tonic::Status;

use crate::{
    fake_plugin::{Asked, FakePlugin},
    guest::{Guest, IDLE, LIMIT, shell},
};

/// It is a CDI kind too, so its name has more than one letter: over a class (or vendor) of a single one, the CDI library
/// of containerd 2.1.9 panics, and containerd with it, at every start from then on.
const RESOURCE: &str = "example.com/net";
const OPTIONS: DevicePluginOptions =
    DevicePluginOptions { pre_start_required: true, get_preferred_allocation_available: false };

async fn plugin(guest: &Guest, ids: &[&str]) -> FakePlugin {
    let folder = guest.kubelet.config().plugins();
    let plugin = FakePlugin::serve(&folder, "fake.sock", RESOURCE, ids, OPTIONS);
    plugin.register(&guest.kubelet.config().registration_socket()).await.unwrap();
    guest.kubelet.wait_allocatable(RESOURCE, ids.len(), LIMIT).await.unwrap();
    let cdi = serde_json::json!({
        "cdiVersion": "0.6.0",
        "kind": RESOURCE,
        "devices": ids.iter().map(|id| serde_json::json!({
            "name": id,
            "containerEdits": {
                "env": [format!("CDI={id}")],
                "deviceNodes": [{ "path": "/dev/by-cdi", "hostPath": "/dev/null" }],
            },
        })).collect::<Vec<_>>(),
    });
    std::fs::create_dir_all("/var/run/cdi").unwrap();
    std::fs::write("/var/run/cdi/example.com-net.json", cdi.to_string()).unwrap();
    plugin
}

fn pod(name: &str) -> PodSpec {
    PodSpec::new(name).container(shell("c", IDLE).resource(RESOURCE, 1))
}

pub(crate) async fn the_answer_is_what_the_container_sees() {
    let guest = Guest::new().await;
    let plugin = plugin(&guest, &["a"]).await;
    let host = guest.path("descriptor");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("device.json"), "{}").unwrap();
    plugin.answer(ContainerAllocateResponse {
        mounts: vec![Mount {
            container_path: "/run/given".to_owned(),
            host_path: host.display().to_string(),
            read_only: true,
        }],
        devices: vec![DeviceSpec {
            container_path: "/dev/given".to_owned(),
            // Not one of the devices that every container may use anyway.
            host_path: "/dev/vda".to_owned(),
            permissions: "r".to_owned(),
        }],
        ..Default::default()
    });
    let uid = guest.kubelet.run_pod(pod("p"), LIMIT).await.unwrap();
    let script = "echo $DEVICES $CDI; cat /run/given/device.json; echo; touch /run/given/x 2>/dev/null || echo read-only; \
                  head -c 4 /dev/given | wc -c; test -c /dev/by-cdi && echo cdi; (: > /dev/given) 2>/dev/null || echo no-write; \
                  ulimit -l";
    let exec = guest.kubelet.exec(&uid, "c", ["sh", "-c", script], LIMIT).await.unwrap();
    let lines: Vec<_> = exec.stdout.lines().collect();
    println!("memlock in the container: {} KiB", lines.last().unwrap());
    assert_eq!(lines[..6], ["a a", "{}", "read-only", "4", "cdi", "no-write"], "{exec:?}");
    let held = vec!["a".to_owned()];
    assert_eq!(plugin.asked(), [Asked::Allocate(held.clone()), Asked::PreStart(held.clone())]);

    // A container that starts again meets PreStart again, and gets the answer that was kept.
    guest.kubelet.restart_container(&uid, "c").await.unwrap();
    let exec = guest.kubelet.exec(&uid, "c", ["sh", "-c", "echo $DEVICES $CDI"], LIMIT).await.unwrap();
    assert_eq!(exec.stdout, "a a\n");
    assert_eq!(plugin.asked().last(), Some(&Asked::PreStart(held)));
    guest.kubelet.remove_pod(&uid).await.unwrap();
}

pub(crate) async fn a_refused_pre_start_leaves_no_container() {
    let guest = Guest::new().await;
    let plugin = plugin(&guest, &["a"]).await;
    plugin.refuse("PreStart", Status::failed_precondition("not wired"));
    let spec = pod("p");
    let uid = spec.uid.clone();
    let error = guest.kubelet.run_pod(spec, LIMIT).await.unwrap_err();
    assert!(matches!(error, PodError::PreStart(_)) && error.to_string().contains("not wired"), "{error}");
    assert!(guest.kubelet.container_id(&uid, "c").is_err());
    // The kubelet would try again, and so may a scenario.
    plugin.permit("PreStart");
    let sandbox = guest.kubelet.start_pod(&uid).await.unwrap();
    assert_eq!(sandbox.attempt, 1);
    guest.kubelet.remove_pod(&uid).await.unwrap();
}
