//! Through a PF that is a virtual link: one whose driver holds nothing of VFs. What real PFs do, the testbed shows.

use std::fs;

use doorbell_common::formats::cni::AttributesConf;
use doorbell_common::kernel::link::vf::VlanProtocol;
use doorbell_common::subdevice::{Access, Parent};

use super::*;
use crate::rig::{HOME, PF, Rig, eligible, link};

/// A host whose PF has the interface `pf0`.
fn rig() -> Rig {
    let rig = Rig::new();
    rig.veth("pf0", "p9");
    fs::create_dir_all(rig.host.path(format!("/sys/bus/pci/devices/{PF}/net/pf0"))).unwrap();
    rig
}

fn asked(json: &str) -> Attributes {
    let conf: AttributesConf = serde_json::from_str(json).unwrap();
    Attributes::parse(&conf, None, "").unwrap()
}

fn set_as(rig: &Rig, hold: &mut Hold<'_>, json: &str) -> Result<Option<MacAddress>, Failure> {
    let found = netdev::find(&rig.host, &eligible()).unwrap();
    set(&rig.host, hold, &eligible(), &asked(json), found.as_ref())
}

fn step(was: VfChange) -> claim::Vf {
    claim::Vf { pf: PF.parse().unwrap(), index: 3, was, interface: None }
}

