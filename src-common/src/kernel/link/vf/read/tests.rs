use proptest::prelude::*;

use super::super::super::tests::inside;
use super::*;
use crate::kernel::netns::Netns;

/// What Linux 6.12 says of an igb PF with three VFs, of which the second was given an address, VLAN 42 of priority 3,
/// trust and no spoof check: the attributes that are read, and one that follows the list. Recorded in the testbed.
const IGB: &str = include_str!("igb.hex");
/// Where the attribute IFLA_VFINFO_LIST starts, and the first VF in it.
const LIST: usize = 36;
const FIRST: usize = LIST + 4;

fn igb() -> Vec<u8> {
    IGB.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// The same PF with as many VFs as the first, whose list's length overflows as the kernel lets it.
fn igb_with(vfs: u32) -> Vec<u8> {
    let igb = igb();
    let entry = &igb[FIRST..FIRST + A_VF];
    let mut message = igb[..LIST].to_vec();
    message[LIST - 4..].copy_from_slice(&vfs.to_ne_bytes());
    message.extend([0, 0, 22, 0]);
    for vf in 0..vfs {
        let start = message.len();
        message.extend(entry);
        // `struct ifla_vf_mac`, behind the headers of its attribute and of the VF's.
        message[start + 8..start + 12].copy_from_slice(&vf.to_ne_bytes());
    }
    let length = u16::try_from((message.len() - LIST) % 65536).unwrap();
    message[LIST..LIST + 2].copy_from_slice(&length.to_ne_bytes());
    message
}

fn untouched() -> VfAttributes {
    VfAttributes {
        mac: [0; 6].into(),
        vlan: Vlan::default(),
        rate: Rate::default(),
        spoof_check: Some(true),
        trust: Some(false),
        link_state: LinkState::Auto,
    }
}

#[test]
fn a_vf_is_found_by_its_number_with_all_that_its_pf_holds() {
    let touched = VfAttributes {
        mac: [2, 0, 0, 0, 0, 0x11].into(),
        vlan: Vlan { id: 42, qos: 3, protocol: VlanProtocol::Dot1Q },
        spoof_check: Some(false),
        trust: Some(true),
        ..untouched()
    };
    for (vf, expected) in [(0, untouched()), (1, touched), (2, untouched())] {
        assert_eq!(find(&igb(), vf).unwrap(), expected, "{vf}");
    }
}

#[test]
fn a_vf_that_is_not_there_is_not_found() {
    assert_eq!(find(&igb(), 3).unwrap_err().to_string(), "PF eth0 has 3 VFs, and no VF 3");
}

#[test]
fn what_a_driver_does_not_tell_is_not_known() {
    let mut silent = igb();
    for switch in [4, 9] {
        let opened = [12, 0, switch, 0, 0, 0, 0, 0];
        let place = silent.windows(8).position(|window| window == opened).unwrap();
        silent[place + 8..place + 12].fill(0xff);
    }
    let found = find(&silent, 0).unwrap();
    assert_eq!(found, VfAttributes { spoof_check: None, trust: None, ..untouched() });
}

#[test]
fn rates_providers_vlans_and_link_states_are_read() {
    let mut message = igb();
    let mut replace = |opened: &[u8], offset: usize, with: &[u8]| {
        let place = message.windows(opened.len()).position(|window| window == opened).unwrap();
        message[place + offset..place + offset + with.len()].copy_from_slice(with);
    };
    replace(&[16, 0, 6, 0, 0, 0, 0, 0], 8, &[10, 0, 0, 0, 100, 0, 0, 0]);
    replace(&[20, 0, 1, 0, 0, 0, 0, 0], 8, &[7, 0, 0, 0, 1, 0, 0, 0, 0x88, 0xa8]);
    replace(&[12, 0, 5, 0, 0, 0, 0, 0], 8, &[2, 0, 0, 0]);
    let expected = VfAttributes {
        rate: Rate { min: 10, max: 100 },
        vlan: Vlan { id: 7, qos: 1, protocol: VlanProtocol::Dot1Ad },
        link_state: LinkState::Disable,
        ..untouched()
    };
    assert_eq!(find(&message, 0).unwrap(), expected);
}

#[test]
fn a_list_of_334_vfs_is_whole() {
    assert_eq!(find(&igb_with(334), 333).unwrap(), untouched());
}

/// 335 × 196 + 4 bytes are 128 more than a length can say: not even the first VF is in the list whole.
#[test]
fn a_list_that_overflows_is_not_read_beyond_its_end() {
    let error = find(&igb_with(335), 0).unwrap_err();
    let expected = "PF eth0 lists 0 of its 335 VFs, and VF 0 is not among them: it can be set, not read";
    assert_eq!(error.to_string(), expected);
    // 400 × 196 + 4 are 12,868 more: 65 VFs and a part of the next.
    let many = igb_with(400);
    assert_eq!(find(&many, 64).unwrap(), untouched());
    let error = find(&many, 65).unwrap_err();
    assert!(matches!(error, VfError::NotListed { listed: 65, total: 400, .. }), "{error}");
}

#[test]
fn a_list_whose_length_is_none_is_too_long_where_it_can_be() {
    let mut many = igb_with(335);
    many[LIST] = 0;
    many[LIST + 1] = 0;
    assert!(matches!(find(&many, 0), Err(VfError::TooMany { .. })));
}

#[test]
fn a_pf_that_lists_no_vfs_is_said_to_say_nothing_of_them() {
    let error = find(&igb()[..LIST], 0).unwrap_err();
    assert_eq!(error.to_string(), "the driver of PF eth0 says nothing of VFs");
    let netlink = &mut inside(&Netns::fresh());
    assert_eq!(read(netlink, 1, 0).unwrap_err().to_string(), "the driver of PF lo says nothing of VFs");
    let error = read(netlink, 4711, 0).unwrap_err();
    assert_eq!(error.to_string(), "ask PF with index 4711 for its VFs");
}

proptest! {
    #[test]
    fn no_list_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), vf in 0..4_u32) {
        let mut message = igb()[..FIRST].to_vec();
        let length = u16::try_from(bytes.len() + 4).unwrap();
        message[LIST..FIRST - 2].copy_from_slice(&length.to_ne_bytes());
        let _ = find(&[message, bytes].concat(), vf);
    }

    #[test]
    fn no_vf_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), A_VF), at in FIRST + 4..628_usize) {
        let mut message = igb();
        let end = message.len().min(at + bytes.len());
        message[at..end].copy_from_slice(&bytes[..end - at]);
        let _ = find(&message, 1);
    }
}
