//! DAN files, read back by the rules of each of Kata's runtimes as their sources have them.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use doorbell_common::formats::descriptor::IpPrefix;
use doorbell_common::formats::kata_dan::{self, KataRuntime, Neighbor, Nic, NotDan, SandboxId};
use doorbell_common::kernel::link::{LinkName, Route};
use doorbell_common::kernel::mac::MacAddress;
use doorbell_common::kernel::pci::PciAddress;
use proptest::prelude::*;
use serde_json::{Value, json};

const DIALECTS: [(&str, KataRuntime); 2] = [("go", KataRuntime::Go), ("rs", KataRuntime::Rs)];

/// All that a nic has but its VF.
#[derive(Debug, Clone, Default)]
struct Network {
    ips: Vec<IpPrefix>,
    routes: Vec<Route>,
    neighbors: Vec<Neighbor>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefixed(text: &str) -> (IpAddr, u8) {
    let (address, prefix) = text.split_once('/').unwrap();
    (ip(address), prefix.parse().unwrap())
}

fn network(ips: &[&str], routes: &[(&str, Option<&str>)], neighbors: &[(&str, &str)]) -> Network {
    let address = |text: &&str| {
        let (address, prefix) = prefixed(text);
        IpPrefix { address, prefix }
    };
    Network {
        ips: ips.iter().map(address).collect(),
        routes: routes.iter().map(|(to, gateway)| Route::to(prefixed(to), gateway.map(ip))).collect(),
        neighbors: neighbors
            .iter()
            .map(|(address, mac)| Neighbor { ip: ip(address), mac: mac.parse().unwrap() })
            .collect(),
    }
}

fn entry(network: &Network, dialect: KataRuntime) -> Result<Value, String> {
    let name: LinkName = "eth0".parse().unwrap();
    let mac: MacAddress = "02:00:00:00:00:01".parse().unwrap();
    let function: PciAddress = "0000:01:00.1".parse().unwrap();
    let Network { ips, routes, neighbors } = network;
    let nic = Nic { name: &name, mac, function, mtu: 1500, ips, routes, neighbors };
    nic.entry(dialect).map_err(|error| error.to_string())
}

/// One golden file a network and dialect; `UPDATE=1` writes them.
#[test]
fn each_network_is_the_file_that_it_was() {
    let gateway = Some("10.0.0.1");
    let networks = [
        ("v4", network(&["10.0.0.2/24"], &[("0.0.0.0/0", gateway)], &[])),
        ("v6", network(&["fd00::2/64"], &[("::/0", Some("fd00::1"))], &[])),
        (
            "dual-stack",
            network(
                &["10.0.0.2/24", "fd00::2/64"],
                &[("0.0.0.0/0", gateway), ("::/0", Some("fd00::1"))],
                &[],
            ),
        ),
        (
            "routes",
            network(
                &["10.0.0.2/32", "fd00::2/128"],
                &[
                    ("0.0.0.0/0", gateway),
                    ("10.0.0.1/32", None),
                    ("10.1.0.0/16", gateway),
                    ("fd01::/64", None),
                ],
                &[],
            ),
        ),
        (
            "neighbors",
            network(
                &["10.0.0.2/24"],
                &[],
                &[("10.0.0.1", "02:00:00:00:00:09"), ("fe80::1", "02:00:00:00:00:09")],
            ),
        ),
    ];
    for (name, network) in networks {
        for (dialect_name, dialect) in DIALECTS {
            let text = kata_dan::with(None, entry(&network, dialect).unwrap()).unwrap();
            let file = Path::new("tests/kata_dan").join(format!("{name}.{dialect_name}.json"));
            if std::env::var_os("UPDATE").is_some() {
                fs::write(&file, &text).unwrap();
            }
            let golden = fs::read_to_string(&file).unwrap();
            assert_eq!(String::from_utf8(text).unwrap(), golden, "{}", file.display());
        }
    }
}

#[test]
fn what_a_runtime_would_leave_out_in_silence_is_refused() {
    let plain = Route::to(prefixed("10.1.0.0/16"), Some(ip("10.0.0.1")));
    let both = DIALECTS.map(|(_, dialect)| dialect);
    for (route, dialects, why) in [
        (Route { priority: Some(1), ..plain }, &both[..], "it has a priority"),
        (Route { mss: Some(1360), ..plain }, &both[..], "it has an MSS of its own"),
        (Route { table: Some(7), ..plain }, &both[..], "it is of a table of its own"),
        (Route { mtu: Some(1400), ..plain }, &both[..1], "it has an MTU of its own"),
        (Route::to(prefixed("0.0.0.0/0"), None), &both[1..], "nothing says its family"),
        (Route { gateway: Some(ip("fd00::1")), ..plain }, &both[..], "its gateway is of the other family"),
    ] {
        let network = Network { routes: vec![route], ..Network::default() };
        for dialect in both {
            let said = entry(&network, dialect);
            assert_eq!(said.is_err(), dialects.contains(&dialect), "{route} to {dialect}");
            assert!(said.is_ok() || said.as_ref().unwrap_err().contains(why), "{said:?}");
        }
    }
}

#[test]
fn what_others_wrote_stays() {
    let others = json!({ "netns": "/run/netns/a", "more": 1, "devices": [{ "name": "net1", "x": 1 }] });
    let text = serde_json::to_vec(&others).unwrap();
    let ours = entry(&Network::default(), KataRuntime::Go).unwrap();
    let both = kata_dan::with(Some(&text), ours.clone()).unwrap();
    // The same interface again is in its place, not beside it.
    assert_eq!(kata_dan::with(Some(&both), ours.clone()).unwrap(), both);
    let [name, other]: [LinkName; 2] = ["eth0", "eth1"].map(|name| name.parse().unwrap());
    let [vf, another]: [PciAddress; 2] =
        ["0000:01:00.1", "0000:01:00.2"].map(|address| address.parse().unwrap());
    let told = kata_dan::told(&both, &name, vf).unwrap().unwrap();
    assert_eq!(told.mac.as_deref(), ours["guest_mac"].as_str());
    assert_eq!(json!(told.ips), ours["network_info"]["interface"]["ip_addresses"]);
    for (name, function) in [(&other, vf), (&name, another)] {
        assert_eq!(kata_dan::told(&both, name, function).unwrap(), None);
        assert_eq!(kata_dan::without(&both, name, function).unwrap(), Some(both.clone()));
    }
    let left = kata_dan::without(&both, &name, vf).unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&left).unwrap(), others);
    let alone = kata_dan::with(None, ours).unwrap();
    assert_eq!(kata_dan::without(&alone, &name, vf).unwrap(), None);
}

