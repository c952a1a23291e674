//! In and back, by this machine's kernel.

use std::thread;

use super::back::bring_back_within;
use super::*;
use crate::hold::release;
use crate::rig::{HOME, NETNS, Rig, eligible, id, link, name};

/// For what never comes.
const SHORT: Duration = Duration::from_millis(30);

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];

fn wanted() -> Wanted<'static> {
    Wanted { name: None, mac: None, by_pf: false, mtu: None, ips: &[], routes: &[] }
}

/// Up on the host, with an MTU of its own.
fn ready() -> (Rig, Found) {
    let rig = Rig::new();
    let index = link(&mut rig.links(), "d0").unwrap().index;
    let change = LinkChange { mtu: Some(1400), up: Some(true), ..Default::default() };
    link::set(&mut rig.links(), index, &change).unwrap();
    let found = find(&rig.host, &eligible()).unwrap().unwrap();
    (rig, found)
}

/// Moves it in as `net1`, and has sysfs show it no longer.
fn moved(container: &str) -> (Rig, Found) {
    let (rig, found) = ready();
    let mut hold = rig.take(container);
    let net1 = name("net1");
    let wanted = Wanted { name: Some(&net1), ..wanted() };
    move_in(&rig.host, &mut hold, &found, rig.pod.as_ref().unwrap(), &wanted).unwrap();
    hold.keep();
    rig.shows(&[]);
    (rig, found)
}

fn del(rig: &Rig, container: &str) -> Result<(), Failure> {
    release(&rig.host, &id(), container, "net1", "")
}

fn step(rig: &Rig) -> Netdev {
    let claim = rig.claim().unwrap();
    let netdevs = claim.undo.into_iter().filter_map(|step| match step {
        Undo::Netdev(netdev) => Some(netdev),
        _ => None,
    });
    let [netdev] = netdevs.collect::<Vec<_>>().try_into().unwrap();
    netdev
}

/// The link on the host as it was, but for the number that it has there.
fn assert_as_it_was(rig: &Rig, found: &Found) {
    let link = link(&mut rig.links(), found.link.name.as_str()).expect("it is on the host under its name");
    assert_eq!(Link { index: found.link.index, ..link }, found.link);
}

#[test]
fn it_is_in_the_pod_all_that_was_asked() {
    let (rig, found) = ready();
    let mut hold = rig.take("c1");
    let net1 = name("net1");
    let ips = ["10.0.0.2/24", "fd00::2/64"].map(|ip| doorbell_common::formats::cni::ip_prefix(ip).unwrap());
    let routes = [
        Route::to(([0, 0, 0, 0].into(), 0), Some([10, 0, 0, 1].into())),
        Route { mtu: Some(1200), ..Route::to(([10, 1, 0, 0].into(), 16), None) },
    ];
    let (mac, mtu) = (Some(MAC.into()), Some(1300));
    let wanted = Wanted { name: Some(&net1), mac, by_pf: false, mtu, ips: &ips, routes: &routes };
    let made = move_in(&rig.host, &mut hold, &found, rig.pod.as_ref().unwrap(), &wanted).unwrap();
    assert_eq!(made, Link { name: net1, mac, mtu: 1300, up: true, index: made.index, ..found.link.clone() });
    assert_eq!(link(&mut rig.inside(), "net1"), Some(made.clone()));
    assert_eq!(link(&mut rig.links(), "d0"), None);
    for (route, ip) in routes.iter().zip(&ips) {
        let again = link::add_route(&mut rig.inside(), made.index, route).unwrap_err();
        assert!(again.to_string().starts_with("add a route"), "{again}");
        let address = (ip.address, ip.prefix);
        assert!(link::add_address(&mut rig.inside(), made.index, address).is_err(), "{ip:?}");
    }
}

#[test]
fn it_comes_back_as_it_was() {
    let (rig, found) = moved("c1");
    del(&rig, "c2").unwrap();
    assert!(link(&mut rig.inside(), "net1").is_some());
    del(&rig, "c1").unwrap();
    assert_as_it_was(&rig, &found);
    assert_eq!(rig.claim(), None);
    rig.shows(&["d0"]);
    del(&rig, "c1").unwrap();
}

