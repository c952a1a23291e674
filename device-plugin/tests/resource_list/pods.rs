//! What pods get of a resource: its name, variables, nodes.

use doorbell_common::kubelet::deviceplugin::ContainerAllocateResponse;
use doorbell_common::subdevice::Access;
use doorbell_device_plugin::config::ResourcePrefix;
use doorbell_device_plugin::prepare::Allocated;
use doorbell_device_plugin::{allocate, look, publish};
use serde_json::{Value, json};

use super::{Node, PAGE, host, list, one, parsed, resource};

const VF: &str = "0000:01:00.1";

fn answer(node: &Node, text: &str, cdi: bool) -> ContainerAllocateResponse {
    let mut config = parsed(text);
    if cdi {
        config.cdi = doorbell_device_plugin::config::Cdi::On;
    }
    let inventory = look::once(&node.host(), &config, &Allocated::To(Default::default()), PAGE).unwrap();
    publish::all(&node.host(), &inventory).unwrap();
    let name = &config.pools[0].name;
    allocate::answer(&node.host(), &inventory, name, &[VF.to_owned()]).unwrap()
}

fn dpdk(more: &str) -> String {
    list(&[resource("sriov_net-A", &format!(r#""selectors": [{{"drivers": ["vfio-pci"]{more}}}]"#))])
}

#[test]
fn resources_keep_their_names() {
    let resources = [
        resource("intel_sriov_netdevice", r#""selectors": [{}]"#),
        resource("10G", r#""resourcePrefix": "example.com", "selectors": [{}]"#),
        resource("10G", r#""resourcePrefix": "acme.com", "selectors": [{}]"#),
        resource("A", r#""resourcePrefix": "", "selectors": [{}]"#),
    ];
    let config = parsed(&list(&resources));
    let names: Vec<(String, String)> =
        config.pools.iter().map(|pool| (pool.name.to_string(), config.resource(pool))).collect();
    let expected = [
        ("intel-sriov-netdevice", "intel.com/intel_sriov_netdevice"),
        ("pool-10g", "example.com/10G"),
        ("pool-10g-2", "acme.com/10G"),
        ("pool-a", "intel.com/A"),
    ];
    assert_eq!(names, expected.map(|(name, resource)| (name.to_owned(), resource.to_owned())));
    assert_eq!(config.resource_prefix, ResourcePrefix::default());
}

#[test]
fn the_access_mode_is_what_the_driver_or_the_vdpa_type_makes_of_it() {
    for (device_type, selectors, access) in [
        ("netDevice", r#""drivers": ["vfio-pci"]"#, Access::Vfio),
        ("netDevice", r#""drivers": ["virtio-pci", "iavf"]"#, Access::Netdev),
        ("netDevice", "", Access::Netdev),
        ("netDevice", r#""vdpaType": "vhost", "drivers": ["mlx5_core"]"#, Access::VhostVdpa),
        ("netDevice", r#""vdpaType": "virtio""#, Access::VirtioVdpa),
        ("accelerator", r#""drivers": ["vfio-pci"]"#, Access::Vfio),
        ("auxNetDevice", r#""auxTypes": ["sf"]"#, Access::Netdev),
    ] {
        assert_eq!(parsed(&one(device_type, selectors)).pools[0].access, access, "{selectors}");
    }
}

#[test]
fn variables_are_those_that_its_pods_know() {
    let envs = answer(&host(), &dpdk(""), false).envs;
    // Dashes stay, as they do there.
    assert_eq!(envs["PCIDEVICE_INTEL_COM_SRIOV_NET-A"], VF);
    let info: Value = serde_json::from_str(&envs["PCIDEVICE_INTEL_COM_SRIOV_NET-A_INFO"]).unwrap();
    let vfio = json!({ "mount": "/dev/vfio/vfio", "dev-mount": "/dev/vfio/7" });
    assert_eq!(info, json!({ VF: { "generic": { "deviceID": VF }, "vfio": vfio } }));
}

#[test]
fn vhost_net_comes_with_the_device() {
    let (node, text) = (host(), dpdk(r#", "needVhostNet": true"#));
    let response = answer(&node, &text, false);
    let nodes: Vec<&str> = response.devices.iter().map(|node| node.host_path.as_str()).collect();
    assert_eq!(nodes, ["/dev/net/tun", "/dev/vfio/7", "/dev/vfio/vfio", "/dev/vhost-net"]);
    let info: Value = serde_json::from_str(&response.envs["PCIDEVICE_INTEL_COM_SRIOV_NET-A_INFO"]).unwrap();
    assert_eq!(info[VF]["vhost"], json!({ "net-mount": "/dev/vhost-net", "tun-mount": "/dev/net/tun" }));
    assert_eq!(answer(&node, &text, true).cdi_devices[0].name, format!("doorbell.dev/sriov-net-a={VF}"));
    let spec: Value = serde_json::from_str(&node.text("var/run/cdi/doorbell-sriov-net-a.json")).unwrap();
    let nodes = spec["devices"][0]["containerEdits"]["deviceNodes"].as_array().unwrap();
    let paths: Vec<&str> = nodes.iter().map(|node| node["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/dev/vfio/7", "/dev/vfio/vfio", "/dev/vhost-net", "/dev/net/tun"]);
}

#[test]
fn what_is_told_of_one_device_goes_before_what_is_told_of_all() {
    let told = |of: &str| {
        let info = format!(
            r#""additionalInfo": {{"*": {{"token": "all", "site": "a", "Site": "b"}}, "{of}": {{"token": "own"}}}}"#
        );
        let text =
            list(&[resource("one", &format!(r#""selectors": [{{"drivers": ["vfio-pci"]}}], {info}"#))]);
        let info: Value =
            serde_json::from_str(&answer(&host(), &text, false).envs["PCIDEVICE_INTEL_COM_ONE_INFO"])
                .unwrap();
        info[VF]["extra"].clone()
    };
    assert_eq!(told(VF), json!({ "token": "own", "site": "a", "Site": "b" }));
    assert_eq!(told("0000:86:00.0"), json!({ "token": "all", "site": "a", "Site": "b" }));
}

#[test]
fn files_of_the_others_resources_below_the_same_prefix_stay() {
    let node = host();
    let folder = "var/run/k8s.cni.cncf.io/devinfo/dp";
    for name in [
        "intel.com-theirs-0000:03:00.1",
        "intel.com-sriov_net-A-x-0000:03:00.1",
        "intel.com-sriov_net-A-0000:03:00.1",
    ] {
        node.write(&format!("{folder}/{name}-device.json"), b"{}");
    }
    answer(&node, &dpdk(""), false);
    let mut left: Vec<String> = std::fs::read_dir(node.at(folder))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "intel.com-sriov_net-A-0000:01:00.1-device.json",
            "intel.com-sriov_net-A-x-0000:03:00.1-device.json",
            "intel.com-theirs-0000:03:00.1-device.json",
        ]
    );
}
