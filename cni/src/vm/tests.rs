//! Interfaces of a VM, with the namespaces of this machine's kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use doorbell_common::kernel::link::LinkChange;
use doorbell_common::subdevice::DeviceId;
use serde_json::{Value, json};

use crate::call::Verb;
use crate::config::Config;
use crate::hold;
use crate::rig::{self, NETNS, Rig, VF, id};
use crate::whose;

use super::*;

const FOLDER: &str = "/run/kata-containers/dans";
const FILE: &str = "/run/kata-containers/dans/c1.json";
const OWN: &str = "02:00:00:00:00:01";

fn call(container: &str) -> Result<Call, Failure> {
    Call::parse(|name| {
        let value = match name {
            "CNI_COMMAND" => "ADD",
            "CNI_CONTAINERID" => container,
            "CNI_NETNS" => NETNS,
            "CNI_IFNAME" => "eth0",
            _ => return None,
        };
        Some(value.to_owned())
    })
}

fn config(more: &Value) -> Config {
    let mut conf = json!({ "cniVersion": "1.0.0", "name": "net", "type": "doorbell" });
    conf.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Config::parse(conf.to_string().as_bytes(), Verb::Add, "").unwrap()
}

fn in_vm(dan_conf: Option<&str>) -> Device {
    let vm = Vm { kata: KataRuntime::Go, dan_conf: dan_conf.map(str::to_owned) };
    Device { vm: Some(vm), ..whose::tests::device(VF) }
}

fn plug(rig: &Rig, chained: bool) -> Option<Plug> {
    plan(&rig.host, &call("c1").unwrap(), chained, &in_vm(Some(FOLDER))).unwrap()
}

/// A link in the pod's namespace, up or down.
fn link_in_pod(rig: &Rig, up: bool) {
    rig.veth("d1", "p1");
    let link = rig::link(&mut rig.links(), "d1").unwrap();
    let link = link::move_to(&rig.own, link.index, rig.pod.as_ref().unwrap(), &link.name).unwrap();
    let mut inside = rig.inside();
    link::set(&mut inside, link.index, &LinkChange { up: Some(up), ..Default::default() }).unwrap();
}

fn dan(container: &str, name: &str) -> Dan {
    Dan {
        folder: FOLDER.to_owned(),
        sandbox: container.parse().unwrap(),
        dialect: KataRuntime::Go,
        name: rig::name(name),
        function: VF.parse().unwrap(),
    }
}

fn network() -> Network {
    Network { mac: OWN.parse().ok(), mtu: None }
}

fn ips() -> [IpPrefix; 1] {
    [IpPrefix { address: "192.0.2.7".parse().unwrap(), prefix: 24 }]
}

fn write_asking(rig: &Rig, hold: &mut Hold<'_>, dan: &Dan, asked: &Attributes) -> Result<u32, Failure> {
    let wanted = Wanted { own: network(), asked, by_pf: false, ips: &ips(), routes: &[] };
    dan.write(&rig.host, hold, &wanted)
}

fn write(rig: &Rig, hold: &mut Hold<'_>, dan: &Dan) -> Result<u32, Failure> {
    write_asking(rig, hold, dan, &Attributes::default())
}

/// An attachment that stands.
fn attach(rig: &Rig) {
    let mut hold = rig.take("c1");
    write(rig, &mut hold, &dan("c1", "eth0")).unwrap();
    hold.keep();
}

fn asking(keys: &Value) -> Attributes {
    config(keys).attributes
}

fn names(rig: &Rig) -> Option<Vec<String>> {
    let file: Value = serde_json::from_str(&rig.host.read_text_if_any(FILE).unwrap()?).unwrap();
    let devices = file["devices"].as_array().unwrap().iter();
    Some(devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect())
}

fn mode(rig: &Rig, path: &str) -> u32 {
    fs::metadata(rig.host.path(path)).unwrap().permissions().mode() & 0o777
}

fn release(rig: &Rig, container: &str) {
    hold::release(&rig.host, &id(), container, "net1", "").unwrap();
}

#[test]
fn the_only_network_of_a_sandbox_is_an_interface() {
    let rig = Rig::new();
    assert_eq!(plug(&rig, false), Some(Plug::Dan(dan("c1", "eth0"))));
    link_in_pod(&rig, false);
    assert!(plug(&rig, false).unwrap().is_interface(), "one that is down is nobody's network");
}

#[test]
fn beside_another_network_it_is_a_device_of_a_container() {
    let rig = Rig::new();
    let chained = plug(&rig, true).unwrap();
    assert!(matches!(&chained, Plug::Device(why) if why.contains("chained")), "{chained:?}");
    link_in_pod(&rig, true);
    let reason = "a DAN file would hide interface d1 of the sandbox".to_owned();
    assert_eq!(plug(&rig, false), Some(Plug::Device(reason)));
}

