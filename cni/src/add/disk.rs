//! A disk that takes no files, by real filesystems in a mount namespace of the test's own.

use std::fs;
use std::thread;

use doorbell_common::formats::cni::code;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::tests::{ANSWER, Node, conf};
use super::*;
use crate::rig::link;

const NONE: Option<&str> = None;

/// Runs where mounts are nobody else's.
fn apart(test: impl FnOnce() + Send) {
    let apart = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).unwrap();
        test();
    };
    thread::scope(|scope| scope.spawn(apart).join().unwrap());
}

/// A small filesystem for a folder of the host.
fn small(node: &Node, folder: &str) {
    node.rig.host.make_folder(folder).unwrap();
    let folder = node.rig.host.path(folder);
    mount(Some("none"), &folder, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
}

fn fill(node: &Node, folder: &str) {
    let file = node.rig.host.path(folder).join("ballast");
    assert!(fs::write(file, vec![0; 128 * 1024]).is_err(), "it takes more than it has");
}

/// ADD is refused with this, and has changed nothing and asked nobody.
fn refused(node: &Node, expected: &str) {
    let failure = node.add(&conf(json!({ "ipam": { "type": "pool" } }))).unwrap_err();
    assert_eq!((failure.code, failure.msg.as_str()), (code::IO, expected));
    assert!(node.rig.claim().is_none() && node.attachment().is_none());
    assert!(link(&mut node.rig.links(), "d0").is_some() && link(&mut node.rig.inside(), "net1").is_none());
    assert!(!node.rig.host.exists("/opt/cni/bin/pool.calls"));
}

#[test]
fn on_a_full_disk_nothing_is_begun() {
    let node = Node::new(ANSWER);
    apart(|| {
        for folder in [claim::FOLDER, descriptor::HOST_FOLDER] {
            // What is described is on the disk that fills up.
            let described = node.rig.host.read(descriptor::device_file(&crate::rig::id())).unwrap();
            small(&node, folder);
            node.rig.host.keep_as(descriptor::device_file(&crate::rig::id()), &described).unwrap();
            fill(&node, folder);
            refused(&node, &format!("nothing can be written in {folder}: no space is left"));
            umount2(&node.rig.host.path(folder), MntFlags::MNT_DETACH).unwrap();
        }
        node.add(&conf(json!({}))).unwrap();
    });
}

#[test]
fn on_a_read_only_disk_nothing_is_begun() {
    let node = Node::new(ANSWER);
    apart(|| {
        small(&node, claim::FOLDER);
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NONE, &node.rig.host.path(claim::FOLDER), NONE, flags, NONE).unwrap();
        refused(&node, &format!("nothing can be written in {}: it is mounted read-only", claim::FOLDER));
    });
}

#[test]
fn a_disk_that_has_filled_up_keeps_nobody_from_giving_back() {
    let node = Node::new(ANSWER);
    let before = link(&mut node.rig.links(), "d0").unwrap();
    apart(|| {
        small(&node, claim::FOLDER);
        let conf = conf(json!({ "mac": "02:00:00:00:00:11", "mtu": 1400 }));
        node.add(&conf).unwrap();
        fill(&node, claim::FOLDER);
        node.del(&conf);
        let after = link(&mut node.rig.links(), "d0").unwrap();
        assert_eq!((after.mac, after.mtu, after.up), (before.mac, before.mtu, before.up));
        assert!(node.rig.claim().is_none() && node.attachment().is_none());
    });
}
