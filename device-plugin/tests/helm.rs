//! The chart by Helm's own engine, which a package of PyPI brings: what is rendered, and what is refused.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use doorbell_device_plugin::config::Config;
use serde_json::{Value, json};

const PACKAGE: &str = "helm-python-sdk==0.2.2";
const SCRIPT: &str = include_str!("helm/render.py");
const HEAD: &str = "# Rendered from charts/doorbell with its default values, in namespace kube-system.\n";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A Python with the package, made once a user and kept where the testbed is.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let cache =
            |name: &str, below: &str| std::env::var_os(name).map(|folder| Path::new(&folder).join(below));
        let cache = cache("DOORBELL_CACHE", "")
            .or_else(|| cache("XDG_CACHE_HOME", ""))
            .or_else(|| cache("HOME", ".cache"))
            .unwrap();
        let folder = cache.join("doorbell").join(PACKAGE.replace("==", "-"));
        fs::create_dir_all(&folder).unwrap();
        // Tests of several clones may come at once.
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let (python, done) = (folder.join("bin/python"), folder.join("done"));
        if !done.exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
            run(Command::new(&python).args(["-m", "pip", "--quiet", "install", PACKAGE]));
            fs::write(&done, "").unwrap();
        }
        python
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What Helm makes of each of these values: files by name, or what is wrong.
fn rendered(values: &[Value]) -> Vec<Result<Value, String>> {
    let mut child = Command::new(python())
        .args(["-c", SCRIPT])
        .arg(repository("charts/doorbell"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(json!(values).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed");
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let answer = |mut answer: Value| match answer["error"].as_str() {
        Some(error) => Err(error.to_owned()),
        None => Ok(answer["rendered"].take()),
    };
    answers.into_iter().map(answer).collect()
}

/// The documents of a rendering, in the order of their files.
fn text(rendered: &Value) -> String {
    let files = rendered.as_object().unwrap().values();
    files.map(|file| format!("---\n{}\n", file.as_str().unwrap().trim_matches('\n'))).collect()
}

fn objects(rendered: &Value) -> Vec<Value> {
    serde_saphyr::from_multiple(&text(rendered)).unwrap()
}

fn daemonset(rendered: &Value) -> Value {
    objects(rendered).into_iter().find(|object| object["kind"] == "DaemonSet").unwrap()
}

#[test]
fn the_manifest_is_what_default_values_make() {
    let made = HEAD.to_owned() + &text(rendered(&[json!({})])[0].as_ref().unwrap());
    let file = repository("manifests/doorbell.yaml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &made).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap() == made, "UPDATE=1 writes {} anew", file.display());
}

#[test]
fn a_wrong_value_fails_at_install_with_its_path() {
    let pool = |pool: Value| json!({ "pools": [pool] });
    let cases = [
        (
            pool(json!({ "name": "fast", "access": "vfoi", "select": { "vendors": ["1af4"] } })),
            "at '/pools/0/access'",
        ),
        (pool(json!({ "name": "fast", "access": "vfio" })), "at '/pools/0': missing property 'select'"),
        (json!({ "metrics": "everywhere" }), "at '/metrics'"),
        (json!({ "pool": [] }), "additional properties 'pool' not allowed"),
    ];
    let answers = rendered(&cases.clone().map(|(values, _)| values));
    for ((_, says), answer) in cases.iter().zip(answers) {
        let error = answer.unwrap_err();
        assert!(error.contains(says), "{says}: {error}");
    }
}

/// Whatever is chosen, the ConfigMap holds a config, and each mount has its volume.
#[test]
fn what_is_rendered_fits_together() {
    let vdpa = json!([{ "name": "rings", "access": "vhost-vdpa", "select": { "pfNames": ["ens1f0"] } }]);
    let links = json!([{ "name": "fast", "access": "vfio", "pfLinkDown": "unhealthy", "select": { "pfNames": ["ens1f0"] } }]);
    let choices = [
        json!({}),
        json!({ "metrics": "0.0.0.0:9117" }),
        json!({ "cni": { "install": false } }),
        json!({ "cni": { "binDir": "/var/lib/rancher/k3s/data/cni" } }),
        json!({ "cdi": false, "containerdConfig": "/var/lib/rancher/k3s/agent/etc/containerd/config.toml" }),
        json!({ "pools": vdpa }),
        json!({ "pools": links }),
        json!({ "nodeSelector": { "feature.node.kubernetes.io/network-sriov.capable": "true" } }),
    ];
    for (values, answer) in choices.iter().zip(rendered(&choices)) {
        let answer = answer.unwrap();
        let objects = objects(&answer);
        let map = objects.iter().find(|object| object["kind"] == "ConfigMap").unwrap();
        Config::parse("config.yaml", map["data"]["config.yaml"].as_str().unwrap()).unwrap();
        let spec = daemonset(&answer)["spec"]["template"]["spec"].clone();
        let names = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
        };
        let volumes = names(&spec["volumes"]);
        let containers =
            ["initContainers", "containers"].map(|kind| spec[kind].as_array().cloned().unwrap_or_default());
        let mounts: Vec<String> =
            containers.iter().flatten().flat_map(|one| names(&one["volumeMounts"])).collect();
        for name in &mounts {
            assert!(volumes.contains(name), "{values}: no volume {name}");
        }
        for name in &volumes {
            assert!(mounts.contains(name), "{values}: nobody mounts {name}");
        }
    }
}

#[test]
fn probes_come_with_the_port_that_they_ask() {
    let answers = rendered(&[json!({}), json!({ "metrics": "0.0.0.0:9117" })]);
    let plugin = |answer: &Result<Value, String>| {
        daemonset(answer.as_ref().unwrap())["spec"]["template"]["spec"]["containers"][0].clone()
    };
    assert!(plugin(&answers[0])["livenessProbe"].is_null());
    let probed = plugin(&answers[1]);
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(probed[probe]["httpGet"], json!({ "path": path, "port": 9117 }));
    }
    assert_eq!(probed["args"], json!(["run", "--metrics", "0.0.0.0:9117"]));
}
