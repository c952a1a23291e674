use nix::errno::Errno;

use super::super::tests::{bytes, inside, veth};
use super::*;
use crate::error::chain;
use crate::kernel::netns::Netns;

/// A change of each attribute, in their order.
fn singles() -> [(Attribute, VfChange); 6] {
    let none = VfChange::default;
    let vlan = Vlan { id: 42, qos: 3, protocol: VlanProtocol::Dot1Ad };
    [
        (Attribute::Mac, VfChange { mac: Some([2, 0, 0, 0, 0, 0x11].into()), ..none() }),
        (Attribute::Vlan, VfChange { vlan: Some(vlan), ..none() }),
        (Attribute::Rate, VfChange { rate: Some(Rate { min: 10, max: 100 }), ..none() }),
        (Attribute::SpoofCheck, VfChange { spoof_check: Some(false), ..none() }),
        (Attribute::Trust, VfChange { trust: Some(true), ..none() }),
        (Attribute::LinkState, VfChange { link_state: Some(LinkState::Disable), ..none() }),
    ]
}

fn all() -> VfChange {
    let [mac, vlan, rate, spoof_check, trust, link_state] = singles().map(|(_, change)| change);
    VfChange {
        mac: mac.mac,
        vlan: vlan.vlan,
        rate: rate.rate,
        spoof_check: spoof_check.spoof_check,
        trust: trust.trust,
        link_state: link_state.link_state,
    }
}

fn attributes(change: &VfChange) -> Vec<Attribute> {
    change.parts(2).map(|(attribute, _)| attribute).collect()
}

#[test]
#[rustfmt::skip]
fn each_attribute_is_a_request_of_its_own() {
    let expected: [&[u8]; 6] = [
        &[48, 0, 22, 0, 44, 0, 1, 0, 40, 0, 1, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0x11], // IFLA_VF_MAC
        &[32, 0, 22, 0, 28, 0, 1, 0, 24, 0, 12, 0, 20, 0, 1, 0, 2, 0, 0, 0, 42, 0, 0, 0, 3, 0, 0, 0, 0x88, 0xa8],
        &[24, 0, 22, 0, 20, 0, 1, 0, 16, 0, 6, 0, 2, 0, 0, 0, 10, 0, 0, 0, 100, 0, 0, 0], // IFLA_VF_RATE
        &[20, 0, 22, 0, 16, 0, 1, 0, 12, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0], // IFLA_VF_SPOOFCHK
        &[20, 0, 22, 0, 16, 0, 1, 0, 12, 0, 9, 0, 2, 0, 0, 0, 1, 0, 0, 0], // IFLA_VF_TRUST
        &[20, 0, 22, 0, 16, 0, 1, 0, 12, 0, 5, 0, 2, 0, 0, 0, 2, 0, 0, 0], // IFLA_VF_LINK_STATE
    ];
    for ((attribute, change), expected) in singles().into_iter().zip(expected) {
        let parts: Vec<_> = change.parts(2).collect();
        let [(of, part)] = parts.try_into().unwrap();
        assert_eq!(of, attribute);
        let bytes = bytes(&request(5, part));
        // The index, then the list; an address is padded to 32 bytes, a VLAN to a word.
        assert_eq!(bytes[..16], [0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[16..16 + expected.len()], *expected, "{attribute}");
        assert!(bytes[16 + expected.len()..].iter().all(|byte| *byte == 0), "{attribute}");
        assert_eq!(bytes.len(), 16 + usize::from(expected[0]), "{attribute}");
    }
}

#[test]
fn attributes_are_set_in_their_order() {
    assert_eq!(attributes(&all()), singles().map(|(attribute, _)| attribute));
    assert!(attributes(&all()).is_sorted());
}

#[test]
fn what_comes_before_a_failure_is_what_has_been_done() {
    for (done, (attribute, _)) in singles().into_iter().enumerate() {
        assert_eq!(attributes(&all().before(attribute)), attributes(&all())[..done]);
    }
}

#[test]
fn the_way_back_touches_what_was_touched() {
    let was = VfAttributes {
        mac: [0; 6].into(),
        vlan: Vlan::default(),
        rate: Rate::default(),
        spoof_check: Some(true),
        trust: None,
        link_state: LinkState::Auto,
    };
    for (attribute, change) in singles() {
        // What was not known can't be brought back.
        let back = if attribute == Attribute::Trust { vec![] } else { vec![attribute] };
        assert_eq!(attributes(&change.back_to(&was)), back);
    }
    let back = all().back_to(&was);
    assert_eq!(
        (back.mac, back.spoof_check, back.link_state),
        (Some(was.mac), Some(true), Some(LinkState::Auto))
    );
}

#[test]
fn a_refusal_names_the_pf_and_the_attribute() {
    let netlink = &mut inside(&Netns::fresh());
    let pf = veth(netlink, "pf0", "d1");
    for (attribute, change) in singles() {
        let error = set(netlink, pf.index, 2, &change).unwrap_err();
        let expected = format!("PF pf0 refuses to set {attribute} of VF 2: {}", Errno::EOPNOTSUPP);
        assert_eq!(chain(&error), expected);
        assert_eq!(error.attribute(), Some(attribute));
    }
}

#[test]
fn the_first_refusal_ends_a_change() {
    let netlink = &mut inside(&Netns::fresh());
    let pf = veth(netlink, "pf0", "d1");
    assert_eq!(set(netlink, pf.index, 2, &all()).unwrap_err().attribute(), Some(Attribute::Mac));
    let late = VfChange { mac: None, vlan: None, ..all() };
    assert_eq!(set(netlink, pf.index, 2, &late).unwrap_err().attribute(), Some(Attribute::Rate));
    set(netlink, pf.index, 2, &VfChange::default()).unwrap();
}

#[test]
fn a_change_reads_back_from_a_document() {
    let json = serde_json::to_string(&all()).unwrap();
    let expected = r#"{"mac":"02:00:00:00:00:11","vlan":{"id":42,"qos":3,"protocol":"802.1ad"},"rate":{"min":10,"max":100},"spoofCheck":false,"trust":true,"linkState":"disable"}"#;
    assert_eq!(json, expected);
    for change in [all(), VfChange::default()] {
        let json = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<VfChange>(&json).unwrap(), change);
    }
}
