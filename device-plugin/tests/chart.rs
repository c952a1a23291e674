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
    let text = |description: &str, pattern: &str| json!({ "description": description, "type": "string", "pattern": pattern });
    let cni = json!({
        "install": { "description": "Whether the CNI binary is installed on the nodes.", "type": "boolean" },
        "binDir": text("Where their container runtime looks for CNI plugins.", "^/."),
    });
    let labels = json!({ "type": "string" });
    json!({
        "$schema": DRAFT,
        "title": "Values of the chart doorbell",
        "type": "object",
        "additionalProperties": false,
        "required": ["image", "pools"],
        "properties": {
            "global": { "description": "Of a chart that has this one as a part.", "type": "object" },
            "image": text("Image of the plugin.", "."),
            "cdi": config["properties"]["cdi"].take(),
            "containerdConfig": text("containerd's config file, absolute; empty where it is the usual one.", "^(/.*)?$"),
            "metrics": text("Address and port where the plugin answers by HTTP; empty: nowhere.", "^(.+:[0-9]{1,5})?$"),
            "cni": { "type": "object", "additionalProperties": false, "properties": cni },
            "pools": config["properties"]["pools"].take(),
            "nodeSelector": { "description": "Nodes that run the plugin.", "type": "object", "additionalProperties": labels },
        },
        "$defs": config["$defs"].take(),
    })
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
    let pages = ["docs/config.md", "docs/kata.md", "docs/pods.md"];
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
