//! The delegation, with a shell script as the plugin.

use std::fs;
use std::path::Path;

use doorbell_common::formats::cni::{AddResult, Interface};
use serde_json::{Value, json};

use super::*;

const CONF: &str = r#"{"cniVersion":"1.0.0",  "name":"net","ipam":{"type":"pool"}}"#;
const ANSWER: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24","gateway":"10.0.0.1"}]}"#;

/// A host with a plugin `pool` that keeps what it is called with, then does as the script says.
struct Node {
    root: tempfile::TempDir,
    host: Host,
    call: Call,
}

impl Node {
    fn new(script: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/opt/cni/bin").unwrap();
        let keep = r#"cat >"$0.stdin"; echo $CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_NETNS $CNI_ARGS >>"$0.calls""#;
        write_program(&host.path("/opt/cni/bin/pool"), &format!("#!/bin/sh\n{keep}\n{script}\n"));
        let call = Call::parse(|name| {
            let value = match name {
                "CNI_COMMAND" => "ADD",
                "CNI_CONTAINERID" => "c1",
                "CNI_NETNS" => "/run/netns/a",
                "CNI_IFNAME" => "eth0",
                "CNI_ARGS" => "K8S_POD_NAME=a",
                "CNI_PATH" => "/none:/opt/cni/bin",
                _ => return None,
            };
            Some(value.to_owned())
        });
        Self { root, host, call: call.unwrap() }
    }

    fn answering(answer: &str) -> Self {
        Self::new(&format!("[ $CNI_COMMAND = DEL ] || echo '{answer}'"))
    }

    fn ipam(&self) -> Ipam<'_> {
        Ipam::find(&self.host, &"pool".parse().unwrap(), &self.call, CONF.as_bytes()).unwrap()
    }

    /// The failure of an ADD.
    fn refused(&self) -> (u32, String, String) {
        let Failure { code, msg, details } = self.ipam().add().unwrap_err();
        (code, msg, details)
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.host.path("/opt/cni/bin/pool.calls")).unwrap();
        calls.lines().map(str::to_owned).collect()
    }

    fn verbs(&self) -> Vec<String> {
        self.calls().iter().map(|call| call.split(' ').next().unwrap().to_owned()).collect()
    }
}

/// Written by another process: were a file of ours open for writing in a child of a test beside this one, the kernel
/// would not start it (ETXTBSY).
pub(crate) fn write_program(path: &Path, text: &str) {
    let write = r#"printf %s "$1" >"$2" && chmod 755 "$2""#;
    let written = Command::new("/bin/sh").args(["-c", write, "sh", text]).arg(path).status().unwrap();
    assert!(written.success());
}

#[test]
fn the_plugin_gets_our_environment_and_our_bytes() {
    let node = Node::answering(ANSWER);
    let ipam = node.ipam();
    let lease = ipam.add().unwrap();
    assert_eq!(lease.addresses, [IpPrefix { address: [10, 0, 0, 2].into(), prefix: 24 }]);
    lease.keep();
    assert_eq!(node.calls(), ["ADD c1 eth0 /run/netns/a K8S_POD_NAME=a"]);
    assert_eq!(fs::read_to_string(node.host.path("/opt/cni/bin/pool.stdin")).unwrap(), CONF);
}

#[test]
fn a_lease_that_is_not_kept_is_given_back() {
    let node = Node::answering(ANSWER);
    drop(node.ipam().add().unwrap());
    let same = "c1 eth0 /run/netns/a K8S_POD_NAME=a";
    assert_eq!(node.calls(), [format!("ADD {same}"), format!("DEL {same}")]);
}

#[test]
fn an_error_goes_up_as_it_is_and_is_undone() {
    let error = r#"{"cniVersion":"1.0.0","code":101,"msg":"no addresses left","details":"10.0.0.0/24"}"#;
    let node = Node::new(&format!("[ $CNI_COMMAND = DEL ] || {{ echo '{error}'; exit 1; }}"));
    assert_eq!(node.refused(), (101, "no addresses left".to_owned(), "10.0.0.0/24".to_owned()));
    assert_eq!(node.verbs(), ["ADD", "DEL"]);
}

#[test]
fn a_plugin_that_fails_without_a_document_is_named() {
    assert_eq!(
        Node::new("echo out of order; exit 2").refused(),
        (code::IO, "the IPAM plugin `pool` failed: exit status: 2".to_owned(), "out of order".to_owned())
    );
}

#[test]
fn a_plugin_that_hangs_is_killed() {
    let node = Node::new("[ $CNI_COMMAND = DEL ] || exec sleep 600");
    let mut ipam = node.ipam();
    ipam.within = Duration::from_millis(300);
    let failure = ipam.add().unwrap_err();
    assert_eq!(
        (failure.code, failure.msg.as_str()),
        (code::TRY_AGAIN, "the IPAM plugin `pool` did not end within 300ms, and was killed")
    );
    assert_eq!(node.verbs(), ["ADD", "DEL"]);
}

