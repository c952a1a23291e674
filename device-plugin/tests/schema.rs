//! The published schemas hold for what is written, and for nothing with a field more.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use doorbell_common::formats::descriptor::{
    API_VERSION, Attachment, IpPrefix, Mapped, Plug, PlugBy, Trial, Vdpa,
};
use doorbell_common::host::Host;
use doorbell_common::subdevice::Access;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::{explain, publish};
use jsonschema::Validator;
use serde_json::{Value, json};

use node::broken::{self, Broken};
use node::{GOOD, Node, PAGE, modes, sub_functions};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: fast, access: vfio, select: {pfNames: [ens1f0]}, iommufd: auto}
";
const NAMES: [&str; 3] = ["explain", "device", "attachment"];

fn schema(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    serde_json::from_str(&fs::read_to_string(folder.join(format!("{name}.schema.json"))).unwrap()).unwrap()
}

fn validator(name: &str) -> Validator {
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema(name)).unwrap()
}

fn assert_valid(name: &str, document: &Value) {
    let validator = validator(name);
    let errors: Vec<String> = validator.iter_errors(document).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
}

/// The first VF explained, as `--output json` prints it.
fn explanation(node: &Node, config: Option<&Config>) -> Value {
    let explained = explain::explain(&node.host(), config, &"0000:01:00.1".parse().unwrap(), PAGE);
    serde_json::to_value(explained.unwrap()).unwrap()
}

fn explanations() -> Vec<Value> {
    let config = Config::parse("pools.yaml", CONFIG).unwrap();
    let whole = [Node::with(&[GOOD]), Node::with_cdevs(&[GOOD])];
    let nodes = whole.into_iter().chain(broken::nodes().into_iter().map(|Broken { node, .. }| node));
    let of_vfs = nodes.flat_map(|node| [explanation(&node, Some(&config)), explanation(&node, None)]);

    let (node, config) = (modes::node(), Config::parse("pools.yaml", modes::CONFIG).unwrap());
    let explain = |id: &str| explain::explain(&node.host(), Some(&config), &id.parse().unwrap(), PAGE);
    let of_each_mode = modes::IDS.map(|id| serde_json::to_value(explain(id).unwrap()).unwrap());
    of_vfs.chain(of_each_mode).collect()
}

/// `device.json` of a device as the plugin wrote it on a host.
fn device(host: &Host, id: &str) -> Value {
    serde_json::from_slice(&host.read(format!("/run/doorbell/devices/{id}/device.json")).unwrap()).unwrap()
}

/// That of the first VF, as the plugin writes it.
fn described(node: &Node) -> Value {
    publish::all(&node.host(), &node.inventory(CONFIG)).unwrap();
    device(&node.host(), "0000:01:00.1")
}

/// Those of sub-devices of each access mode, and of two on sub-functions.
fn of_each_mode() -> Vec<Value> {
    let (node, root) = (modes::node(), sub_functions::root());
    publish::all(&node.host(), &node.inventory(modes::CONFIG)).unwrap();
    publish::all(&root.host, &sub_functions::inventory(&root, sub_functions::CONFIG)).unwrap();
    let of_node = modes::IDS.map(|id| device(&node.host(), id));
    of_node.into_iter().chain(sub_functions::IDS.map(|id| device(&root.host, id))).collect()
}

/// On a node with groups alone, and on one with each device's own node, which has a NUMA node too.
fn devices() -> [Value; 2] {
    let with_cdevs = Node::with_cdevs(&[GOOD]);
    with_cdevs.write("sys/bus/pci/devices/0000:01:00.1/numa_node", b"1\n");
    [described(&Node::with(&[GOOD])), described(&with_cdevs)]
}

/// For a VM: a VF, and an mdev.
fn in_vms() -> [Value; 2] {
    let node = modes::node();
    let mdev = "access: mdev, runtime: kata, kata: {runtime: go}";
    let config =
        modes::CONFIG.replace("access: vfio", "access: vfio, runtime: kata").replace("access: mdev", mdev);
    publish::all(&node.host(), &node.inventory(&config)).unwrap();
    [modes::IDS[0], modes::IDS[5]].map(|id| device(&node.host(), id))
}