#[test]
fn what_is_no_dan_file_is_not_overwritten() {
    let ours = || entry(&Network::default(), KataRuntime::Go).unwrap();
    assert!(matches!(kata_dan::with(Some(b"{"), ours()), Err(NotDan::Json(_))));
    assert!(matches!(kata_dan::with(Some(b"[]"), ours()), Err(NotDan::Json(_))));
    assert!(matches!(kata_dan::with(Some(b"{\"devices\":{}}"), ours()), Err(NotDan::NoDevices)));
}

#[test]
fn a_sandbox_id_is_never_a_path() {
    let long = "a".repeat(300);
    for bad in ["", ".", "..", "../x", "a/b", "a..b", ".a", "-a", "a\0", "a b", "é", "a\u{202e}", &long] {
        assert!(bad.parse::<SandboxId>().is_err(), "{bad:?}");
    }
    let id: SandboxId = "0f3c_a.b-1".parse().unwrap();
    assert_eq!(id.file(kata_dan::FOLDER), "/run/kata-containers/dans/0f3c_a.b-1.json");
}

/// A route as the guest's kernel gets it: its family (4 or 6), destination and gateway, each `None` where there is none.
type Told = (u8, Option<(IpAddr, u8)>, Option<IpAddr>);

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

/// `0.0.0.0` as a gateway is none to the kernel (`rtm_to_fib_config` of net/ipv4/fib_frontend.c).
fn gateway(text: &str) -> Option<IpAddr> {
    text.parse().ok().filter(|gateway: &IpAddr| *gateway != ip("0.0.0.0"))
}

/// `convertDanDeviceToNetworkInfo`: the family is that of the gateway, and IPv6 without one.
fn told_to_go(route: &Value) -> Told {
    let dest = text(route, "dest");
    let family = match text(route, "gateway").parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 4,
        _ => 6,
    };
    assert!(route.get("mtu").is_none());
    (family, (!dest.is_empty()).then(|| prefixed(dest)), gateway(text(route, "gateway")))
}

