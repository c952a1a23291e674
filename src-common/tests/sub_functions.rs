//! A host with sub-functions, by its capture: no testbed has the hardware.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use doorbell_common::formats::capture::Capture;
use doorbell_common::host::Host;
use doorbell_common::kernel::auxiliary::{self, SubFunction};
use doorbell_common::kernel::vdpa::{self, OnBus};

const PF: &str = "/sys/devices/pci0000:00/0000:00:03.0/0000:08:00.0";

fn capture() -> Capture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../device-plugin/tests/captures/mlx5-sub-functions.capture");
    Capture::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn laid_out(capture: &Capture) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    capture.lay_out(root.path()).unwrap();
    let host = Host::at(root.path());
    (root, host)
}

#[test]
fn sub_functions_are_told_from_their_own_parts() {
    let (_root, host) = laid_out(&capture());
    let function = |index: u32, number: u32, netdevs: &[&str]| SubFunction {
        name: format!("mlx5_core.sf.{index}"),
        folder: format!("{PF}/mlx5_core.sf.{index}"),
        number,
        parent: "0000:08:00.0".parse().unwrap(),
        driver: Some("mlx5_core.sf".to_owned()),
        numa_node: Some(0),
        netdevs: netdevs.iter().map(|name| (*name).to_owned()).collect(),
    };
    let expected = [function(2, 88, &["enp8s0f0s88"]), function(3, 89, &[])];
    assert_eq!(auxiliary::list(&host).unwrap(), expected);
}

#[test]
fn a_sub_function_has_its_vdpa_device_with_its_node() {
    let (_root, host) = laid_out(&capture());
    let found = vdpa::children_of(&host, "mlx5_core.sf.3").unwrap();
    let device = OnBus {
        name: "vdpa-sf89".to_owned(),
        folder: format!("{PF}/mlx5_core.sf.3/vdpa-sf89"),
        parent: Some("mlx5_core.sf.3".to_owned()),
        driver: Some("vhost_vdpa".to_owned()),
    };
    assert_eq!(found, [device]);
    assert_eq!(vdpa::node(&host, &"vdpa-sf89".parse().unwrap()).unwrap(), "/dev/vhost-vdpa-0");
    assert!(!vdpa::autoprobe(&host).unwrap());
}

#[test]
fn both_sub_functions_could_be_made_into_network_devices() {
    let (_root, host) = laid_out(&capture());
    let management = vdpa::management_devices(&host).unwrap();
    let names: Vec<_> = management.iter().map(|device| device.handle.to_string()).collect();
    assert_eq!(names, ["auxiliary/mlx5_core.sf.2", "auxiliary/mlx5_core.sf.3"]);
    assert!(management.iter().all(|device| device.serves(1) && device.max_vqs == Some(65)));

    let devices = vdpa::devices(&host).unwrap();
    assert_eq!((devices.len(), devices[0].management.name()), (1, "mlx5_core.sf.3"));
    let config = vdpa::config(&host, &"vdpa-sf89".parse().unwrap()).unwrap();
    assert_eq!(config.network().and_then(|network| network.max_vq_pairs), Some(8));
}

#[test]
fn a_capture_of_it_answers_the_same() {
    let ask = |host: &Host| {
        let name = "vdpa-sf89".parse().unwrap();
        let sub_functions = auxiliary::list(host).unwrap();
        let on_bus =
            (vdpa::list(host).unwrap(), vdpa::node(host, &name).unwrap(), vdpa::autoprobe(host).unwrap());
        let management = (vdpa::management_devices(host).unwrap(), vdpa::devices(host).unwrap());
        (sub_functions, on_bus, management, vdpa::config(host, &name).unwrap())
    };
    let (_root, host) = laid_out(&capture());
    let host = host.recording();
    let answers = ask(&host);
    let text = Capture { page: 4096, entries: host.recorded() }.document().unwrap();
    let (_copy, copy) = laid_out(&Capture::parse(&text).unwrap());
    assert_eq!(ask(&copy), answers, "{text}");
}