#[test]
fn an_address_alone_is_nothing_for_a_pf_that_holds_none() {
    let rig = rig();
    let mut hold = rig.take("c1");
    assert_eq!(set_as(&rig, &mut hold, r#"{"mac":"02:00:00:00:00:11"}"#), Ok(None));
    assert_eq!(set_as(&rig, &mut hold, r#"{"mtu":1400}"#), Ok(None));
    assert_eq!(rig.claim().unwrap().undo, []);
    // Without an interface it holds none either.
    fs::remove_dir_all(rig.host.path(format!("/sys/bus/pci/devices/{PF}/net"))).unwrap();
    assert_eq!(set_as(&rig, &mut hold, r#"{"mac":"02:00:00:00:00:11"}"#), Ok(None));
}

#[test]
fn what_the_pf_refuses_is_named_with_its_reason() {
    for (json, attribute) in [
        (r#"{"vlan":7}"#, "the VLAN"),
        (r#"{"mac":"02:00:00:00:00:11","vlan":7,"trust":"on"}"#, "the VLAN"),
        (r#"{"max_tx_rate":7}"#, "the rate"),
        (r#"{"spoofchk":"off"}"#, "spoof check"),
        (r#"{"trust":"on"}"#, "trust"),
        (r#"{"link_state":"enable"}"#, "the link state"),
    ] {
        let rig = rig();
        let mut hold = rig.take("c1");
        let failure = set_as(&rig, &mut hold, json).unwrap_err();
        let msg = format!("PF pf0 refuses to set {attribute} of VF 3: {}", Errno::EOPNOTSUPP);
        assert_eq!((failure.code, failure.msg), (VF_REFUSED, msg));
        // Nothing was set, and nothing is to be given back.
        assert_eq!(rig.claim().unwrap().undo, [Undo::Vf(step(VfChange::default()))]);
        drop(hold);
        assert_eq!(rig.claim(), None);
    }
}

#[test]
fn what_holds_anyway_needs_no_pf_to_set_it() {
    // As sriov-network-operator renders what it is not told.
    let json = r#"{"vlan":0,"vlanQoS":0,"trust":"off","link_state":"auto","max_tx_rate":0}"#;
    for rig in [rig(), Rig::new()] {
        let mut hold = rig.take("c1");
        assert_eq!(set_as(&rig, &mut hold, json), Ok(None));
        assert_eq!(rig.claim().unwrap().undo, []);
    }
    // That somebody checks what it sends does not.
    let rig = rig();
    assert_eq!(set_as(&rig, &mut rig.take("c1"), r#"{"spoofchk":"on"}"#).unwrap_err().code, VF_REFUSED);
}

#[test]
fn what_is_so_already_is_not_set_again_but_for_an_address() {
    let mac = MacAddress::from([2, 0, 0, 0, 0, 0x11]);
    let vlan = Vlan { id: 7, ..Vlan::default() };
    let both = VfChange { mac: Some(mac), vlan: Some(vlan), ..Default::default() };
    let asked = VfChange { spoof_check: Some(true), trust: Some(true), ..both };
    let before = VfAttributes { mac, vlan, spoof_check: None, ..untouched() };
    assert_eq!(news(&asked, &before), VfChange { vlan: None, ..asked.clone() });
    let before = VfAttributes { trust: Some(true), ..untouched() };
    assert_eq!(news(&asked, &before), VfChange { spoof_check: None, trust: None, ..asked });
}

#[test]
fn without_an_interface_of_the_pf_nothing_can_be_set() {
    let rig = Rig::new();
    let ask = || set_as(&rig, &mut rig.take("c1"), r#"{"vlan":7,"trust":"on"}"#).unwrap_err();
    let failure = ask();
    let msg = format!("PF {PF} has no network interface by which its VF 3 could be set");
    assert_eq!((failure.code, failure.msg), (VF_REFUSED, msg));
    assert_eq!(failure.details, "asked for: vlan, trust");
    // In another namespace, it may be back.
    fs::create_dir_all(rig.host.path(format!("/sys/bus/pci/devices/{PF}/net"))).unwrap();
    let msg = format!("PF {PF} has no network interface on the host by which its VF 3 could be set");
    let failure = ask();
    assert_eq!((failure.code, &failure.msg), (code::TRY_AGAIN, &msg));
    let failure = set_as(&rig, &mut rig.take("c1"), r#"{"vlan":0}"#).unwrap_err();
    assert_eq!((failure.code, &failure.msg), (code::TRY_AGAIN, &msg));
}

#[test]
fn what_stands_on_no_vf_has_no_pf_to_ask() {
    let rig = rig();
    let mut hold = rig.take("c1");
    let simulator =
        Eligible { parent: Parent::Device("vdpasim_net".parse().unwrap()), pf: None, ..eligible() };
    let mac = asked(r#"{"mac":"02:00:00:00:00:11"}"#);
    assert_eq!(set(&rig.host, &mut hold, &simulator, &mac, None), Ok(None));
    mac.fit(&simulator, false).unwrap();
    for (json, key) in [(r#"{"mac":"02:00:00:00:00:11","vlan":7}"#, "vlan"), (r#"{"trust":"on"}"#, "trust")] {
        let failure = asked(json).fit(&simulator, false).unwrap_err();
        let msg = format!("{key} is for a PF to set, and device {} stands on no VF", simulator.id);
        assert_eq!((failure.code, failure.msg), (code::BAD_CONFIG, msg));
    }
}

#[test]
fn an_mtu_is_for_an_interface() {
    let vfio = Eligible { access: Access::Vfio, ..eligible() };
    asked(r#"{"mtu":1400}"#).fit(&vfio, true).unwrap();
    let failure = asked(r#"{"mtu":1400}"#).fit(&vfio, false).unwrap_err();
    let msg = format!("mtu is for a network interface, and {} gives none in mode vfio", vfio.id);
    assert_eq!((failure.code, failure.msg), (code::BAD_CONFIG, msg));
    asked(r#"{"mtu":1400,"vlan":7}"#).fit(&eligible(), false).unwrap();
}

#[test]
fn a_vf_that_is_gone_is_done_with() {
    let rig = Rig::new();
    let was = VfChange { trust: Some(false), ..Default::default() };
    fs::remove_file(rig.host.path(format!("/sys/bus/pci/devices/{PF}/virtfn3"))).unwrap();
    restore(&rig.host, &step(was.clone())).unwrap();
    fs::remove_dir_all(rig.host.path(format!("/sys/bus/pci/devices/{PF}"))).unwrap();
    restore(&rig.host, &step(was)).unwrap();
}

#[test]
fn a_vf_is_not_given_up_while_its_pf_is_out_of_reach() {
    let rig = Rig::new();
    fs::create_dir_all(rig.host.path(format!("/sys/bus/pci/devices/{PF}/net"))).unwrap();
    let failure = restore(&rig.host, &step(VfChange::default())).unwrap_err();
    assert_eq!(failure.code, code::TRY_AGAIN);
}

#[test]
fn what_the_pf_can_not_have_set_is_not_given_back() {
    let rig = rig();
    let vlan = Some(Vlan { id: 7, qos: 0, protocol: VlanProtocol::Dot1Q });
    // Killed between the refusal and the word of it.
    restore(&rig.host, &step(VfChange { vlan, trust: Some(false), ..Default::default() })).unwrap();
}

#[test]
fn the_interface_has_its_address_back_behind_its_vf() {
    let rig = rig();
    let was = link(&mut rig.links(), "d0").unwrap();
    let mac = Some([2, 0, 0, 0, 0, 0x11].into());
    let change = link::LinkChange { mac, ..Default::default() };
    link::set(&mut rig.links(), was.index, &change).unwrap();
    let interface = Addressed { home: HOME.to_owned(), mac: was.mac.unwrap() };
    restore(&rig.host, &claim::Vf { interface: Some(interface), ..step(VfChange::default()) }).unwrap();
    assert_eq!(link(&mut rig.links(), "d0"), Some(was));
}

#[test]
fn each_attribute_is_given_back_by_itself() {
    let all = VfChange {
        mac: Some(NO_MAC.into()),
        vlan: Some(Vlan::default()),
        rate: Some(Rate::default()),
        spoof_check: Some(true),
        trust: Some(false),
        link_state: Some(LinkState::Auto),
    };
    assert!(parts(&all).iter().all(|part| *part != VfChange::default()));
    // What nobody has touched is known in full.
    assert_eq!(all.back_to(&untouched()), all);
}