#[test]
fn what_was_done_to_it_in_the_pod_comes_back_too() {
    let (rig, found) = moved("c1");
    let index = link(&mut rig.inside(), "net1").unwrap().index;
    let change = LinkChange { mac: Some(MAC.into()), mtu: Some(1000), up: Some(false), name: None };
    link::set(&mut rig.inside(), index, &change).unwrap();
    del(&rig, "c1").unwrap();
    assert_as_it_was(&rig, &found);
}

#[test]
fn in_a_chain_it_has_the_first_name_that_is_free() {
    let (rig, found) = ready();
    for (pod, made) in [(vec![], "doorbell0"), (vec!["doorbell0", "doorbell1"], "doorbell2")] {
        for name in &pod {
            let mut hold = rig.take("c0");
            rig.veth(name, &format!("p-{name}"));
            let link = link(&mut rig.links(), name).unwrap();
            let wanted = Wanted { name: Some(&link.name.clone()), ..wanted() };
            let other = Found { home: HOME.to_owned(), link };
            move_in(&rig.host, &mut hold, &other, rig.pod.as_ref().unwrap(), &wanted).unwrap();
            // Forgotten: they are the pod's.
            hold.keep();
            doorbell_common::claim::remove(&rig.host, &id()).unwrap();
        }
        let mut hold = rig.take("c1");
        let found = Found { link: link(&mut rig.links(), "d0").unwrap(), ..found.clone() };
        let link = move_in(&rig.host, &mut hold, &found, rig.pod.as_ref().unwrap(), &wanted()).unwrap();
        assert_eq!(link.name.as_str(), made);
    }
}

#[test]
fn an_add_that_fails_leaves_it_as_it_was() {
    let route = Route::to(([10, 1, 0, 0].into(), 16), Some([10, 9, 9, 9].into()));
    for wanted in [
        Wanted { mtu: Some(65536), ..wanted() },
        Wanted { mac: Some(MAC.into()), routes: &[route], ..wanted() },
    ] {
        let (rig, found) = ready();
        let mut hold = rig.take("c1");
        let pod = rig.pod.as_ref().unwrap();
        let failure = move_in(&rig.host, &mut hold, &found, pod, &wanted).unwrap_err();
        assert_eq!(failure.code, INTERFACE_FAILED, "{failure:?}");
        drop(hold);
        assert_as_it_was(&rig, &found);
        assert_eq!(rig.claim(), None);
    }
}

#[test]
fn a_name_that_the_pod_has_is_refused_and_its_owner_left_alone() {
    let (rig, found) = ready();
    rig.veth("net1", "p1");
    let net1 = name("net1");
    let index = link(&mut rig.links(), "net1").unwrap().index;
    let theirs = link::move_to(&rig.own, index, rig.pod.as_ref().unwrap(), &net1).unwrap();
    let mut hold = rig.take("c1");
    let wanted = Wanted { name: Some(&net1), ..wanted() };
    let pod = sandbox(&rig.host, NETNS).unwrap();
    let failure = move_in(&rig.host, &mut hold, &found, &pod, &wanted).unwrap_err();
    assert_eq!(failure.msg, format!("network namespace {NETNS} has a link net1 already"));
    drop(hold);
    assert_as_it_was(&rig, &found);
    assert_eq!(link(&mut rig.inside(), "net1"), Some(theirs));
}

#[test]
fn one_whose_name_was_taken_meanwhile_gets_another() {
    let (rig, found) = moved("c1");
    rig.veth("d0", "p1");
    let theirs = link(&mut rig.links(), "d0");
    let index = link(&mut rig.inside(), "net1").unwrap().index;
    rig.veth(&format!("dbl{index}"), "p2");
    del(&rig, "c1").unwrap();
    let ours = link(&mut rig.links(), &format!("dbl{}", index + 1)).unwrap();
    assert_eq!((ours.mac, ours.mtu, ours.up), (found.link.mac, 1400, true));
    assert_eq!(link(&mut rig.links(), "d0"), theirs);
}

/// What the kernel does with a device's interface when its namespace goes, some time after.
fn sent_home(rig: &Rig, as_name: &str) {
    let index = link(&mut rig.inside(), "net1").unwrap().index;
    link::move_to(rig.pod.as_ref().unwrap(), index, &rig.own, &name(as_name)).unwrap();
}