/// The least and the most that an attachment holds, and one of each kind of trial.
fn attachments() -> Vec<Value> {
    let least = Attachment {
        api_version: API_VERSION.to_owned(),
        interface: "eth0".to_owned(),
        mac: None,
        plug: None,
        ips: Vec::new(),
        trial: None,
        memlock_limit: None,
    };
    let ip = |address: &str, prefix| IpPrefix { address: address.parse().unwrap(), prefix };
    let most = Attachment {
        mac: Some("02:00:00:00:00:01".to_owned()),
        plug: Some(Plug { by: PlugBy::Dan, reason: "it is the sandbox's network".to_owned() }),
        ips: vec![ip("192.0.2.7", 24), ip("2001:db8::7", 64)],
        memlock_limit: Some(8 << 20),
        ..least.clone()
    };
    let vdpa = |features: u64, config: &str| Vdpa {
        virtio_type: 1,
        queues: 3,
        doorbells: 2,
        features: format!("{features:#x}"),
        config: config.to_owned(),
        micros: 900,
    };
    let trials = [
        Trial::Mapped(Mapped { region: 4, offset: 0x3000, length: 0x1000, micros: 8000 }),
        Trial::Vdpa(vdpa(u64::MAX, "020000000001")),
        Trial::Vdpa(vdpa(0, "")),
        Trial::Attached { attached: true },
    ];
    let tried = trials.map(|trial| Attachment { trial: Some(trial), ..most.clone() });
    let all = [least, most].into_iter().chain(tried);
    all.map(|attachment| serde_json::to_value(attachment).unwrap()).collect()
}

fn documents() -> Vec<(&'static str, Value)> {
    let explanations = explanations().into_iter().map(|document| ("explain", document));
    let devices =
        devices().into_iter().chain(of_each_mode()).chain(in_vms()).map(|document| ("device", document));
    let attachments = attachments().into_iter().map(|document| ("attachment", document));
    explanations.chain(devices).chain(attachments).collect()
}

