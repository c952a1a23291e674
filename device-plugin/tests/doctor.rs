//! `doctor`: what of Kata's configuration, of the pools and of the host would fail a pod.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use doorbell_common::check::Outcome;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::doctor::{self, Report};
use node::{GOOD, Node};

const RS: &str = "etc/kata-containers/runtime-rs/configuration.toml";
const GO: &str = "etc/kata-containers/configuration.toml";
/// As runtime-rs' own, with the keys that matter set right.
const GOOD_RS: &str = r#"
[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"
machine_type = "q35"
cold_plug_vfio = "root-port"
pcie_root_port = 2
[agent.kata]
enable_debug = false
[runtime]
name = "virt_container"
hypervisor_name = "qemu"
agent_name = "kata"
vfio_mode = "guest-kernel"
dan_conf = "/run/kata-containers/dans"
pod_resource_api_sock = "/var/lib/kubelet/pod-resources/kubelet.sock"
"#;
const GOOD_GO: &str = r#"
[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"
machine_type = "q35"
hot_plug_vfio = "no-port"
cold_plug_vfio = "root-port"
pcie_root_port = 0
[runtime]
internetworking_model = "tcfilter"
vfio_mode = "guest-kernel"
dan_conf = "/run/kata-containers/dans"
pod_resource_api_sock = "/var/lib/kubelet/pod-resources/kubelet.sock"
"#;
const POOL_RS: &str = "{runtime: rs}";
const POOL_GO: &str = "{runtime: go}";
const POOL_DAN: &str = "{runtime: go, danConf: /run/kata-containers/dans}";

fn node() -> Node {
    let node = Node::with_cdevs(&[GOOD]);
    node.write("var/lib/kubelet/pod-resources/kubelet.sock", b"");
    node
}

fn config(kata: &str) -> Config {
    let text = format!(
        "apiVersion: doorbell.dev/v1\npools: [{{name: vm, access: vfio, runtime: kata, kata: {kata}, select: {{pfNames: [ens1f0]}}}}]\n"
    );
    Config::parse("pools.yaml", &text).unwrap()
}

/// Of a node with that file of Kata's, and a pool.
fn report(node: &Node, file: &str, text: &str, kata: &str) -> Report {
    node.write(file, text.as_bytes());
    doctor::kata(&node.host(), Some(&config(kata)), None, 1)
}

/// Name, what was found and how to mend it, of all that fails.
fn failures(report: &Report) -> Vec<(&'static str, String, String)> {
    let failed = report.findings.iter().filter(|finding| finding.outcome == Outcome::Failed);
    failed.map(|finding| (finding.name, finding.found.clone(), finding.mend.clone().unwrap())).collect()
}

/// The one failure of a node with that file.
fn failure(file: &str, text: &str, kata: &str) -> (&'static str, String, String) {
    let report = report(&node(), file, text, kata);
    assert!(!report.ok);
    let mut failures = failures(&report);
    assert_eq!(failures.len(), 1, "{failures:#?}");
    failures.remove(0)
}

#[test]
fn a_node_that_is_as_it_should_be_is_well() {
    let by_hot_plug = GOOD_GO
        .replace("cold_plug_vfio = \"root-port\"", "cold_plug_vfio = \"no-port\"")
        .replace("hot_plug_vfio = \"no-port\"", "hot_plug_vfio = \"root-port\"")
        .replace("pcie_root_port = 0", "pcie_root_port = 1");
    for (file, text, kata) in [
        (RS, GOOD_RS, POOL_RS),
        (GO, GOOD_GO, POOL_GO),
        (GO, &by_hot_plug, POOL_GO),
        (GO, &by_hot_plug, POOL_DAN),
    ] {
        let report = report(&node(), file, text, kata);
        assert!(report.ok && failures(&report).is_empty(), "{report:#?}");
    }
}

#[test]
fn what_fails_a_pod_is_named_with_its_key_and_what_mends_it() {
    let rs = |from: &str, to: &str| failure(RS, &GOOD_RS.replace(from, to), POOL_RS);
    let go = |from: &str, to: &str| failure(GO, &GOOD_GO.replace(from, to), POOL_GO);
    let cold = "cold_plug_vfio = \"root-port\"";
    let socket = "pod_resource_api_sock = \"/var/lib/kubelet/pod-resources/kubelet.sock\"";
    for ((name, found, mend), is, says, mended) in [
        (rs(cold, ""), "plug", "no-port: no VF gets into the VM", "cold_plug_vfio = \"root-port\""),
        (
            rs(cold, "cold_plug_vfio = \"no-port\""),
            "plug",
            "no-port: no VF",
            "cold_plug_vfio = \"root-port\"",
        ),
        (rs(cold, "cold_plug_vfio = \"switch-port\""), "plug", "takes root-port only", "root-port"),
        (rs(socket, ""), "pod-resources", "not set", "pod_resource_api_sock = "),
        (
            rs(socket, "pod_resource_api_sock = \"/run/x\""),
            "pod-resources",
            "/run/x is not there",
            "pod_resource",
        ),
        (rs("guest-kernel", "vfio"), "vfio-mode", "has no IOMMU", "guest-kernel"),
        (rs("guest-kernel", "none"), "vfio-mode", "knows no such mode", "guest-kernel"),
        (rs("pcie_root_port = 2", ""), "root-ports", "0 root ports", "pcie_root_port = 1 or more"),
        (
            rs("qemu", "clh"),
            "hypervisor",
            "runtime-rs plugs no VF into a VM of clh",
            "a configuration with qemu",
        ),
        (
            rs("hypervisor_name = \"qemu\"", "hypervisor_name = \"qmu\""),
            "configuration",
            "does not configure qmu",
            "correct",
        ),
        (rs("hypervisor_name = \"qemu\"", ""), "configuration", "does not configure dragonball", "correct"),
        (
            go("qemu]", "stratovirt]"),
            "hypervisor",
            "Go runtime plugs no VF into a VM of stratovirt",
            "qemu or clh",
        ),
        (
            go(cold, "cold_plug_vfio = \"root_port\""),
            "plug",
            "root_port: with qemu Kata takes root-port",
            "root-port",
        ),
        (go(cold, ""), "plug", "no-port, and so is hot_plug_vfio", "cold_plug_vfio = \"root-port\""),
        (
            go("hot_plug_vfio = \"no-port\"", "hot_plug_vfio = \"root-port\""),
            "plug",
            "takes one of them only",
            "no-port",
        ),
        (go(socket, ""), "pod-resources", "not set", "pod_resource_api_sock = "),
    ] {
        assert_eq!(name, is, "{found}");
        assert!(found.contains(says) && mend.contains(mended), "{name}: {found}; {mend}");
    }
}

#[test]
fn what_a_dan_file_names_is_plugged_into_a_running_vm() {
    let failures = failures(&report(&node(), GO, GOOD_GO, POOL_DAN));
    let names: Vec<&str> = failures.iter().map(|(name, ..)| *name).collect();
    assert_eq!(names, ["plug", "root-ports"]);
    let (_, found, mend) = &failures[0];
    assert!(
        found.contains("is plugged into a running VM") && mend.contains("hot_plug_vfio"),
        "{found}; {mend}"
    );
}

#[test]
fn files_are_looked_for_where_they_are_written() {
    let elsewhere = "{runtime: go, danConf: /run/dans}";
    let hot = GOOD_GO
        .replace("cold_plug_vfio = \"root-port\"", "")
        .replace("hot_plug_vfio = \"no-port\"", "hot_plug_vfio = \"root-port\"")
        .replace("pcie_root_port = 0", "pcie_root_port = 1");
    let (name, found, mend) = failure(GO, &hot, elsewhere);
    assert_eq!(name, "dan-conf");
    assert!(found.starts_with("/run/kata-containers/dans, and pools have `danConf: /run/dans`"), "{found}");
    assert!(mend.contains("dan_conf = \"/run/dans\""), "{mend}");
}

#[test]
fn runtime_rs_needs_iommufd_and_each_devices_own_node() {
    let with_groups = Node::with(&[GOOD]);
    with_groups.write("var/lib/kubelet/pod-resources/kubelet.sock", b"");
    for (iommufd, says) in [(false, "it is not there"), (true, "0000:01:00.1 has no node of its own")] {
        if iommufd {
            with_groups.write("dev/iommu", b"");
        }
        let report = report(&with_groups, RS, GOOD_RS, POOL_RS);
        let failures = failures(&report);
        assert!(failures.len() == 1 && failures[0].0 == "iommufd", "{failures:#?}");
        assert!(
            failures[0].1.contains(says) && failures[0].2.contains("CONFIG_VFIO_DEVICE_CDEV"),
            "{failures:#?}"
        );
    }
    let of_go = report(&with_groups, GO, GOOD_GO, POOL_GO);
    assert!(of_go.ok, "the Go runtime needs none: {of_go:#?}");
}

#[test]
fn a_piece_in_config_d_goes_before_the_file_beside_it() {
    let node = node();
    node.write("opt/kata/rs/configuration-qemu.toml", GOOD_RS.as_bytes());
    node.write("etc/kata-containers/runtime-rs/.keep", b"");
    std::os::unix::fs::symlink("../../../opt/kata/rs/configuration-qemu.toml", node.at(RS)).unwrap();
    node.write("opt/kata/rs/config.d/10-vfio.toml", b"[hypervisor.qemu]\ncold_plug_vfio = \"no-port\"\n");
    node.write("opt/kata/rs/config.d/20-vfio.toml", b"[hypervisor.qemu]\npcie_root_port = 3\n");
    let report = doctor::kata(&node.host(), Some(&config(POOL_RS)), None, 1);
    let failures = failures(&report);
    assert!(failures.len() == 1 && failures[0].0 == "plug", "{failures:#?}");
    let ports = report.findings.iter().find(|finding| finding.name == "root-ports").unwrap();
    assert_eq!(ports.found, "3");
}

#[test]
fn a_configuration_that_is_absent_broken_or_the_other_runtimes_is_named() {
    let node = node();
    let examine = |file| doctor::kata(&node.host(), Some(&config(POOL_RS)), file, 1);
    let absent = failures(&examine(None));
    assert!(absent[0].0 == "configuration" && absent[0].2.contains("--kata-config"), "{absent:#?}");
    let absent = failures(&examine(Some("/etc/kata.toml")));
    assert!(absent[0].1.contains("/etc/kata.toml"), "{absent:#?}");
    for (text, says) in [
        ("[hypervisor", "/etc/kata.toml: "),
        ("", "does not configure any hypervisor"),
        (GOOD_GO, "this is not"),
    ] {
        node.write("etc/kata.toml", text.as_bytes());
        let failures = failures(&examine(Some("/etc/kata.toml")));
        assert!(failures.len() == 1 && failures[0].1.contains(says), "{failures:#?}");
    }
}

#[test]
fn without_pools_whatever_is_configured_is_looked_at() {
    let node = node();
    node.write(RS, GOOD_RS.as_bytes());
    node.write(GO, GOOD_GO.as_bytes());
    let report = doctor::kata(&node.host(), None, None, 1);
    let of: Vec<&str> =
        report.findings.iter().filter(|f| f.name == "configuration").map(|f| f.found.as_str()).collect();
    assert_eq!(of.len(), 2);
    assert!(
        of[0].starts_with("of Kata's runtime-rs, unless") && of[1].starts_with("of Kata's Go runtime"),
        "{of:?}"
    );
    assert!(report.ok, "{report:#?}");
}

#[test]
fn a_node_without_an_iommu_is_told_so() {
    let node = node();
    std::fs::remove_dir_all(node.at("sys/kernel/iommu_groups")).unwrap();
    let report = report(&node, RS, GOOD_RS, POOL_RS);
    assert!(failures(&report).iter().any(|(name, ..)| *name == "iommu"), "{report:#?}");
}

#[test]
fn people_and_programs_are_told_the_same() {
    let report = report(&node(), RS, &GOOD_RS.replace("root-port", "no-port"), POOL_RS);
    let text = doctor::text(&report);
    assert!(text.starts_with("kata: pods would fail\n"), "{text}");
    assert!(text.contains("to mend it: set cold_plug_vfio = \"root-port\""), "{text}");
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!((&json["runtime"], &json["ok"]), (&"kata".into(), &false.into()));
    let plug = json["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == "plug").unwrap();
    let expected = "/etc/kata-containers/runtime-rs/configuration.toml: [hypervisor.qemu] cold_plug_vfio";
    assert_eq!((&plug["outcome"], &plug["restsOn"]), (&"failed".into(), &expected.into()));
}

#[test]
fn root_ports_are_counted_where_devices_are_at_them() {
    let hot = |port: &str, vmm: &str| {
        GOOD_GO
            .replace("cold_plug_vfio = \"root-port\"", "")
            .replace("hot_plug_vfio = \"no-port\"", &format!("hot_plug_vfio = \"{port}\""))
            .replace("qemu]", &format!("{vmm}]"))
    };
    let of = |text: &str, devices| {
        let node = node();
        node.write(GO, text.as_bytes());
        doctor::kata(&node.host(), Some(&config(POOL_GO)), None, devices)
    };
    for (text, devices) in [
        (hot("switch-port", "qemu"), 1),
        (hot("bridge-port", "qemu"), 1),
        (hot("root-port", "clh"), 1),
        (GOOD_GO.to_owned(), 16),
        (hot("root-port", "qemu").replace("pcie_root_port = 0", "pcie_root_port = 20"), 16),
    ] {
        let report = of(&text, devices);
        assert!(report.ok, "{report:#?}");
    }
    for (text, devices, says) in [
        (hot("root-port", "qemu"), 1, "0 root ports, and a pod takes up to 1"),
        (GOOD_GO.to_owned(), 17, "a VM 16 root ports at most"),
    ] {
        let failures = failures(&of(&text, devices));
        assert!(failures.len() == 1 && failures[0].1.contains(says), "{failures:#?}");
    }
}

#[test]
fn an_interface_from_a_dan_file_is_not_for_a_container_to_drive() {
    let hot = GOOD_GO
        .replace("cold_plug_vfio = \"root-port\"", "")
        .replace("hot_plug_vfio = \"no-port\"", "hot_plug_vfio = \"root-port\"\nenable_iommu = true")
        .replace("pcie_root_port = 0", "pcie_root_port = 1")
        .replace("guest-kernel", "vfio");
    let (name, found, _) = failure(GO, &hot, POOL_DAN);
    assert!(name == "vfio-mode" && found.contains("loses what a DAN file made"), "{found}");
    assert!(report(&node(), GO, &hot, POOL_GO).ok, "as a device it is");
}

#[test]
fn runtime_rs_is_not_asked_for_what_it_refuses() {
    let (name, found, mend) = failure(RS, GOOD_RS, "{runtime: rs, danConf: /run/kata-containers/dans}");
    assert!(name == "dan-conf" && found.contains("fails the sandbox"), "{found}");
    assert!(mend.contains("Go runtime"), "{mend}");
}

#[test]
fn a_link_to_an_absolute_path_is_one_on_that_host() {
    let node = node();
    node.write("opt/kata/go.toml", GOOD_GO.as_bytes());
    node.write("etc/kata-containers/.keep", b"");
    std::os::unix::fs::symlink("/opt/kata/go.toml", node.at(GO)).unwrap();
    let report = doctor::kata(&node.host(), Some(&config(POOL_GO)), None, 1);
    assert!(report.ok, "{report:#?}");
}