#[test]
fn where_the_config_names_no_folder_nothing_is_looked_at() {
    let mut rig = Rig::new();
    rig.end_pod();
    let plan = |device: &Device| plan(&rig.host, &call("c1").unwrap(), false, device).unwrap();
    assert_eq!(plan(&in_vm(None)), Some(Plug::Device("its pool has no `danConf`".to_owned())));
    assert_eq!(plan(&whose::tests::device(VF)), None, "and one on the host is plugged into nothing");
}

#[test]
fn a_hostile_id_of_a_sandbox_is_refused() {
    let rig = Rig::new();
    let long = "a".repeat(300);
    for id in ["../x", "", "a..b", "a/b", &long, "a\0b", "\u{e9}t\u{e9}", "..", "."] {
        let refused = call(id).and_then(|call| {
            plan(&rig.host, &call, false, &in_vm(Some(FOLDER))).map(|plug| format!("{plug:?}"))
        });
        assert_eq!(refused.as_ref().unwrap_err().code, code::BAD_ENVIRONMENT, "{id:?}: {refused:?}");
    }
    assert!(!rig.host.exists("/run/kata-containers"));
}

#[test]
fn the_file_is_nobody_elses_and_goes_with_the_attachment() {
    let rig = Rig::new();
    let mut hold = rig.take("c1");
    assert_eq!(write(&rig, &mut hold, &dan("c1", "eth0")).unwrap(), 1500);
    hold.keep();
    assert_eq!((mode(&rig, FOLDER), mode(&rig, FILE)), (0o700, 0o600));
    assert_eq!(mode(&rig, "/run/kata-containers") & 0o055, 0o055, "what others have a part in is as usual");
    assert_eq!(names(&rig), Some(vec!["eth0".to_owned()]));
    release(&rig, "c1");
    assert!(rig.host.list(FOLDER).unwrap().is_empty());
}

#[test]
fn an_attachment_that_fails_leaves_no_interface() {
    let rig = Rig::new();
    let mut hold = rig.take("c1");
    write(&rig, &mut hold, &dan("c1", "eth0")).unwrap();
    drop(hold);
    assert_eq!(names(&rig), None);
}

#[test]
fn what_others_have_in_the_file_stays() {
    let rig = Rig::new();
    let others = r#"{"netns":"/run/netns/a","devices":[{"name":"net9","x":1}]}"#;
    rig::write(&rig.host, FILE, others);
    attach(&rig);
    assert_eq!(names(&rig), Some(vec!["net9".to_owned(), "eth0".to_owned()]));
    release(&rig, "c1");
    let left: Value = serde_json::from_str(&rig.host.read_text(FILE).unwrap()).unwrap();
    assert_eq!(left, serde_json::from_str::<Value>(others).unwrap());
}

#[test]
fn a_file_that_is_none_is_not_touched() {
    let rig = Rig::new();
    rig::write(&rig.host, FILE, "[]");
    let mut hold = rig.take("c1");
    let failure = write(&rig, &mut hold, &dan("c1", "eth0")).unwrap_err();
    assert_eq!(failure.msg, format!("{FILE} is there, and no DAN file"));
    drop(hold);
    assert_eq!(rig.host.read_text(FILE).unwrap(), "[]");
    assert_eq!(rig.claim(), None, "and the device is free");
}

#[test]
fn the_next_sandbox_takes_the_interface_out_of_the_file_of_the_one_before() {
    let rig = Rig::new();
    attach(&rig);
    rig.take("c2").keep();
    assert_eq!(names(&rig), None);
    release(&rig, "c1");
    assert!(rig.claim().is_some(), "a late DEL takes nothing from it");
}

#[test]
fn the_address_is_the_vfs_own_or_what_its_pf_gave_it() {
    let rig = Rig::new();
    let mut hold = rig.take("c1");
    let other = asking(&json!({ "mac": "02:00:00:00:00:02" }));
    let failure = write_asking(&rig, &mut hold, &dan("c1", "eth0"), &other).unwrap_err();
    assert!(
        failure.msg.starts_with("mac 02:00:00:00:00:02 can't be had: VF 0000:01:00.1 has"),
        "{failure:?}"
    );
    let same = asking(&json!({ "mac": OWN }));
    write_asking(&rig, &mut hold, &dan("c1", "eth0"), &same).unwrap();
    let wanted = Wanted { own: Network::default(), asked: &other, by_pf: false, ips: &[], routes: &[] };
    let silent = dan("c1", "eth0").write(&rig.host, &mut hold, &wanted).unwrap_err();
    assert!(silent.msg.contains("has no MAC address of its own"), "{silent:?}");
    let by_pf = Wanted { own: network(), by_pf: true, ..wanted };
    dan("c1", "eth0").write(&rig.host, &mut hold, &by_pf).unwrap();
    assert!(rig.host.read_text(FILE).unwrap().contains("02:00:00:00:00:02"));
}

