//! The program, from outside: signals, the log, and the command that undoes it.

use std::fs;
use std::process::{Child, Command};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::node::{BINARIES, CONFIGS, MAIN, Node, WITHIN, chained, conflist};

/// The program, on folders of this machine.
struct Program<'a> {
    node: &'a Node,
    child: Child,
}

impl<'a> Program<'a> {
    fn keep(node: &'a Node) -> Self {
        let log = fs::File::create(node.root.path().join("log")).unwrap();
        let mut program = command(node, "keep-cni");
        let child = program.arg("--bin-dir").arg(node.host().path(BINARIES)).stderr(log).spawn().unwrap();
        Self { node, child }
    }

    fn until(&self, reached: impl Fn(&Node) -> bool) {
        let started = Instant::now();
        while !reached(self.node) {
            assert!(started.elapsed() < WITHIN, "{:?}\n{}", self.node.text(MAIN), self.said());
            std::thread::yield_now();
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.node.root.path().join("log")).unwrap()
    }

    /// Whether it ended well.
    fn stop(mut self) -> bool {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap().success()
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(node: &Node, verb: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_doorbell-device-plugin"));
    program.arg(verb).arg("--conf-dir").arg(node.host().path(CONFIGS)).env("RUST_LOG", "info");
    program
}

#[test]
fn sigterm_leaves_it_and_uninstall_cni_does_not() {
    let node = Node::new();
    node.replace(MAIN, &conflist(1));
    let program = Program::keep(&node);
    program.until(|node| node.text(MAIN) == Some(chained(1)));
    assert!(program.stop());
    assert_eq!(node.text(MAIN), Some(chained(1)));
    for _ in 0..2 {
        let mut uninstall = command(&node, "uninstall-cni");
        assert!(uninstall.arg("--from").arg(node.host().path(BINARIES)).status().unwrap().success());
        assert_eq!(node.text(MAIN), Some(conflist(1)));
        assert!(!node.binary().exists());
    }
}

#[test]
fn what_an_operator_wants_to_know_is_said_once() {
    let node = Node::new();
    node.replace("00-multus.conf", r#"{"cniVersion": "1.0.0", "name": "m", "type": "multus"}"#);
    node.replace(MAIN, &conflist(0));
    let program = Program::keep(&node);
    program.until(|_| program.said().contains("NetworkAttachmentDefinition"));
    fs::remove_file(node.path("00-multus.conf")).unwrap();
    program.until(|node| node.text(MAIN) == Some(chained(0)));
    for mtu in 1..7 {
        node.replace(MAIN, &conflist(mtu));
        program.until(|node| node.text(MAIN) == Some(chained(mtu)));
    }
    let said = program.said();
    assert!(program.stop());
    let often = |text| said.matches(text).count();
    assert_eq!(often("NetworkAttachmentDefinition"), 1, "{said}");
    assert_eq!(often("less and less"), 1, "{said}");
    assert_eq!(often("is in the chain again"), 4, "{said}");
}
