//! The chart's schema of its values: made of the config's types, and naming what is wrong.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use doorbell_device_plugin::config;
use jsonschema::Validator;
use serde_json::{Value, json};

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

fn chart(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts/doorbell").join(file)
}

/// What `values.yaml` may say: of the config what is the cluster's, and what is of the chart alone.
fn schema() -> Value {
    let mut config = config::schema();
    // Of fields that the chart fills in itself.
    for unused in ["ApiVersion", "Registration"] {
        config["$defs"].as_object_mut().unwrap().remove(unused).unwrap();
    }
    let mut config = as_helm_reads(config);
    let mut of_config = |name: &str| config["properties"][name].take();
    let mut properties = json!({
        "global": { "description": "Of a chart that has this one as a part.", "type": "object" },
        "enabled": switch("Of a chart that has this one as a part, and says by it whether it does."),
        "resourcePrefix": of_config("resourcePrefix"),
        "cdi": of_config("cdi"),
        "pools": of_config("pools"),
        "logs": section("The plugin's log.", &json!({
            "level": of_config("logLevel"),
            "format": one_of("How a line is written.", &["text", "json"]),
        })),
    });
    properties.as_object_mut().unwrap().extend(of_the_chart().as_object().unwrap().clone());
    json!({
        "$schema": DRAFT,
        "title": "Values of the chart doorbell",
        "type": "object",
        "additionalProperties": false,
        "required": ["image", "pools"],
        "properties": properties,
        "$defs": config["$defs"].take(),
    })
}

/// Helm reads numbers as YAML 1.1 does, where `0104` is 68 and `1e03` is 1000: an id has to be a text there.
fn as_helm_reads(mut schema: Value) -> Value {
    if schema.get("pattern").is_some_and(|pattern| pattern == "^[0-9A-Fa-f]{4}$") {
        schema["type"] = json!("string");
    }
    match schema {
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, as_helm_reads(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(as_helm_reads).collect(),
        other => other,
    }
}

/// What Kubernetes' own types check is an object here, and no more.
fn of_the_chart() -> Value {
    let name = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
    let network = json!({
        "description": "A network of Multus'.",
        "type": "object",
        "additionalProperties": false,
        "required": ["name", "pool"],
        "properties": {
            "name": text("Its name.", name),
            "namespace": text("Its namespace; the release's unless given.", name),
            "pool": text("The pool whose devices it wires.", name),
            "config": { "description": "The CNI plugin's configuration, beside its name and type.", "type": "object" },
        },
    });
    json!({
        "image": text("Image of the plugin.", "."),
        "imagePullPolicy": one_of("When it is pulled.", &["Always", "IfNotPresent", "Never"]),
        "imagePullSecrets": list("Secrets by which it is pulled.", &json!({ "type": "object" })),
        "networks": list("Networks of Multus', each of a pool.", &network),
        "containerdConfig": text("containerd's config file, absolute; empty where it is the usual one.", "^(/.*)?$"),
        "metrics": text("Port where the plugin answers by HTTP, of all addresses; empty: nowhere.", "^((0\\.0\\.0\\.0|\\[::\\])?:[0-9]{1,5})?$"),
        "vdpa": { "description": "Whether the plugin may make and remove vDPA devices.", "enum": [true, "auto", "true"] },
        "cni": section("The CNI binary.", &json!({
            "install": switch("Whether it is installed on the nodes."),
            "binDir": text("Where their container runtime looks for CNI plugins.", "^/."),
            "confDir": text("Where it looks for network configurations.", "^/."),
            "chain": switch("Whether the plugin is kept at the end of the active conflist."),
            "removeAtUninstall": switch("Whether the binary goes with the release."),
        })),
        "events": switch("Whether node and pod are told when a device in use goes unhealthy."),
        "nodeLabels": switch("Whether nodes have labels with what their pools have."),
        "podMonitor": section("Of the Prometheus operator.", &json!({
            "enabled": switch("Whether there is one."),
            "interval": text("From one scrape to the next.", "^[0-9]+(ms|s|m|h)$"),
            "labels": map("By which Prometheus finds it."),
        })),
        "dashboard": section("Of Grafana.", &json!({
            "enabled": switch("Whether there is a ConfigMap with it."),
            "labels": map("By which Grafana's sidecar finds it."),
        })),
        "test": section("Of `helm test`.", &json!({
            "pool": text("The pool that it takes a device of; empty: the first whose pods get nodes.", ""),
        })),
        "serviceAccount": section("The pods' service account.", &json!({
            "create": switch("Whether it is made."),
            "name": text("Its name; empty: doorbell, or that of the namespace where none is made.", ""),
            "annotations": map("Its annotations."),
        })),
        "priorityClassName": text("The pods' priority class; empty: none.", ""),
        "nodeSelector": map("Nodes that run the plugin."),
        "affinity": object("The pods' affinity."),
        "tolerations": list("The pods' tolerations.", &json!({ "type": "object" })),
        "podAnnotations": map("Annotations of the pods."),
        "podLabels": map("More labels of the pods."),
        "resources": section("Of each container.", &json!({
            "requests": object("What it is sure to have."),
            "limits": object("What it can't go beyond."),
        })),
        "updateStrategy": section("How pods are replaced.", &json!({
            "type": one_of("One after the other, or as they are deleted.", &["RollingUpdate", "OnDelete"]),
            "rollingUpdate": { "description": "How many at once.", "type": ["object", "null"] },
        })),
    })
}

fn text(description: &str, pattern: &str) -> Value {
    json!({ "description": description, "type": "string", "pattern": pattern })
}

fn switch(description: &str) -> Value {
    json!({ "description": description, "type": "boolean" })
}

fn one_of(description: &str, values: &[&str]) -> Value {
    json!({ "description": description, "enum": values })
}

fn object(description: &str) -> Value {
    json!({ "description": description, "type": "object" })
}

fn map(description: &str) -> Value {
    json!({ "description": description, "type": "object", "additionalProperties": { "type": "string" } })
}

fn list(description: &str, items: &Value) -> Value {
    json!({ "description": description, "type": "array", "items": items })
}

fn section(description: &str, properties: &Value) -> Value {
    json!({ "description": description, "type": "object", "additionalProperties": false, "properties": properties })
}

fn validator() -> Validator {
    jsonschema::draft7::new(&schema()).unwrap()
}

fn defaults() -> Value {
    serde_saphyr::from_str(&fs::read_to_string(chart("values.yaml")).unwrap()).unwrap()
}

#[test]
fn the_schema_of_the_chart_is_that_of_the_types() {
    let (file, made) = (chart("values.schema.json"), serde_json::to_string_pretty(&schema()).unwrap() + "\n");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &made).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap() == made, "UPDATE=1 writes {} anew", file.display());
}