/// `Route::ip_family`: the family is that of the destination, without one that of the gateway; without both the route
/// is left out.
fn told_to_rs(route: &Value) -> Told {
    let dest = text(route, "dest");
    let destination = (!dest.is_empty()).then(|| prefixed(dest));
    let by = destination.map(|(ip, _)| ip).or_else(|| text(route, "gateway").parse().ok()).unwrap();
    (if by.is_ipv4() { 4 } else { 6 }, destination, gateway(text(route, "gateway")))
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    any::<bool>().prop_flat_map(ip_of)
}

/// An address of a family.
fn ip_of(v4: bool) -> impl Strategy<Value = IpAddr> {
    // None that is unspecified, and none of IPv6 that holds one of IPv4.
    any::<u128>().prop_map(move |bits| match u32::try_from(bits & 0xffff_fffe) {
        Ok(bits) if v4 => IpAddr::from((bits | 1).to_be_bytes()),
        _ => IpAddr::from((bits | 1 << 127).to_be_bytes()),
    })
}

fn any_route() -> impl Strategy<Value = Route> {
    let route = |v4| {
        let gateway = prop::option::of(ip_of(v4));
        (ip_of(v4), 0..=if v4 { 32u8 } else { 128 }, gateway, prop::option::weighted(0.1, 68..9000u32))
    };
    let route = any::<bool>().prop_flat_map(route);
    route.prop_map(|(ip, prefix, gateway, mtu)| Route { mtu, ..Route::to((ip, prefix), gateway) })
}

prop_compose! {
    fn any_network()(
        ips in prop::collection::vec((any_ip(), 0..=32u8), 0..4),
        routes in prop::collection::vec(any_route(), 0..5),
        neighbors in prop::collection::vec((any_ip(), any::<[u8; 6]>()), 0..3),
    ) -> Network {
        Network {
            ips: ips.into_iter().map(|(address, prefix)| IpPrefix { address, prefix }).collect(),
            routes,
            neighbors: neighbors.into_iter().map(|(ip, mac)| Neighbor { ip, mac: mac.into() }).collect(),
        }
    }
}

proptest! {
    /// What each runtime understands is what was meant, or it is refused.
    #[test]
    fn each_runtime_understands_what_was_meant(network in any_network()) {
        for (_, dialect) in DIALECTS {
            let Ok(entry) = entry(&network, dialect) else { continue };
            let text_of_file = kata_dan::with(None, entry).unwrap();
            let file: Value = serde_json::from_slice(&text_of_file).unwrap();
            prop_assert!(file["netns"].is_null());
            let device = &file["devices"][0];
            prop_assert_eq!(&device["device"], &json!({ "type": "vfio", "pci_device_id": "0000:01:00.1" }));
            prop_assert!(text(device, "guest_mac").parse::<MacAddress>().is_ok());
            let info = &device["network_info"];
            let interface = &info["interface"];
            prop_assert_eq!(&interface["mtu"], &json!(1500));
            let ips = interface["ip_addresses"].as_array().unwrap().iter().map(|ip| prefixed(ip.as_str().unwrap()));
            let meant = network.ips.iter().map(|ip| (ip.address, ip.prefix));
            prop_assert!(ips.eq(meant));

            let mut meant: Vec<Told> = network
                .routes
                .iter()
                .map(|route| {
                    let (ip, prefix) = route.destination;
                    let destination = (prefix != 0).then_some((ip, prefix));
                    (if ip.is_ipv4() { 4 } else { 6 }, destination, route.gateway)
                })
                .collect();
            meant.sort_by_key(|(_, _, gateway)| gateway.is_some());
            let told = if dialect == KataRuntime::Go { told_to_go } else { told_to_rs };
            let routes: Vec<Told> = info["routes"].as_array().unwrap().iter().map(told).collect();
            prop_assert_eq!(routes, meant);

            for (said, meant) in info["neighbors"].as_array().unwrap().iter().zip(&network.neighbors) {
                // Go parses an IP address (`net.ParseIP`), runtime-rs one with a prefix (`parse_ip_cidr`).
                let ip = match dialect {
                    KataRuntime::Go => text(said, "ip_address").parse().unwrap(),
                    KataRuntime::Rs => prefixed(text(said, "ip_address")).0,
                };
                prop_assert_eq!(ip, meant.ip);
                prop_assert_eq!(text(said, "hardware_addr").parse::<MacAddress>().unwrap(), meant.mac);
                prop_assert_eq!(&said["state"], &json!(128));
            }
            prop_assert_eq!(info["neighbors"].as_array().unwrap().len(), network.neighbors.len());
        }
    }
}