#[test]
fn one_that_the_kernel_sent_home_is_made_what_it_was() {
    let (mut rig, found) = moved("c1");
    sent_home(&rig, "dev7");
    rig.end_pod();
    rig.shows(&["dev7"]);
    del(&rig, "c1").unwrap();
    assert_as_it_was(&rig, &found);
    assert_eq!((link(&mut rig.links(), "dev7"), rig.claim()), (None, None));
}

#[test]
fn one_that_is_on_its_way_home_is_waited_for() {
    let (mut rig, found) = moved("c1");
    sent_home(&rig, "dev7");
    rig.end_pod();
    thread::scope(|scope| {
        let del = scope.spawn(|| del(&rig, "c1"));
        // One that does not wait has ended by then.
        let started = Instant::now();
        while !del.is_finished() && started.elapsed() < Duration::from_millis(200) {
            thread::yield_now();
        }
        rig.shows(&["dev7"]);
        del.join().unwrap().unwrap();
    });
    assert_as_it_was(&rig, &found);
}

#[test]
fn one_that_went_with_its_device_is_done_with() {
    for folder in ["/sys/bus/pci/devices/0000:01:00.1", "/sys/bus/pci/devices/0000:01:00.1/net"] {
        let (mut rig, _) = moved("c1");
        rig.end_pod();
        std::fs::remove_dir_all(rig.host.path(folder)).unwrap();
        del(&rig, "c1").unwrap();
        assert_eq!(rig.claim(), None);
    }
}

#[test]
fn one_that_is_nowhere_keeps_its_claim() {
    let (mut rig, _) = moved("c1");
    let netdev = step(&rig);
    // The namespace stands and does not have it.
    let strayed = Netdev { device: Some("0000:01:00.1".to_owned()), ..netdev.clone() };
    let failure = bring_back_within(&rig.host, &strayed, &[NETNS], SHORT).unwrap_err();
    let msg = "network interface d0 is not back on the host";
    assert_eq!((failure.code, failure.msg.as_str()), (code::TRY_AGAIN, msg));
    assert_eq!(failure.details, format!("it is not in {NETNS}"));
    rig.end_pod();
    let failure = bring_back_within(&rig.host, &netdev, &[NETNS], SHORT).unwrap_err();
    assert_eq!(failure.details, format!("there is no network namespace {NETNS}"));
    let failure = bring_back_within(&rig.host, &netdev, &[], SHORT).unwrap_err();
    assert_eq!((failure.code, failure.details.as_str()), (code::TRY_AGAIN, ""));
}

#[test]
fn the_call_may_know_the_namespace_by_another_file() {
    let (rig, found) = moved("c1");
    let moved = rig.made("/run/netns/b");
    std::fs::rename(rig.host.path(NETNS), moved).unwrap();
    release(&rig.host, &id(), "c1", "net1", "/run/netns/b").unwrap();
    assert_as_it_was(&rig, &found);
}

#[test]
fn a_killed_del_goes_on() {
    let (rig, found) = moved("c1");
    // Killed when it was back, before it was made what it was.
    sent_home(&rig, "dbl4");
    rig.shows(&["dbl4"]);
    del(&rig, "c1").unwrap();
    assert_as_it_was(&rig, &found);
}

#[test]
fn an_add_that_was_killed_before_the_move_takes_nothing_from_the_pod() {
    let (rig, found) = moved("c1");
    sent_home(&rig, "d0");
    rig.shows(&["d0"]);
    rig.veth("net1", "p1");
    let net1 = name("net1");
    let index = link(&mut rig.links(), "net1").unwrap().index;
    let theirs = link::move_to(&rig.own, index, rig.pod.as_ref().unwrap(), &net1).unwrap();
    del(&rig, "c1").unwrap();
    assert_as_it_was(&rig, &found);
    assert_eq!(link(&mut rig.inside(), "net1"), Some(theirs));
}

#[test]
fn a_takeover_brings_it_back_first() {
    let (rig, found) = moved("c1");
    let hold = rig.take("c2");
    assert_as_it_was(&rig, &found);
    rig.shows(&["d0"]);
    assert_eq!(find(&rig.host, &eligible()).unwrap().unwrap().link.name, found.link.name);
    // The former claim has no more to say of it.
    drop(hold);
    let claim = rig.claim().unwrap();
    assert_eq!((claim.holder.container_id.as_str(), claim.undo), ("c1", vec![]));
    del(&rig, "c1").unwrap();
    assert_as_it_was(&rig, &found);
}

