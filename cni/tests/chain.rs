//! In a chain, the result of the plugin before us goes on as it came.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use doorbell_common::host::Host;

/// The answer to an ADD in a chain, on a node without our devices.
fn passed_on(previous: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let variable = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => "c1",
            "CNI_NETNS" => "/run/netns/a",
            "CNI_IFNAME" => "eth0",
            "CNI_ARGS" => "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let stdin = format!(r#"{{"cniVersion":"1.0.0","prevResult":{previous},"name":"net","type":"doorbell"}}"#);
    doorbell_cni::answer(&Host::at(root.path()), variable, stdin.as_bytes()).unwrap().unwrap()
}

#[test]
fn it_goes_on_byte_for_byte() {
    for previous in [
        "{ \"cniVersion\" :\t\"1.0.0\",\n\n  \"ips\":[ {\"address\":\"10.0.0.2/24\" } ]\r\n}",
        r#"{"z":1,"a":2,"interfaces":[{"name":"eth0","example.com/unknown":{"b":[],"a":null}}]}"#,
        r#"{"cniVersion":"1.0.0","msg":"\u00e9\ud83d\ude00é😀\/"}"#,
        r#"{"big":123456789012345678901234567890,"exact":0.10000000000000000000001,"huge":1e400,"minus":-0.0}"#,
        "{}",
    ] {
        assert_eq!(passed_on(previous), previous);
    }
}