#[test]
fn a_packet_is_as_large_as_asked_and_no_larger_than_the_vf_takes() {
    let dan = dan("c1", "eth0");
    let mtu = |asked, own| {
        let asked = asking(&json!({ "mtu": asked }));
        let own = Network { mtu: own, ..network() };
        dan.mtu(&Wanted { own, asked: &asked, by_pf: false, ips: &[], routes: &[] })
            .map_err(|failure| failure.msg)
    };
    assert_eq!(mtu(None, None), Ok(1500));
    assert_eq!(mtu(None, Some(9000)), Ok(9000));
    assert_eq!(mtu(Some(1400), Some(9000)), Ok(1400));
    assert_eq!(
        mtu(Some(9001), Some(9000)),
        Err(format!("mtu 9001 can't be had: VF {VF} takes 9000 at most"))
    );
}

#[test]
fn a_check_sees_what_became_of_the_file() {
    let rig = Rig::new();
    attach(&rig);
    let step = claim::Dan { file: FILE.to_owned(), name: rig::name("eth0"), function: VF.parse().unwrap() };
    let seen = |ips: &[IpPrefix]| differs(&rig.host, &step, NETNS, Some(OWN), ips).unwrap();
    assert_eq!(seen(&ips()), None);
    assert_eq!(seen(&[]), Some(format!("{FILE} has another address of eth0")));
    link_in_pod(&rig, true);
    assert_eq!(seen(&ips()), Some(format!("{FILE} hides interface d1 of the sandbox")));
    for (text, what) in [
        (r#"{"devices":[]}"#, format!("{FILE} does not have eth0 of VF {VF}")),
        ("{}", format!("{FILE} is no DAN file: it has no list `devices`")),
    ] {
        rig::write(&rig.host, FILE, text);
        assert_eq!(seen(&ips()), Some(what));
    }
    rig.host.remove(FILE).unwrap();
    assert_eq!(seen(&ips()), Some(format!("{FILE} is gone")));
}

#[test]
fn what_a_killed_add_has_begun_goes_too() {
    let rig = Rig::new();
    attach(&rig);
    rig.host.remove(FILE).unwrap();
    rig::write(&rig.host, &format!("{FILE}.new"), "{");
    release(&rig, "c1");
    assert!(rig.host.list(FOLDER).unwrap().is_empty());
}

#[test]
fn a_file_goes_after_a_reboot_too_where_its_folder_outlives_one() {
    let rig = Rig::new();
    attach(&rig);
    rig::write(&rig.host, "/proc/sys/kernel/random/boot_id", "b2\n");
    release(&rig, "c1");
    assert_eq!(names(&rig), None);
}

#[test]
fn a_file_that_is_no_text_is_in_nobodys_way() {
    let rig = Rig::new();
    attach(&rig);
    fs::write(rig.host.path(FILE), [0xff]).unwrap();
    release(&rig, "c1");
    assert_eq!(rig.claim(), None);
}

/// Each has its own device and its own lock; the file is theirs together.
#[test]
fn two_calls_about_one_file_lose_nothing_of_each_other() {
    let rig = Rig::new();
    let ids: Vec<DeviceId> = (1..=6).map(|vf| format!("0000:01:00.{vf}").parse().unwrap()).collect();
    thread::scope(|scope| {
        for (number, id) in ids.iter().enumerate() {
            let host = &rig.host;
            scope.spawn(move || {
                let dan =
                    Dan { function: id.as_str().parse().unwrap(), ..dan("c1", &format!("net{number}")) };
                let mut hold = Hold::take(host, id, rig::holder("c1")).unwrap();
                let wanted = Wanted {
                    own: network(),
                    asked: &Attributes::default(),
                    by_pf: false,
                    ips: &[],
                    routes: &[],
                };
                dan.write(host, &mut hold, &wanted).unwrap();
                hold.keep();
            });
        }
    });
    assert_eq!(names(&rig).unwrap().len(), ids.len());
    thread::scope(|scope| {
        for id in &ids {
            scope.spawn(|| hold::release(&rig.host, id, "c1", "net1", "").unwrap());
        }
    });
    assert!(rig.host.list(FOLDER).unwrap().is_empty());
}
