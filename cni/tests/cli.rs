//! The program from outside: the environment, stdin, stdout and the exit code are the protocol.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const CONF: &str = r#"{"cniVersion":"1.0.0","name":"net","type":"doorbell"}"#;
const ENVIRONMENT: [(&str, &str); 6] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/none"),
    ("CNI_IFNAME", "net1"),
    ("CNI_PATH", "/opt/cni/bin"),
    ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a"),
];

/// Runs it with some variables changed (`""` takes one away): exit code and stdout as JSON.
fn call(changed: &[(&str, &str)], stdin: &str) -> (Option<i32>, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorbell"));
    command.env_clear().envs(ENVIRONMENT).stdin(Stdio::piped()).stdout(Stdio::piped());
    for (name, value) in changed {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let document =
        if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() };
    (output.status.code(), document)
}

/// Its host may have another libc, or none.
#[test]
fn it_is_linked_statically() {
    const PT_INTERP: u32 = 3;
    let program = std::fs::read(env!("CARGO_BIN_EXE_doorbell")).unwrap();
    // ELF64: offset, size and number of the program headers, whose first word is their type.
    let number = |at: usize, size: usize| {
        program[at..at + size].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let headers = (0..number(56, 2)).map(|index| number(32, 8) + index * number(54, 2));
    let kinds: Vec<usize> = headers.map(|header| number(header, 4)).collect();
    assert!(kinds.contains(&1) && !kinds.contains(&(PT_INTERP as usize)), "{kinds:?}");
}

#[test]
fn version_lists_what_is_spoken() {
    let (code, document) = call(&[("CNI_COMMAND", "VERSION")], CONF);
    assert_eq!(code, Some(0));
    let spoken = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    assert_eq!(document, json!({ "cniVersion": "1.1.0", "supportedVersions": spoken }));
}

#[test]
fn each_missing_variable_is_4() {
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
        let (code, document) = call(&[(name, "")], CONF);
        assert_eq!((code, &document["code"]), (Some(1), &json!(4)), "{name}");
        assert!(document["msg"].as_str().unwrap().starts_with(name), "{document}");
        assert_eq!(document["cniVersion"], "1.0.0");
    }
}

#[test]
fn bad_json_is_6() {
    for stdin in ["", "{", "[]", "null", "\u{fffd}", r#"{"name":"net"}"#, r#"{"cniVersion":1,"name":"net"}"#]
    {
        let (code, document) = call(&[], stdin);
        assert_eq!((code, &document["code"]), (Some(1), &json!(6)), "{stdin}");
    }
}

#[test]
fn a_bad_configuration_is_7() {
    for conf in [
        r#"{"cniVersion":"1.0.0","name":""}"#,
        r#"{"cniVersion":"1.0.0","name":"net","deviceID":"../x"}"#,
        r#"{"cniVersion":"1.0.0","name":"net","deviceID":"0000:01:00.1","pciBusID":"0000:01:00.2"}"#,
    ] {
        let (code, document) = call(&[], conf);
        assert_eq!((code, &document["code"]), (Some(1), &json!(7)), "{conf}");
    }
}

#[test]
fn a_version_that_is_not_spoken_is_1() {
    let (_, document) = call(&[], r#"{"cniVersion":"0.2.0","name":"net"}"#);
    assert_eq!(document["code"], 1);
}

#[test]
fn a_device_that_nobody_advertises_is_100() {
    let (_, document) = call(&[], r#"{"cniVersion":"0.4.0","name":"net","deviceID":"ffff:ff:1f.7"}"#);
    assert_eq!((&document["code"], &document["cniVersion"]), (&json!(100), &json!("0.4.0")));
}

#[test]
fn a_del_that_holds_nothing_succeeds_without_a_word() {
    let (code, document) = call(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", ""), ("CNI_ARGS", "")], CONF);
    assert_eq!((code, document), (Some(0), Value::Null));
}

#[test]
fn a_verb_is_refused_in_versions_that_have_none() {
    for (verb, without, with) in
        [("CHECK", "0.3.1", "0.4.0"), ("GC", "1.0.0", "1.1.0"), ("STATUS", "1.0.0", "1.1.0")]
    {
        let conf = |version: &str| format!(r#"{{"cniVersion":"{version}","name":"net"}}"#);
        let (code, document) = call(&[("CNI_COMMAND", verb)], &conf(without));
        let told = json!(format!("cniVersion {without} has no {verb}"));
        assert_eq!((code, &document["code"], &document["msg"]), (Some(1), &json!(1), &told));
        let (_, document) = call(&[("CNI_COMMAND", verb)], &conf(with));
        assert_ne!(document["code"], 1, "{document}");
    }
    let (_, document) = call(&[("CNI_COMMAND", "PING")], CONF);
    assert_eq!(document["code"], 4);
}
