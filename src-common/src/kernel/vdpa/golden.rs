//! Messages of the family as Linux 6.12 lays them out on a little-endian machine: written by hand after
//! `vdpa_mgmtdev_fill`, `vdpa_dev_fill` and `vdpa_dev_config_fill`, an attribute a line.

use netlink_packet_core::Emitable;
use netlink_packet_generic::GenlMessage;
use proptest::prelude::*;

use super::message::Message;
use super::*;
use crate::host::Host;

/// Bits CSUM, GUEST_CSUM, MTU, MAC, HOST_TSO4, HOST_TSO6, STATUS, CTRL_VQ, MQ, CTRL_MAC_ADDR, VERSION_1, ACCESS_PLATFORM.
const FEATURES: u64 = 0x3_00c3_182b;
const MAC: [u8; 6] = [0x02, 0, 0, 0, 0x0a, 0x59];

/// `VDPA_CMD_MGMTDEV_NEW` for a sub-function.
const SUB_FUNCTION: &[&[u8]] = &[
    b"\x01\x01\0\0",
    b"\x0e\0\x01\0auxiliary\0\0\0",
    b"\x13\0\x02\0mlx5_core.sf.4\0\0",
    b"\x0c\0\x03\0\x02\0\0\0\0\0\0\0",
    b"\x08\0\x0f\0\x41\0\0\0",
    b"\x0c\0\x10\0\x2b\x18\xc3\0\x03\0\0\0",
];

/// The same for a simulator, which has no bus, by a kernel that aligns numbers of 64 bits with a pad attribute.
const SIMULATOR: &[&[u8]] = &[
    b"\x01\x01\0\0",
    b"\x10\0\x02\0vdpasim_blk\0",
    b"\x04\0\0\0",
    b"\x0c\0\x03\0\x04\0\0\0\0\0\0\0",
    b"\x08\0\x0f\0\x01\0\0\0",
];

/// The same of a VF on vp-vdpa, as the testbed's kernel gave it.
const VF: &[u8] =
    b"\x01\x01\0\0\x08\0\x01\0pci\0\x11\0\x02\x000000:01:00.1\0\0\0\0\x0c\0\x03\0\x02\0\0\0\0\0\0\0\
    \x08\0\x0f\0\x03\0\0\0\x0c\0\x10\0\x24\x80\xbf\x30\x03\x01\0\0";

/// `VDPA_CMD_DEV_NEW`, as an answer.
const DEVICE: &[&[u8]] = &[
    b"\x03\x01\0\0",
    b"\x0e\0\x01\0auxiliary\0\0\0",
    b"\x13\0\x02\0mlx5_core.sf.4\0\0",
    b"\x0e\0\x04\0vdpa-sf89\0\0\0",
    b"\x08\0\x05\0\x01\0\0\0",
    b"\x08\0\x06\0\xb3\x15\0\0",
    b"\x08\0\x07\0\x11\0\0\0",
    b"\x06\0\x08\0\0\x01\0\0",
    b"\x06\0\x09\0\x01\0\0\0",
];

/// `VDPA_CMD_DEV_CONFIG_GET` of a network device that is driven.
const NETWORK: &[&[u8]] = &[
    b"\x06\x01\0\0",
    b"\x0e\0\x04\0vdpa-sf89\0\0\0",
    b"\x08\0\x05\0\x01\0\0\0",
    b"\x0c\0\x0e\0\x20\0\x01\0\x01\0\0\0",
    b"\x0c\0\x14\0\x2b\x18\xc3\0\x03\0\0\0",
    b"\x06\0\x0d\0\xdc\x05\0\0",
    b"\x0a\0\x0a\0\x02\0\0\0\x0a\x59\0\0",
    b"\x06\0\x0b\0\x01\0\0\0",
    b"\x06\0\x0c\0\x08\0\0\0",
];