#[test]
fn the_schema_is_one_and_takes_the_defaults() {
    jsonschema::draft7::meta::validate(&schema()).unwrap();
    let validator = validator();
    let errors: Vec<String> = validator.iter_errors(&defaults()).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

/// Every pool that the parser takes in its own tests' and the pages' examples passes here too.
#[test]
fn what_the_parser_takes_the_schema_takes() {
    let pages = ["docs/config.md", "docs/kata.md", "docs/migration.md", "docs/pods.md"];
    let validator = validator();
    let mut pools = 0;
    for page in pages {
        let text =
            fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(page)).unwrap();
        for block in text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            if !block.starts_with("apiVersion: doorbell.dev") {
                continue;
            }
            let example: Value = serde_saphyr::from_str(block).unwrap();
            let mut values = defaults();
            values["pools"] = example["pools"].clone();
            let errors: Vec<String> = validator
                .iter_errors(&values)
                .map(|error| format!("{} {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{page}: {errors:#?}");
            pools += values["pools"].as_array().unwrap().len();
        }
    }
    assert!(pools > 5, "{pools} pools");
}

#[test]
fn each_wrong_value_is_named() {
    let validator = validator();
    let good = || json!({ "name": "fast", "access": "vfio", "select": { "vendors": ["1af4"] } });
    let with = |field: &str, value: Value| {
        let (mut values, mut pool) = (defaults(), good());
        pool[field] = value;
        values["pools"] = json!([pool]);
        values
    };
    let beside = |field: &str, value: Value| {
        let mut values = defaults();
        values[field] = value;
        values
    };
    for (values, path) in [
        (with("access", json!("vfoi")), "/pools/0/access"),
        (with("name", json!("Fast")), "/pools/0/name"),
        (with("name", json!(10)), "/pools/0/name"),
        (with("nodeMode", json!(438)), "/pools/0/nodeMode"),
        (with("colour", json!("red")), "/pools/0"),
        (with("runtime", json!("gvisor")), "/pools/0/runtime"),
        (with("kata", json!({ "danConf": "dans" })), "/pools/0/kata/danConf"),
        (with("select", json!({ "vendors": ["virtio"] })), "/pools/0/select/vendors/0"),
        (with("select", json!({ "pciAddresses": ["1:0.1"] })), "/pools/0/select/pciAddresses/0"),
        (with("select", json!({ "isolation": ["none"] })), "/pools/0/select/isolation/0"),
        (with("prepare", json!({ "numVfs": -1 })), "/pools/0/prepare/numVfs"),
        (with("prepare", json!({ "numVFs": 1 })), "/pools/0/prepare"),
        (with("iommufd", json!("on")), "/pools/0/iommufd"),
        (with("nodeMode", json!("0777")), "/pools/0/nodeMode"),
        (with("requireCni", json!("yes")), "/pools/0/requireCni"),
        (beside("pools", json!([{ "name": "fast", "access": "vfio" }])), "/pools/0"),
        (beside("cdi", json!("maybe")), "/cdi"),
        (beside("metrics", json!("everywhere")), "/metrics"),
        (beside("containerdConfig", json!("config.toml")), "/containerdConfig"),
        (beside("cni", json!({ "binDir": "bin" })), "/cni/binDir"),
        (beside("nodeSelector", json!({ "gpu": true })), "/nodeSelector/gpu"),
        (beside("pool", json!([])), ""),
    ] {
        let paths: Vec<String> =
            validator.iter_errors(&values).map(|error| error.instance_path().to_string()).collect();
        assert!(paths.iter().any(|named| named == path), "{path}: {paths:?}");
    }
}
