//! What `convert` prints: a file of ours that says the same.

use std::process::{Command, Output};

use doorbell_common::fault::dice::Dice;
use doorbell_device_plugin::config::{Config, Loaded};
use proptest::prelude::*;

use super::{list, resource};

/// Everything that maps.
fn sample() -> String {
    list(&[
        resource(
            "intel_sriov_netdevice",
            r#""selectors": [{"vendors": ["8086", "1e10"], "devices": ["154c", "10e1"], "drivers": ["iavf"]}],
            "additionalInfo": {"*": {"token": "a: # b\n", "": "true"}, "0000:86:00.0": {"token": "0x1"}}"#,
        ),
        resource(
            "10G",
            r#""resourcePrefix": "acme.com", "excludeTopology": true, "selectors": [
            {"drivers": ["vfio-pci"], "pfNames": ["p0#0,2-7,9", "null"], "needVhostNet": true},
            {"drivers": ["vfio-pci"], "rootDevices": ["0000:AF:00.0#1"], "acpiIndexes": ["7"], "needVhostNet": true}]"#,
        ),
        resource(
            "vdpa",
            r#""selectors": {"vdpaType": "vhost", "linkTypes": ["ether"], "pciAddresses": ["0000:01:00.1"]}"#,
        ),
        resource("virtio", r#""selectors": [{"vdpaType": "virtio"}]"#),
        resource("fpga", r#""deviceType": "accelerator", "selectors": [{}]"#),
        resource("sf", r#""deviceType": "auxNetDevice", "selectors": [{"auxTypes": ["sf"]}]"#),
    ])
}

fn convert(text: &str, more: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_doorbell-device-plugin"))
        .args(["convert", "config.json"])
        .args(more)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_printed_says_the_same() {
    let output = convert(&sample(), &[]);
    assert!(output.status.success(), "{}", text(output.stderr));
    let yaml = text(output.stdout);
    assert_eq!(
        Config::parse("config.yaml", &yaml).unwrap(),
        Config::parse("config.json", &sample()).unwrap()
    );
    assert!(Loaded::parse("config.yaml", &yaml).unwrap().notes.is_empty());
}

#[test]
fn it_reads_like_one_that_was_written() {
    let resources = [resource(
        "dpdk",
        r#""selectors": [{"vendors": ["1af4"], "drivers": ["vfio-pci"], "auxTypes": ["sf"]}]"#,
    )];
    assert_eq!(
        text(convert(&list(&resources), &["--resource-prefix", "acme.com"]).stdout),
        "\
# Converted from config.json.
# resourceList[0].selectors[0].auxTypes: it selects nothing among devices of this type, there and here
apiVersion: doorbell.dev/v1
pools:
- name: dpdk
  resource: acme.com/dpdk
  access: vfio
  select:
    vendors:
    - 1af4
    classes:
    - \"02\"
    drivers:
    - vfio-pci
"
    );
}

#[test]
fn all_that_is_refused_is_printed_a_line_each() {
    let resources = [resource("a", r#""selectors": {"isRdma": true, "pKeys": ["1"]}"#)];
    let output = convert(&list(&resources), &[]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    let said = text(output.stderr);
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(
        said.starts_with("doorbell-device-plugin: config.json:1: resourceList[0].selectors.isRdma: "),
        "{said}"
    );
}

#[test]
fn another_file_is_none_to_convert() {
    let output = convert("apiVersion: doorbell.dev/v1\npools: []\n", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(output.stderr).contains("config.json: it has no `resourceList`"));
}

proptest! {
    #[test]
    fn a_damaged_list_is_refused_with_its_place_or_written_as_it_is_read(seed: u64) {
        let damaged = Dice::of(seed).damage(sample().as_bytes());
        match Loaded::parse("config.json", &String::from_utf8_lossy(&damaged)) {
            Ok(loaded) => {
                let yaml = loaded.to_yaml("config.json").unwrap();
                let again = Config::parse("config.yaml", &yaml);
                prop_assert!(again.as_ref().is_ok_and(|again| *again == loaded.config), "{:?}\n{}", again, yaml);
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{}", error),
        }
    }
}