/// The same of a block device that nobody drives.
const BLOCK: &[&[u8]] = &[
    b"\x06\x01\0\0",
    b"\x09\0\x04\0sim0\0\0\0\0",
    b"\x08\0\x05\0\x02\0\0\0",
    b"\x0c\0\x14\0\x44\x12\0\0\x01\0\0\0",
    b"\x0c\0\x15\0\0\0\x04\0\0\0\0\0",
    b"\x08\0\x17\0\0\x02\0\0",
    b"\x08\0\x18\0\x20\0\0\0",
    b"\x05\0\x23\0\0\0\0\0",
    b"\x05\0\x24\0\x01\0\0\0",
];

/// `VDPA_CMD_DEV_NEW`, as a request, with every attribute.
const NEW: &[&[u8]] = &[
    b"\x03\x01\0\0",
    b"\x08\0\x01\0pci\0",
    b"\x11\0\x02\x000000:01:00.1\0\0\0\0",
    b"\x09\0\x04\0net0\0\0\0\0",
    b"\x0a\0\x0a\0\x02\0\0\0\x0a\x59\0\0",
    b"\x06\0\x0c\0\x02\0\0\0",
    b"\x06\0\x0d\0\x28\x23\0\0",
    b"\x0c\0\x14\0\x2b\x18\xc3\0\x03\0\0\0",
];

/// A captured host with these answers in a file.
fn captured(file: &str, answers: &[&[&[u8]]]) -> (tempfile::TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    let mut packed = Vec::new();
    for answer in answers {
        let answer = answer.concat();
        packed.extend(u32::try_from(answer.len()).unwrap().to_le_bytes());
        packed.extend(answer);
    }
    host.keep_as(file, &packed).unwrap();
    (root, host)
}

