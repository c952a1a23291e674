//! The life of pods without devices.

use e2e_kubelet::{Phase, PodError, PodSpec};

use crate::guest::{Guest, IDLE, LIMIT, shell, shell_pod};

pub(crate) async fn a_pod_lives_from_its_sandbox_to_its_removal() {
    let mut guest = Guest::new().await;
    let spec = shell_pod("p", IDLE);
    let uid = guest.kubelet.run_pod(spec, LIMIT).await.unwrap();
    guest.step("pod started");
    guest.kubelet.wait_log_line(&uid, "c", |line| line == "up", LIMIT).await.unwrap();
    guest.step("its first line seen");
    let sandbox = guest.kubelet.sandboxes(&uid).await.unwrap().remove(0);
    let ip = guest.kubelet.pod_ip(&uid).await.unwrap().unwrap();
    assert!(sandbox.ready && sandbox.netns.as_ref().unwrap().exists());
    assert_eq!(guest.addresses(), std::slice::from_ref(&ip));
    let exec =
        guest.kubelet.exec(&uid, "c", ["sh", "-c", "ip -4 addr show eth0; echo oops >&2; exit 7"], LIMIT);
    let exec = exec.await.unwrap();
    guest.step("exec");
    assert!(exec.stdout.contains(&ip), "{exec:?}");
    assert_eq!((exec.stderr.as_str(), exec.exit), ("oops\n", 7));
    // containerd tells the plugins whose sandbox it is.
    let [verb, id, args] = &guest.cni_calls()[0];
    assert_eq!((verb.as_str(), id), ("ADD", &sandbox.id));
    for part in ["K8S_POD_NAMESPACE=default", "K8S_POD_NAME=p", &format!("K8S_POD_UID={uid}")] {
        assert!(args.contains(part), "{args}");
    }

    guest.kubelet.stop_pod(&uid).await.unwrap();
    guest.step("pod stopped");
    assert_eq!(guest.kubelet.view().pods[&uid].phase, Phase::Terminated);
    assert!(guest.addresses().is_empty() && !sandbox.netns.unwrap().exists());
    assert_eq!(guest.kubelet.logs(&uid, "c").unwrap(), ["up"]);
    guest.kubelet.remove_pod(&uid).await.unwrap();
    guest.step("pod removed");
    assert!(guest.kubelet.sandboxes(&uid).await.unwrap().is_empty());
    assert!(guest.kubelet.view().pods.is_empty());
}

pub(crate) async fn exit_codes_and_both_streams_are_seen() {
    let guest = Guest::new().await;
    let uid = guest.kubelet.run_pod(shell_pod("p", "echo out; echo err >&2; exit 3"), LIMIT).await.unwrap();
    assert_eq!(guest.kubelet.wait_exit(&uid, "c", LIMIT).await.unwrap(), 3);
    let mut lines = guest.kubelet.logs(&uid, "c").unwrap();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    guest.kubelet.remove_pod(&uid).await.unwrap();
}

pub(crate) async fn init_containers_run_one_by_one_before_the_containers() {
    let guest = Guest::new().await;
    let shared = guest.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let step = |name: &str, script: &str| shell(name, script).mount(&shared, "/shared");
    let spec = PodSpec::new("p")
        .init_container(step("first", "sleep 1; echo first >>/shared/order"))
        .init_container(step("second", "echo second >>/shared/order"))
        .container(step("c", "echo third >>/shared/order"));
    let uid = guest.kubelet.run_pod(spec, LIMIT).await.unwrap();
    guest.kubelet.wait_exit(&uid, "c", LIMIT).await.unwrap();
    assert_eq!(std::fs::read_to_string(shared.join("order")).unwrap(), "first\nsecond\nthird\n");
    guest.kubelet.remove_pod(&uid).await.unwrap();

    let failing = shell_pod("q", IDLE).init_container(shell("init", "exit 4"));
    let uid = failing.uid.clone();
    let error = guest.kubelet.run_pod(failing, LIMIT).await.unwrap_err();
    assert!(matches!(error, PodError::Init { exit: 4, .. }), "{error}");
    guest.kubelet.remove_pod(&uid).await.unwrap();
}

pub(crate) async fn a_container_that_is_not_root_uses_the_nodes_huge_pages() {
    let guest = Guest::new().await;
    let huge = guest.path("huge");
    std::fs::create_dir(&huge).unwrap();
    std::fs::write("/proc/sys/vm/nr_hugepages", "4").unwrap();
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "hugetlbfs", "-o", "mode=1777,pagesize=2M", "hugetlbfs"]).arg(&huge);
    assert!(mount.status().unwrap().success());
    // No limit is in the way: containerd leaves the hugetlb controller alone unless it is told otherwise.
    let script =
        "echo $(id -u) $(id -g); fallocate -l $((4 << 20)) /dev/hugepages/pages; wc -c /dev/hugepages/pages";
    let container = shell("c", script).mount(&huge, "/dev/hugepages").run_as_user(1000).run_as_group(1001);
    let uid = guest.kubelet.run_pod(PodSpec::new("p").container(container), LIMIT).await.unwrap();
    assert_eq!(guest.kubelet.wait_exit(&uid, "c", LIMIT).await.unwrap(), 0);
    assert_eq!(guest.kubelet.logs(&uid, "c").unwrap(), ["1000 1001", "4194304 /dev/hugepages/pages"]);
    guest.kubelet.remove_pod(&uid).await.unwrap();
    assert!(std::process::Command::new("umount").arg(&huge).status().unwrap().success());
}

pub(crate) async fn a_pod_on_the_hosts_network_calls_no_cni() {
    let guest = Guest::new().await;
    let uid = guest.kubelet.run_pod(shell_pod("p", IDLE).host_network(), LIMIT).await.unwrap();
    assert!(guest.cni_calls().is_empty());
    assert_eq!(guest.kubelet.pod_ip(&uid).await.unwrap(), None);
    guest.kubelet.remove_pod(&uid).await.unwrap();
}
