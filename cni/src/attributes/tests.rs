//! What is asked, and what can't be.

use super::*;

fn parse(json: &str) -> Result<Attributes, Failure> {
    with(json, None, "")
}

fn with(json: &str, runtime_mac: Option<&str>, args: &str) -> Result<Attributes, Failure> {
    Attributes::parse(&serde_json::from_str(json).unwrap(), runtime_mac, args)
}

fn refused(json: &str) -> String {
    let failure = parse(json).unwrap_err();
    assert_eq!(failure.code, code::BAD_CONFIG, "{json}");
    failure.msg
}

#[test]
fn what_is_not_asked_stays() {
    for json in
        ["{}", r#"{"vlan":null,"mac":null,"args":{"cni":{}}}"#, r#"{"vlanQoS":0,"vlanProto":"802.1q"}"#]
    {
        assert_eq!(parse(json).unwrap().change(), VfChange::default(), "{json}");
    }
    assert!(parse("{}").unwrap().keys().is_empty());
}

#[test]
fn each_key_asks_for_its_own() {
    let none = VfChange::default;
    let vlan = |id, qos, protocol| VfChange { vlan: Some(Vlan { id, qos, protocol }), ..none() };
    let rate = |min, max| VfChange { rate: Some(Rate { min, max }), ..none() };
    for (json, change) in [
        (r#"{"vlan":0}"#, vlan(0, 0, VlanProtocol::Dot1Q)),
        (r#"{"vlan":4094,"vlanQoS":7,"vlanProto":"802.1aD"}"#, vlan(4094, 7, VlanProtocol::Dot1Ad)),
        (r#"{"min_tx_rate":100}"#, rate(100, 0)),
        (r#"{"max_tx_rate":100}"#, rate(0, 100)),
        (r#"{"min_tx_rate":100,"max_tx_rate":100}"#, rate(100, 100)),
        (r#"{"spoofchk":"off"}"#, VfChange { spoof_check: Some(false), ..none() }),
        (r#"{"trust":"on"}"#, VfChange { trust: Some(true), ..none() }),
        (r#"{"link_state":"disable"}"#, VfChange { link_state: Some(LinkState::Disable), ..none() }),
        (r#"{"mac":"02:00:00:00:00:01"}"#, VfChange { mac: Some([2, 0, 0, 0, 0, 1].into()), ..none() }),
    ] {
        assert_eq!(parse(json).unwrap().change(), change, "{json}");
    }
    assert_eq!(parse(r#"{"mtu":9000}"#).unwrap().mtu, Some(9000));
}

#[test]
fn every_key_is_known_by_its_name() {
    let json = r#"{"mac":"02:00:00:00:00:01","mtu":1500,"vlan":1,"vlanQoS":1,"vlanProto":"802.1q","spoofchk":"on",
                   "trust":"on","min_tx_rate":1,"max_tx_rate":1,"link_state":"auto"}"#;
    assert_eq!(parse(json).unwrap().keys(), KEYS);
}

#[test]
fn a_value_out_of_range_is_refused_by_its_key() {
    for (json, msg) in [
        (r#"{"vlan":4095}"#, "vlan 4095 is no number from 0 to 4094"),
        (r#"{"vlan":-1}"#, "vlan -1 is no number from 0 to 4094"),
        (r#"{"vlan":1.5}"#, "vlan 1.5 is no number from 0 to 4094"),
        (r#"{"vlan":1,"vlanQoS":8}"#, "vlanQoS 8 is no number from 0 to 7"),
        (r#"{"vlanProto":"802.1x"}"#, r#"vlanProto "802.1x" is none of 802.1q, 802.1ad"#),
        (r#"{"spoofchk":true}"#, "spoofchk true is none of on, off"),
        (r#"{"trust":""}"#, r#"trust "" is none of on, off"#),
        (r#"{"link_state":"up"}"#, r#"link_state "up" is none of auto, enable, disable"#),
        (r#"{"max_tx_rate":4294967296}"#, "max_tx_rate 4294967296 is no number from 0 to 4294967295"),
        (r#"{"mtu":67}"#, "mtu 67 is no number from 68 to 65535"),
        (r#"{"mac":7}"#, "mac `7` is no MAC address"),
        (r#"{"mac":"00:00:00:00:00:00"}"#, "mac `00:00:00:00:00:00` is no MAC address of one device"),
        (r#"{"mac":"01:00:5e:00:00:01"}"#, "mac `01:00:5e:00:00:01` is no MAC address of one device"),
    ] {
        assert_eq!(refused(json), msg);
    }
}

#[test]
fn a_contradiction_is_refused_by_its_key() {
    for (json, msg) in [
        (r#"{"vlanQoS":3}"#, "vlanQoS 3 needs a vlan"),
        (r#"{"vlan":0,"vlanQoS":3}"#, "vlanQoS 3 needs a vlan"),
        (r#"{"vlanProto":"802.1AD"}"#, "vlanProto 802.1ad needs a vlan"),
        (r#"{"min_tx_rate":2,"max_tx_rate":1}"#, "min_tx_rate 2 is more than max_tx_rate 1"),
    ] {
        assert_eq!(refused(json), msg);
    }
}

#[test]
fn a_mac_address_of_the_runtime_goes_before_that_of_the_network() {
    let [of_runtime, of_args, of_cni_args, of_network] =
        [1, 2, 3, 4].map(|last| MacAddress::from([2, 0, 0, 0, 0, last]));
    let network = format!(r#"{{"mac":"{of_network}"}}"#);
    let both = format!(r#"{{"mac":"{of_network}","args":{{"cni":{{"mac":"{of_args}"}}}}}}"#);
    let cni_args = format!("IgnoreUnknown=1;MAC={of_cni_args};K8S_POD_NAME=a");
    let runtime = of_runtime.to_string();
    for (json, runtime, args, mac, key) in [
        (&both, Some(runtime.as_str()), cni_args.as_str(), of_runtime, "runtimeConfig.mac"),
        (&both, None, &cni_args, of_args, "args.cni.mac"),
        (&network, None, &cni_args, of_cni_args, "CNI_ARGS MAC"),
        (&network, None, "", of_network, "mac"),
    ] {
        let asked = with(json, runtime, args).unwrap();
        assert_eq!((asked.mac, asked.keys()), (Some(mac), &[key][..]));
    }
}

#[test]
fn a_bad_address_in_the_environment_is_the_environments() {
    let failure = with("{}", None, "MAC=02:00").unwrap_err();
    assert_eq!((failure.code, failure.msg.as_str()), (4, "CNI_ARGS MAC `02:00` is no MAC address"));
}