fn bytes(message: Message) -> Vec<u8> {
    let message = GenlMessage::from_payload(message);
    let mut bytes = vec![0xff; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

#[test]
fn a_new_device_is_asked_for_with_every_attribute() {
    let mut device = NewDevice {
        name: "net0".parse().unwrap(),
        management: "pci/0000:01:00.1".parse().unwrap(),
        max_vq_pairs: Some(2),
        mac: Some(MAC.into()),
        mtu: Some(9000),
        features: Some(FEATURES),
    };
    assert_eq!(bytes(device.encode()), NEW.concat());
    (device.max_vq_pairs, device.mac, device.mtu, device.features) = (None, None, None, None);
    assert_eq!(bytes(device.encode()), NEW[..4].concat());
}

#[test]
fn management_devices_are_read_in_the_order_of_their_names() {
    let (_root, host) = captured("/netlink/vdpa/mgmtdev-get", &[SIMULATOR, SUB_FUNCTION]);
    let sub_function = ManagementDevice {
        handle: "auxiliary/mlx5_core.sf.4".parse().unwrap(),
        supported_classes: 1 << 1,
        supported_features: Some(FEATURES),
        max_vqs: Some(65),
    };
    let simulator = ManagementDevice {
        handle: "vdpasim_blk".parse().unwrap(),
        supported_classes: 1 << 2,
        supported_features: None,
        max_vqs: Some(1),
    };
    // What has no bus sorts first.
    assert_eq!(management_devices(&host).unwrap(), [simulator, sub_function]);
}

#[test]
fn a_vf_on_vp_vdpa_is_a_management_device() {
    let (_root, host) = captured("/netlink/vdpa/mgmtdev-get", &[&[VF]]);
    let vf = ManagementDevice {
        handle: ManagementHandle::pci("0000:01:00.1".parse().unwrap()),
        supported_classes: 1 << 1,
        supported_features: Some(0x103_30bf_8024),
        max_vqs: Some(3),
    };
    assert_eq!(management_devices(&host).unwrap(), [vf]);
}

#[test]
fn a_device_says_what_it_is_made_of() {
    let (_root, host) = captured("/netlink/vdpa/dev-get", &[DEVICE]);
    let device = VdpaDevice {
        name: "vdpa-sf89".to_owned(),
        management: "auxiliary/mlx5_core.sf.4".parse().unwrap(),
        virtio_id: 1,
        vendor_id: 0x15b3,
        max_vqs: 17,
        max_vq_size: 256,
    };
    assert_eq!(devices(&host).unwrap(), [device]);
}

#[test]
fn a_configuration_is_that_of_the_devices_type() {
    let (_root, host) = captured("/netlink/vdpa/dev-config-get/vdpa-sf89", &[NETWORK]);
    let network = config(&host, &"vdpa-sf89".parse().unwrap()).unwrap();
    assert_eq!(network.features, Some(FEATURES));
    assert_eq!(network.negotiated_features, Some(0x1_0001_0020));
    let expected =
        NetworkConfig { mac: Some(MAC.into()), status: Some(1), max_vq_pairs: Some(8), mtu: Some(1500) };
    assert_eq!(network.network(), Some(&expected));

    let (_root, host) = captured("/netlink/vdpa/dev-config-get/sim0", &[BLOCK]);
    let block = config(&host, &"sim0".parse().unwrap()).unwrap();
    assert_eq!((block.network(), block.negotiated_features), (None, None));
    let expected = BlockConfig {
        capacity: Some(0x40000),
        block_size: Some(512),
        max_segments: Some(32),
        queues: None,
        read_only: Some(false),
        flush: Some(true),
    };
    assert_eq!(block.class, ClassConfig::Block(expected));
}

#[test]
fn a_captured_host_without_answers_has_no_devices() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    assert_eq!(management_devices(&host).unwrap(), []);
    assert_eq!(devices(&host).unwrap(), []);
    let error = config(&host, &"vdpa0".parse().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "the configuration of vDPA device vdpa0 is not captured");
}

#[test]
fn on_a_captured_host_nothing_is_made_or_removed() {
    let root = tempfile::tempdir().unwrap();
    let host = Host::at(root.path());
    let name: VdpaName = "vdpa0".parse().unwrap();
    let device = NewDevice {
        name: name.clone(),
        management: "vdpasim_net".parse().unwrap(),
        max_vq_pairs: None,
        mac: None,
        mtu: None,
        features: None,
    };
    let refusals = [create(&host, &device), delete(&host, &name), set_mac(&host, &name, MAC.into())];
    let refusals: Vec<_> = refusals.map(|refusal| refusal.unwrap_err().to_string()).into();
    assert_eq!(refusals[0], "make vDPA device vdpa0 of vdpasim_net: this host is a captured one");
    assert!(
        refusals.iter().all(|refusal| refusal.ends_with(": this host is a captured one")),
        "{refusals:?}"
    );
}

#[test]
fn hardware_that_is_a_device_already_is_not_made_into_another() {
    let (_root, host) = captured("/netlink/vdpa/dev-get", &[DEVICE]);
    let mut device = NewDevice {
        name: "another".parse().unwrap(),
        management: "auxiliary/mlx5_core.sf.4".parse().unwrap(),
        max_vq_pairs: None,
        mac: None,
        mtu: None,
        features: None,
    };
    let refusal = create(&host, &device).unwrap_err().to_string();
    assert_eq!(refusal, "auxiliary/mlx5_core.sf.4 is made into vDPA device vdpa-sf89 already");
    device.management = "auxiliary/mlx5_core.sf.5".parse().unwrap();
    assert!(matches!(create(&host, &device), Err(VdpaError::NotReal(_))));
}

#[test]
fn an_answer_that_lacks_its_name_is_an_error() {
    let nameless = [&SIMULATOR[..1], &SIMULATOR[2..]].concat();
    let (_root, host) = captured("/netlink/vdpa/mgmtdev-get", &[&nameless]);
    assert!(matches!(management_devices(&host), Err(VdpaError::Malformed(_))));
}

proptest! {
    #[test]
    fn no_bytes_break_the_decoders(change in any::<(proptest::sample::Index, u8)>(), answer in 0usize..5) {
        let mut bytes = [SUB_FUNCTION, SIMULATOR, DEVICE, NETWORK, BLOCK][answer].concat();
        *change.0.get_mut(&mut bytes) = change.1;
        if let Ok(message) = Message::parse(&bytes) {
            let _ = (ManagementDevice::decode(&message), VdpaDevice::decode(&message), Config::decode(&message));
        }
    }
}