#[test]
fn an_answer_without_an_address_is_refused_and_undone() {
    for (answer, details) in [
        (r#"{"ips":[]}"#, "it has no address"),
        (r#"{"ips":null}"#, "it has no address"),
        (r#"{"ips":[{"address":"10.0.0.2"}]}"#, "`10.0.0.2` is no address with a prefix length"),
        ("", "EOF while parsing a value at line 2 column 0"),
    ] {
        let node = Node::answering(answer);
        let msg = "the answer of the IPAM plugin `pool` can't be read".to_owned();
        assert_eq!(node.refused(), (code::DECODE, msg, details.to_owned()));
        assert_eq!(node.verbs(), ["ADD", "DEL"]);
    }
}

#[test]
fn a_plugin_that_is_not_there_is_refused() {
    let node = Node::new("");
    let failure = Ipam::find(&node.host, &"none".parse().unwrap(), &node.call, b"").unwrap_err();
    assert_eq!(
        (failure.code, failure.msg.as_str()),
        (7, "the IPAM plugin `none` is in no folder of CNI_PATH (`/none:/opt/cni/bin`)")
    );
}

#[test]
fn a_name_is_no_path() {
    for text in ["", ".", "..", "a/b", "/bin/sh", "../../bin/sh", "a\0"] {
        assert_eq!(text.parse::<Name>(), Err(NoName), "{text:?}");
    }
}

/// One call of the protocol on this host.
fn answer(node: &Node, verb: &str, stdin: &str) -> Result<Option<String>, Failure> {
    let variable = |name: &str| {
        let value = match name {
            "CNI_COMMAND" => verb,
            "CNI_CONTAINERID" => "c1",
            "CNI_NETNS" if verb == "ADD" => "/run/netns/a",
            "CNI_IFNAME" => "eth0",
            "CNI_ARGS" => "K8S_POD_NAMESPACE=default;K8S_POD_NAME=a",
            "CNI_PATH" => "/opt/cni/bin",
            _ => return None,
        };
        Some(value.to_owned())
    };
    crate::answer(&node.host, variable, stdin.as_bytes())
}

#[test]
fn del_gives_back_whatever_add_did() {
    let node = Node::answering(ANSWER);
    assert_eq!(answer(&node, "DEL", CONF), Ok(None));
    // A runtime that kept the result of ADD hands it to DEL: that makes no chain.
    assert_eq!(answer(&node, "DEL", &CONF.replacen('{', r#"{"prevResult":{},"#, 1)), Ok(None));
    assert_eq!(node.verbs(), ["DEL", "DEL"]);
}

#[test]
fn del_does_not_stop_at_a_device_that_fails() {
    let node = Node::new(r#"echo '{"code":11,"msg":"locked"}'; exit 1"#);
    let claims = node.host.path("/var/lib/doorbell");
    fs::create_dir_all(&claims).unwrap();
    // No folder, so it can't be listed.
    fs::write(claims.join("claims"), "").unwrap();
    let failure = answer(&node, "DEL", CONF).unwrap_err();
    assert_eq!(
        (failure.code, failure.msg.as_str()),
        (11, "locked"),
        "{} in {:?}",
        failure.details,
        node.root.path()
    );
    assert!(failure.details.starts_with("list /var/lib/doorbell/claims"), "{}", failure.details);
}

#[test]
fn what_add_refuses_del_does_not_run() {
    let node = Node::answering(ANSWER);
    for conf in [
        r#"{"cniVersion":"1.0.0","name":"net","ipam":{"type":"../../bin/sh"}}"#,
        r#"{"cniVersion":"1.0.0","name":"net","ipam":{"type":"doorbell"}}"#,
        r#"{"cniVersion":"1.0.0","name":"net","ipam":"pool"}"#,
        r#"{"cniVersion":"1.0.0","name":"net","ipam":{}}"#,
    ] {
        assert_eq!(answer(&node, "DEL", conf), Ok(None));
    }
    assert!(!node.host.exists("/opt/cni/bin/pool.calls"));
}

#[test]
fn add_runs_nothing_before_all_else_stands() {
    let node = Node::answering(ANSWER);
    let code = |stdin: &str| answer(&node, "ADD", stdin).unwrap_err().code;
    assert_eq!(code(&CONF.replace("pool", "none")), code::BAD_CONFIG);
    assert_eq!(code(CONF), code::TRY_AGAIN);
    assert!(!node.host.exists("/opt/cni/bin/pool.calls"));
}

#[test]
fn the_document_of_a_sole_network_is_what_containerd_needs() {
    for (version, ip) in [
        ("0.3.1", json!({ "version": "4", "address": "10.0.0.2/24", "gateway": "10.0.0.1" })),
        ("1.1.0", json!({ "address": "10.0.0.2/24" })),
    ] {
        let answer = json!({
            "cniVersion": version, "ips": [ip], "routes": [{ "dst": "0.0.0.0/0" }],
            "dns": { "nameservers": ["10.0.0.1"] }, "interfaces": [{ "name": "other" }],
        });
        let node = Node::answering(&answer.to_string());
        let ipam = node.ipam();
        let lease = ipam.add().unwrap();
        let [name, sandbox] = ["eth0", "/run/netns/a"].map(str::to_owned);
        let pci_id = Some("0000:01:00.1".to_owned());
        let result = AddResult::one(version, Interface { name, mac: None, mtu: None, sandbox, pci_id });
        let document: Value = serde_json::from_str(&result.with(&lease.answer).document()).unwrap();
        let mut interface = json!({ "name": "eth0", "sandbox": "/run/netns/a" });
        if version == "1.1.0" {
            interface["pciID"] = "0000:01:00.1".into();
        }
        let mut ip = ip;
        ip["interface"] = 0.into();
        let expected = json!({
            "cniVersion": version, "interfaces": [interface], "ips": [ip],
            "routes": [{ "dst": "0.0.0.0/0" }], "dns": { "nameservers": ["10.0.0.1"] },
        });
        assert_eq!(document, expected);
    }
}