/// Pointers to every object in a document, itself included.
fn objects(document: &Value, pointer: &str) -> Vec<String> {
    let inner = |(key, value): (String, &Value)| objects(value, &format!("{pointer}/{key}"));
    match document {
        Value::Object(fields) => {
            let inner = fields.iter().flat_map(|(key, value)| inner((key.clone(), value)));
            std::iter::once(pointer.to_owned()).chain(inner).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(index, value)| inner((index.to_string(), value))).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn each_schema_is_one() {
    for name in NAMES {
        jsonschema::meta::validate(&schema(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn what_explain_prints_is_valid() {
    for document in explanations() {
        assert_valid("explain", &document);
    }
}

#[test]
fn descriptors_with_either_pair_of_nodes_are_valid() {
    let devices = devices();
    let [by_group, by_device] = devices.each_ref().map(|device| &device["nodes"]);
    assert_eq!(*by_group, json!({ "group": "/dev/vfio/7", "container": "/dev/vfio/vfio" }));
    assert_eq!(*by_device, json!({ "device": "/dev/vfio/devices/vfio0", "iommu": "/dev/iommu" }));
    for document in devices {
        assert_valid("device", &document);
    }
}

#[test]
fn descriptors_of_each_access_mode_are_valid() {
    let documents = of_each_mode();
    let modes: BTreeSet<&str> = documents.iter().map(|device| device["access"].as_str().unwrap()).collect();
    assert_eq!(modes, Access::ALL.map(|mode| mode.to_string()).iter().map(String::as_str).collect());
    for document in &documents {
        assert_valid("device", document);
    }
}

/// What a guest is told is either that or what a container on the host is told.
#[test]
fn a_descriptor_for_a_guest_is_valid_and_has_nothing_by_which_the_host_finds_the_device() {
    let on_host = of_each_mode();
    for document in in_vms() {
        assert_valid("device", &document);
        let same = on_host.iter().find(|other| other["id"] == document["id"]).unwrap();
        for field in ["nodes", "iommuGroup", "memory", "guest"] {
            let mut mixed = document.clone();
            mixed[field] = same[field].clone();
            assert!(!validator("device").is_valid(&mixed), "{mixed:#}");
        }
    }
}

#[test]
fn attachments_are_valid() {
    for document in attachments() {
        assert_valid("attachment", &document);
    }
}

#[test]
fn a_foreign_field_is_refused_wherever_it_stands() {
    for (name, document) in documents() {
        let validator = validator(name);
        for pointer in objects(&document, "") {
            let mut document = document.clone();
            document.pointer_mut(&pointer).unwrap()["foreign"] = json!(1);
            assert!(!validator.is_valid(&document), "{name} takes a field in `{pointer}`");
        }
    }
}

#[test]
fn a_descriptor_with_nodes_of_both_pairs_is_refused() {
    let [mut by_group, by_device] = devices();
    by_group["nodes"]["device"] = by_device["nodes"]["device"].clone();
    assert!(!validator("device").is_valid(&by_group));
}

/// What one mode has, another has not: nodes, what it stands on, what is said of registers, doorbell and memory.
#[test]
fn a_descriptor_that_mixes_two_modes_is_refused() {
    let documents = of_each_mode();
    let validator = validator("device");
    for document in &documents {
        for other in documents.iter().filter(|other| other["access"] != document["access"]) {
            let mut mixed = document.clone();
            mixed["access"] = other["access"].clone();
            assert!(!validator.is_valid(&mixed), "{mixed:#}");
        }
    }
}

#[test]
fn a_doorbell_has_its_place_where_it_is_exclusive_and_nowhere_else() {
    let validator = validator("device");
    for mut document in of_each_mode() {
        let exclusive = document["doorbell"]["verdict"] == "exclusive";
        document["doorbell"]["verdict"] = json!(if exclusive { "none" } else { "exclusive" });
        assert!(!validator.is_valid(&document), "{document:#}");
    }
}

#[test]
fn a_trial_of_two_kinds_is_refused() {
    let mut tried = attachments().into_iter().filter(|attachment| attachment["trial"]["region"] == 4);
    let mut mapped = tried.next().unwrap();
    mapped["trial"]["attached"] = json!(true);
    assert!(!validator("attachment").is_valid(&mapped));
}

#[test]
fn another_version_is_refused() {
    for (name, mut document) in documents() {
        document["apiVersion"] = json!("doorbell.dev/v2");
        assert!(!validator(name).is_valid(&document), "{name}");
    }
}

/// Every field of a schema is in what is written, or it tells of something that is not there.
#[test]
fn no_schema_tells_of_a_field_that_nothing_writes() {
    for name in NAMES {
        let written = documents();
        let written =
            |key: &String| written.iter().any(|(of, document)| *of == name && !document[key].is_null());
        let schema = schema(name);
        let unwritten: Vec<&String> =
            schema["properties"].as_object().unwrap().keys().filter(|key| !written(key)).collect();
        assert!(unwritten.is_empty(), "{name}: {unwritten:?}");
    }
}

#[test]
fn a_trapped_doorbell_is_described_as_such_and_a_shared_one_not_as_direct() {
    let node = Node::with(&[node::Vf { notify_length: 0x800, msix_table: Some(0x3800), ..GOOD }]);
    let config = CONFIG.replace("access: vfio", "access: vfio, runtime: kata");
    publish::all(&node.host(), &node.inventory(&config)).unwrap();
    let mut trapped = device(&node.host(), "0000:01:00.1");
    assert_valid("device", &trapped);
    trapped["doorbell"]["effective"] = json!("direct");
    assert!(!validator("device").is_valid(&trapped));
    // Its explanation has the check that was overruled.
    let config = Config::parse("pools.yaml", &config).unwrap();
    let explained = explanation(&node, Some(&config));
    assert_valid("explain", &explained);
    assert_eq!(explained["advertised"], true, "{explained:#}");
}
