//! Configurations as Multus and containerd pass them, and as nobody should: what is understood of each.
//!
//! Multus puts `deviceID` and `pciBusID` at the top, libcni the capabilities that the network declares into
//! `runtimeConfig`, and both marshal maps: the keys come sorted.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use doorbell_cni::Failure;
use doorbell_cni::call::Verb;
use doorbell_cni::config::Config;
use doorbell_common::kernel::link::vf::VfChange;

fn stdin(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.json"))).unwrap()
}

/// What is understood, a line a field that is there.
fn understood(name: &str) -> Result<String, Failure> {
    let config = Config::parse(&stdin(name), Verb::Add, "")?;
    let mut lines = vec![format!("{} {}", config.cni_version, config.network)];
    let mut tell = |field: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{field} {value}")));
    };
    tell("device", config.device.map(|id| id.to_string()));
    let asked = &config.attributes;
    tell("asked by", Some(asked.keys().join(", ")).filter(|keys| !keys.is_empty()));
    tell("mtu", asked.mtu.map(|mtu| mtu.to_string()));
    let change = asked.change();
    tell("of the VF", (change != VfChange::default()).then(|| serde_json::to_string(&change).unwrap()));
    for ip in config.ips {
        tell("ip", Some(format!("{}/{}", ip.address, ip.prefix)));
    }
    tell("info", config.device_info.map(|file| file.to_string()));
    tell("ipam", config.ipam.map(|name| name.to_string()));
    tell("chained after", config.previous.map(|previous| previous.get()[..22].to_owned()));
    Ok(lines.join("\n"))
}

const MULTUS_1_1_0: &str = "\
1.1.0 fast
device 0000:01:00.1
asked by runtimeConfig.mac
of the VF {\"mac\":\"02:00:00:56:d9:03\"}
ip 10.56.217.3/24
ip fd00:217::3/64
info /var/run/k8s.cni.cncf.io/devinfo/cni/default-fast-7f3a9c_net1";

const MULTUS_0_3_1: &str = "\
0.3.1 fast
device 0000:01:00.2
asked by runtimeConfig.mac
of the VF {\"mac\":\"02:00:00:56:d9:04\"}";

/// As the operator of sriov-cni renders a network, taken over with another `type`.
const AS_SRIOV_CNI: &str = "\
1.0.0 fast
device 0000:01:00.1
asked by args.cni.mac, mtu, vlan, vlanQoS, vlanProto, spoofchk, trust, min_tx_rate, max_tx_rate, link_state
mtu 9000
of the VF {\"mac\":\"02:00:00:56:d9:05\",\"vlan\":{\"id\":100,\"qos\":3,\"protocol\":\"802.1ad\"},\
\"rate\":{\"min\":100,\"max\":1000},\"spoofCheck\":true,\"trust\":false,\"linkState\":\"enable\"}
ipam host-local";

const MULTUS_WITH_IPAM: &str = "\
1.0.0 fast
device 0000:01:00.1
info /run/k8s.cni.cncf.io/devinfo/cni/default-fast-7f3a9c_net1
ipam host-local";

/// An operator writes VLAN 0 for none.
const MULTUS_CAPABILITY_ONLY: &str = "\
1.1.0 fast
device 0000:01:00.3
asked by vlan
of the VF {\"vlan\":{\"id\":0,\"qos\":0,\"protocol\":\"802.1q\"}}";

const CHAINED_BY_CONTAINERD: &str = r#"1.0.0 pod-network
chained after {"cniVersion":"1.0.0","#;

#[test]
fn what_the_field_passes_is_understood() {
    for (name, snapshot) in [
        ("multus_1.1.0", MULTUS_1_1_0),
        ("multus_0.3.1", MULTUS_0_3_1),
        ("multus_with_ipam", MULTUS_WITH_IPAM),
        ("multus_capability_only", MULTUS_CAPABILITY_ONLY),
        ("as_sriov_cni", AS_SRIOV_CNI),
        ("chained_by_containerd", CHAINED_BY_CONTAINERD),
    ] {
        assert_eq!(understood(name).unwrap(), snapshot, "{name}");
    }
}

#[test]
fn what_is_hostile_is_refused_with_7() {
    for (name, msg) in [
        ("device_is_a_path", "deviceID `../x` is no device id"),
        ("two_devices", "the configuration names two devices: 0000:01:00.1 and 0000:01:00.2"),
        (
            "info_file_elsewhere",
            "runtimeConfig.CNIDeviceInfoFile `/etc/passwd` is no CNI plugin's file below \
             /var/run/k8s.cni.cncf.io/devinfo",
        ),
        (
            "info_file_climbs",
            "runtimeConfig.CNIDeviceInfoFile \
             `/var/run/k8s.cni.cncf.io/devinfo/cni/../../../../etc/passwd` is no CNI plugin's file below \
             /var/run/k8s.cni.cncf.io/devinfo",
        ),
        ("ipam_is_a_path", "ipam.type `../../bin/sh` is no IPAM plugin"),
        ("ipam_is_doorbell", "ipam.type `doorbell` is no IPAM plugin"),
        ("ipam_in_a_chain", "a chained doorbell takes no ipam"),
        ("vlan_is_text", r#"vlan "100" is no number from 0 to 4094"#),
        ("mac_is_short", "runtimeConfig.mac `02:00:00:56:d9` is no MAC address"),
        ("ip_without_prefix", "runtimeConfig.ips[0] `10.56.217.3` is no address with a prefix length"),
    ] {
        let failure = understood(&format!("hostile_{name}")).unwrap_err();
        assert_eq!((failure.code, failure.msg.as_str()), (7, msg), "{name}");
    }
}
