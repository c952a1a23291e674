//! manifests/examples: each is what Kubernetes knows, and asks for what the values in its comment make.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod objects;

use std::collections::BTreeSet;
use std::fs;

use doorbell_device_plugin::config::Config;
use e2e_install::{helm, project};
use serde_json::Value;

struct Example {
    name: String,
    /// Values of the chart that it needs.
    values: Value,
    objects: Vec<Value>,
}

fn examples() -> Vec<Example> {
    let files = fs::read_dir(project("manifests/examples")).unwrap();
    let example = |file: fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        // What is indented in the comment at the beginning.
        let comment = text.lines().map_while(|line| line.strip_prefix('#'));
        let values: Vec<&str> = comment.filter_map(|line| line.strip_prefix("   ")).collect();
        let values =
            serde_saphyr::from_str(&values.join("\n")).unwrap_or_else(|error| panic!("{name}: {error}"));
        let objects = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        Example { name, values, objects }
    };
    let examples: Vec<Example> = files.map(|file| example(file.unwrap())).collect();
    assert!(examples.len() >= 6);
    examples
}

/// The config that the chart makes of the values of each.
fn configs(examples: &[Example]) -> Vec<Config> {
    let values: Vec<Value> = examples.iter().map(|example| example.values.clone()).collect();
    let answers = helm::render(&values).unwrap().into_iter().zip(examples);
    let config = |(answer, example): (Result<helm::Rendered, String>, &Example)| {
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", example.name));
        let map: Value = serde_saphyr::from_str(&answer.files["configmap.yaml"]).unwrap();
        Config::parse(&example.name, map["data"]["config.yaml"].as_str().unwrap()).unwrap()
    };
    answers.map(config).collect()
}

fn names<'a>(objects: &'a [Value], kind: &'a str) -> BTreeSet<&'a str> {
    objects::kind(objects, kind).map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
}

#[test]
fn kubernetes_knows_every_field() {
    for example in examples() {
        example.objects.iter().for_each(objects::is_known);
        assert_eq!(objects::kind(&example.objects, "Pod").count(), 1, "{}", example.name);
    }
}

#[test]
fn each_asks_for_devices_of_the_pools_in_its_comment() {
    let examples = examples();
    for (example, config) in examples.iter().zip(configs(&examples)) {
        let resources: BTreeSet<String> = config.pools.iter().map(|pool| config.resource(pool)).collect();
        let pod = objects::kind(&example.objects, "Pod").next().unwrap();
        let limits = pod["spec"]["containers"][0]["resources"]["limits"].as_object().unwrap();
        let asked: BTreeSet<String> = limits.keys().filter(|name| name.contains('/')).cloned().collect();
        assert_eq!(asked, resources, "{}", example.name);
        for network in objects::kind(&example.objects, "NetworkAttachmentDefinition") {
            let named =
                network["metadata"]["annotations"]["k8s.v1.cni.cncf.io/resourceName"].as_str().unwrap();
            assert!(resources.contains(named), "{}: {named}", example.name);
            let config: Value = serde_json::from_str(network["spec"]["config"].as_str().unwrap()).unwrap();
            assert_eq!(
                (&config["type"], &config["name"]),
                (&"doorbell".into(), &network["metadata"]["name"])
            );
        }
        let runtimes: BTreeSet<&str> = pod["spec"]["runtimeClassName"].as_str().into_iter().collect();
        assert_eq!(runtimes, names(&example.objects, "RuntimeClass"), "{}", example.name);
        assert!(
            config.pools.iter().all(|pool| pool.runtime.is_kata() != runtimes.is_empty()),
            "{}",
            example.name
        );
    }
}

#[test]
fn a_pod_on_a_network_names_one_of_its_file() {
    let mut networked = 0;
    for example in examples() {
        let pod = objects::kind(&example.objects, "Pod").next().unwrap();
        let networks = names(&example.objects, "NetworkAttachmentDefinition");
        let named = pod["metadata"]["annotations"]["k8s.v1.cni.cncf.io/networks"].as_str();
        let named: BTreeSet<&str> = named.and_then(|name| name.rsplit('/').next()).into_iter().collect();
        assert_eq!(named, networks, "{}", example.name);
        networked += networks.len();
    }
    assert_eq!(networked, 1);
}

/// Huge pages are of a volume of theirs, and what is mapped of them for DMA is locked.
#[test]
fn who_has_huge_pages_may_lock_them() {
    let huge = |pod: &Value| pod.to_string().contains("\"hugepages-");
    let pods: Vec<Value> = examples()
        .iter()
        .flat_map(|example| objects::kind(&example.objects, "Pod").cloned().collect::<Vec<_>>())
        .filter(huge)
        .collect();
    assert_eq!(pods.len(), 1);
    let spec = &pods[0]["spec"];
    assert_eq!(spec["containers"][0]["securityContext"]["capabilities"]["add"][0], "IPC_LOCK");
    assert_eq!(spec["volumes"][0]["emptyDir"]["medium"], "HugePages");
}
