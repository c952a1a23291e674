//! The way back, on a host that is a folder.

use std::thread;
use std::time::{Duration, Instant};

use doorbell_common::claim::Pod;

use crate::{call::Call, del};

use super::*;

struct Node {
    _root: tempfile::TempDir,
    host: Host,
    id: DeviceId,
}

impl Node {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/proc/sys/kernel/random").unwrap();
        host.replace("/proc/sys/kernel/random/boot_id", b"b1\n").unwrap();
        Self { _root: root, host, id: "0000:01:00.1".parse().unwrap() }
    }

    fn take(&self, container: &str) -> Hold<'_> {
        Hold::take(&self.host, &self.id, holder(container)).unwrap()
    }

    fn file(&self) -> String {
        file(&self.id, &Undo::RemoveAttachment).unwrap()
    }

    fn attach(&self, hold: &mut Hold<'_>, content: &str) -> Result<(), Failure> {
        hold.change(Undo::RemoveAttachment, || Ok(self.host.replace(self.file(), content.as_bytes())?))
    }

    fn inform(&self, hold: &mut Hold<'_>, file: &str) -> Result<(), Failure> {
        hold.change(Undo::RemoveDeviceInfo(format!("/run/info/{file}")), || {
            self.host.make_folder("/run/info")?;
            Ok(self.host.replace(format!("/run/info/{file}"), b"{}")?)
        })
    }

    fn informed(&self) -> Vec<String> {
        self.host.list("/run/info").unwrap()
    }

    fn attachment(&self) -> Option<String> {
        self.host.read_text_if_any(self.file()).unwrap()
    }

    fn held_by(&self) -> Option<String> {
        claim::read(&self.host, &self.id).unwrap().map(|claim| claim.holder.container_id)
    }

    fn del(&self, container: &str) {
        release(&self.host, &self.id, container, "eth0", "").unwrap();
    }
}

fn holder(container: &str) -> Holder {
    let [network, container_id, interface, netns] =
        ["net", container, "eth0", "/var/run/netns/a"].map(str::to_owned);
    let pod = Pod { namespace: "default".to_owned(), name: "a".to_owned() };
    Holder { network, container_id, interface, netns, pod }
}

#[test]
fn a_kept_attachment_stands_until_its_own_del() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one").unwrap();
    hold.keep();
    node.del("c2");
    assert_eq!((node.held_by().as_deref(), node.attachment().as_deref()), (Some("c1"), Some("one")));
    node.del("c1");
    node.del("c1");
    assert_eq!((node.held_by(), node.attachment()), (None, None));
}

#[test]
fn a_failed_add_leaves_nothing() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one").unwrap();
    node.inform(&mut hold, "c1").unwrap();
    drop(hold);
    assert_eq!((node.held_by(), node.attachment(), node.informed()), (None, None, vec![]));
}

#[test]
fn a_failed_takeover_gives_the_device_back_as_it_was() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one").unwrap();
    node.inform(&mut hold, "c1").unwrap();
    hold.keep();

    drop(node.take("c2"));
    assert_eq!((node.held_by().as_deref(), node.attachment().as_deref()), (Some("c1"), Some("one")));

    let mut hold = node.take("c2");
    node.attach(&mut hold, "two").unwrap();
    node.inform(&mut hold, "c2").unwrap();
    drop(hold);
    assert_eq!((node.held_by().as_deref(), node.attachment().as_deref()), (Some("c1"), Some("one")));
    assert_eq!(node.informed(), ["c1"]);
    node.del("c1");
    assert_eq!((node.held_by(), node.attachment(), node.informed()), (None, None, vec![]));
}

#[test]
fn a_failed_takeover_leaves_no_file_that_was_gone_before() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one").unwrap();
    hold.keep();
    // The node was booted again, or somebody emptied the folder.
    std::fs::remove_dir_all(node.host.path("/run")).unwrap();
    let mut hold = node.take("c2");
    node.attach(&mut hold, "two").unwrap();
    drop(hold);
    assert_eq!((node.held_by().as_deref(), node.attachment().as_deref()), (Some("c1"), None));
}

#[test]
fn a_file_is_given_back_to_the_byte() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one\n").unwrap();
    hold.keep();
    let mut hold = node.take("c2");
    node.attach(&mut hold, "two\n").unwrap();
    drop(hold);
    assert_eq!(node.host.read(node.file()).unwrap(), b"one\n");
}

#[test]
fn a_killed_takeover_loses_no_undo_step() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one").unwrap();
    hold.keep();
    // Killed after the claim was written: nothing runs any more.
    node.take("c2").keep();
    assert_eq!(node.held_by().as_deref(), Some("c2"));
    node.del("c2");
    assert_eq!((node.held_by(), node.attachment()), (None, None));
}

#[test]
fn a_del_of_the_former_sandbox_is_not_lost_in_a_takeover_that_fails() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one").unwrap();
    hold.keep();
    let call = Call::parse(|name| {
        let variables = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
        variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    });
    let call = call.unwrap();
    let hold = node.take("c2");
    thread::scope(|scope| {
        let del = scope.spawn(|| del::del(&node.host, &call, b"{}"));
        // One that does not wait for the takeover's end has ended by then.
        let started = Instant::now();
        while !del.is_finished() && started.elapsed() < Duration::from_millis(200) {
            thread::yield_now();
        }
        drop(hold);
        del.join().unwrap().unwrap();
    });
    assert_eq!((node.held_by(), node.attachment()), (None, None));
}

#[test]
fn an_add_killed_before_its_change_is_undone_by_del() {
    let node = Node::new();
    let mut hold = node.take("c1");
    hold.change(Undo::RemoveAttachment, || Ok(())).unwrap();
    hold.keep();
    node.del("c1");
    assert_eq!((node.held_by(), node.attachment()), (None, None));
}

#[test]
fn a_del_after_a_reboot_finds_its_claim_and_no_folder() {
    let node = Node::new();
    let mut hold = node.take("c1");
    node.attach(&mut hold, "one").unwrap();
    hold.keep();
    std::fs::remove_dir_all(node.host.path("/run")).unwrap();
    node.del("c1");
    assert_eq!(node.held_by(), None);
}