#[test]
fn a_takeover_of_what_does_not_come_back_fails() {
    let (rig, _) = moved("c1");
    let former = rig.claim();
    let net = format!("{HOME}/net");
    std::fs::remove_dir_all(rig.host.path(&net)).unwrap();
    crate::rig::write(&rig.host, &net, "no folder");
    let failure = Hold::take(&rig.host, &id(), crate::rig::holder("c2")).unwrap_err();
    let msg = format!("device {} is not back from pod default/a", id());
    assert_eq!((failure.code, &failure.msg), (code::TRY_AGAIN, &msg));
    assert!(failure.details.starts_with(&format!("list {net}")), "{failure:?}");
    assert_eq!(rig.claim(), former);
}

#[test]
fn after_a_reboot_nothing_is_done_to_it() {
    let (mut rig, _) = moved("c1");
    sent_home(&rig, "eth5");
    rig.end_pod();
    rig.shows(&["eth5"]);
    let now = link(&mut rig.links(), "eth5");
    crate::rig::write(&rig.host, "/proc/sys/kernel/random/boot_id", "b2\n");
    drop(rig.take("c2"));
    assert_eq!(link(&mut rig.links(), "eth5"), now);
    del(&rig, "c1").unwrap();
    assert_eq!((link(&mut rig.links(), "eth5"), rig.claim()), (now, None));
}

#[test]
fn one_that_is_not_on_the_host_may_be_there_later() {
    let (rig, _) = ready();
    rig.shows(&[]);
    let failure = find(&rig.host, &eligible()).unwrap_err();
    let msg = format!("the network interface of device {} is not on the host", id());
    assert_eq!((failure.code, failure.msg), (code::TRY_AGAIN, msg));
}

#[test]
fn of_several_none_is_taken() {
    let (rig, _) = ready();
    rig.shows(&["d0", "d1"]);
    let failure = find(&rig.host, &eligible()).unwrap_err();
    assert_eq!(
        (failure.code, failure.msg),
        (NOT_ELIGIBLE, format!("{HOME} has several network interfaces: d0, d1"))
    );
}

#[test]
fn a_device_of_another_mode_gives_none() {
    let (rig, _) = ready();
    let vfio = Eligible { access: subdevice::Access::Vfio, ..eligible() };
    assert_eq!(find(&rig.host, &vfio), Ok(None));
}

#[test]
fn a_namespace_that_is_not_there_is_the_callers_fault() {
    let rig = Rig::new();
    let failure = sandbox(&rig.host, "/run/netns/none").unwrap_err();
    assert_eq!(failure.code, code::BAD_ENVIRONMENT);
    assert_eq!(failure.msg, "CNI_NETNS /run/netns/none is not to be had");
    assert_eq!(failure.details, "there is no network namespace /run/netns/none");
}

#[test]
fn an_address_that_the_pf_gave_is_given_back_with_it() {
    let (rig, found) = ready();
    let was = Addressed { home: HOME.to_owned(), mac: found.link.mac.unwrap() };
    let change = LinkChange { mac: Some(MAC.into()), ..Default::default() };
    link::set(&mut rig.links(), found.link.index, &change).unwrap();
    readdress(&rig.host, &mut rig.links(), &was).unwrap();
    assert_as_it_was(&rig, &found);
    rig.shows(&[]);
    readdress(&rig.host, &mut rig.links(), &was).unwrap();
}

#[test]
fn an_address_of_the_pfs_is_not_the_interfaces_to_give_back() {
    let (rig, found) = ready();
    let mut hold = rig.take("c1");
    let wanted = Wanted { mac: Some(MAC.into()), by_pf: true, ..wanted() };
    move_in(&rig.host, &mut hold, &found, rig.pod.as_ref().unwrap(), &wanted).unwrap();
    assert_eq!(step(&rig).mac, None);
    hold.keep();
    rig.shows(&[]);
    del(&rig, "c1").unwrap();
    assert_eq!(link(&mut rig.links(), "d0").unwrap().mac, Some(MAC.into()));
}
