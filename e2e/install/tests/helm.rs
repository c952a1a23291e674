//! What Helm makes of the chart, and what it refuses.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod objects;

use std::fs;

use doorbell_device_plugin::config::Config;
use e2e_install::helm::{self, Rendered};
use e2e_install::project;
use objects::{daemonset, kind, objects};
use serde_json::{Value, json};

const HEAD: &str = "# Rendered from charts/doorbell with its default values, in namespace kube-system.\n";

fn rendered(values: &[Value]) -> Vec<Rendered> {
    helm::render(values).unwrap().into_iter().map(Result::unwrap).collect()
}

#[test]
fn the_manifest_is_what_default_values_make() {
    let made = HEAD.to_owned() + &rendered(&[json!({})])[0].manifest();
    let file = project("manifests/doorbell.yaml");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&file, &made).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap() == made, "UPDATE=1 writes {} anew", file.display());
}

#[test]
fn a_wrong_value_fails_at_install_with_its_path() {
    let pool = |pool: Value| json!({ "pools": [pool] });
    let fast = || json!({ "name": "fast", "access": "vfio", "select": { "vendors": ["1af4"] } });
    let with = |field: &str, value: Value| {
        let mut fast = fast();
        fast[field] = value;
        pool(fast)
    };
    let cases = [
        (with("access", json!("vfoi")), "at '/pools/0/access'"),
        (with("name", json!("Fast")), "at '/pools/0/name'"),
        (with("prepare", json!({ "numVFs": 4 })), "at '/pools/0/prepare': additional properties 'numVFs'"),
        (with("select", json!({ "vendors": ["virtio"] })), "at '/pools/0/select/vendors/0'"),
        (with("nodeMode", json!("0777")), "at '/pools/0/nodeMode'"),
        (pool(json!({ "name": "fast", "access": "vfio" })), "at '/pools/0': missing property 'select'"),
        (json!({ "pool": [] }), "additional properties 'pool' not allowed"),
        (json!({ "image": 1 }), "at '/image'"),
        (json!({ "imagePullPolicy": "Sometimes" }), "at '/imagePullPolicy'"),
        (json!({ "resourcePrefix": "Doorbell" }), "at '/resourcePrefix'"),
        (json!({ "cdi": "maybe" }), "at '/cdi'"),
        (json!({ "vdpa": "never" }), "at '/vdpa'"),
        (json!({ "containerdConfig": "config.toml" }), "at '/containerdConfig'"),
        (json!({ "cni": { "binDir": "bin" } }), "at '/cni/binDir'"),
        (json!({ "cni": { "confDir": "net.d" } }), "at '/cni/confDir'"),
        (json!({ "events": "some" }), "at '/events'"),
        (json!({ "cni": { "instal": true } }), "at '/cni': additional properties 'instal'"),
        (json!({ "logs": { "level": "verbose" } }), "at '/logs/level'"),
        (json!({ "logs": { "format": "xml" } }), "at '/logs/format'"),
        (json!({ "metrics": "everywhere" }), "at '/metrics'"),
        (json!({ "metrics": "127.0.0.1:9117" }), "at '/metrics'"),
        (json!({ "cni": { "install": false, "chain": true } }), "cni.chain"),
        (json!({ "cni": { "chain": true }, "serviceAccount": { "create": false } }), "service account"),
        (with("select", json!({ "vendors": [1000] })), "at '/pools/0/select/vendors/0'"),
        (json!({ "podMonitor": { "enabled": "yes" } }), "at '/podMonitor/enabled'"),
        (json!({ "podMonitor": { "interval": "soon" } }), "at '/podMonitor/interval'"),
        (json!({ "networks": [{ "name": "fast" }] }), "at '/networks/0': missing property 'pool'"),
        (json!({ "networks": [{ "name": "Fast", "pool": "fast" }] }), "at '/networks/0/name'"),
        (json!({ "serviceAccount": { "name": 3 } }), "at '/serviceAccount/name'"),
        (json!({ "nodeSelector": { "gpu": true } }), "at '/nodeSelector/gpu'"),
        (json!({ "tolerations": { "operator": "Exists" } }), "at '/tolerations'"),
        (json!({ "priorityClassName": 7 }), "at '/priorityClassName'"),
        (json!({ "updateStrategy": { "type": "Sometimes" } }), "at '/updateStrategy/type'"),
        (json!({ "resources": { "limit": {} } }), "at '/resources': additional properties 'limit'"),
        (json!({ "podMonitor": { "enabled": true }, "metrics": "" }), "nothing to scrape"),
        (json!({ "networks": [{ "name": "far", "pool": "far" }] }), "networks: far is of no pool"),
        (json!({ "test": { "pool": "far" } }), "test.pool: there is no pool far"),
        (
            json!({ "pools": [{ "name": "vms", "access": "vfio", "runtime": "kata", "select": { "pfNames": ["ens1f0"] } }], "test": { "pool": "vms" } }),
            "go into VMs",
        ),
    ];
    let answers = helm::render(&cases.clone().map(|(values, _)| values)).unwrap();
    for ((values, says), answer) in cases.iter().zip(answers) {
        let error = answer.map_or_else(|error| error, |_| format!("{values} was taken"));
        assert!(error.contains(says), "{says}: {error}");
    }
}

/// Values that a user would choose.
fn choices() -> Vec<Value> {
    let vdpa = json!([{ "name": "rings", "access": "vhost-vdpa", "select": { "pfNames": ["ens1f0"] } }]);
    let links = json!([{
        "name": "fast", "access": "vfio", "pfLinkDown": "unhealthy", "select": { "pfNames": ["ens1f0"] },
    }]);
    let kata =
        json!([{ "name": "vms", "access": "vfio", "runtime": "kata", "select": { "pfNames": ["ens1f0"] } }]);
    let plain = json!([{ "name": "plain", "access": "netdev", "select": { "pfNames": ["ens1f0"] } }]);
    vec![
        json!({}),
        json!({ "metrics": "" }),
        json!({ "metrics": "0.0.0.0:9200", "podMonitor": { "enabled": true, "labels": { "release": "prometheus" } } }),
        json!({ "cni": { "install": false } }),
        json!({ "cni": { "binDir": "/var/lib/rancher/k3s/data/cni" } }),
        json!({ "cdi": false, "containerdConfig": "/var/lib/rancher/k3s/agent/etc/containerd/config.toml" }),
        json!({ "pools": vdpa }),
        json!({ "pools": links, "resourcePrefix": "example.com" }),
        json!({ "pools": kata, "vdpa": true }),
        json!({ "pools": [], "vdpa": true }),
        json!({ "pools": plain, "networks": [
            { "name": "plain", "namespace": "default", "pool": "plain",
              "config": { "ipam": { "type": "host-local", "subnet": "10.9.0.0/24" }, "mtu": 9000 } },
        ] }),
        json!({ "dashboard": { "enabled": true } }),
        json!({ "events": false }),
        json!({ "events": false, "nodeLabels": true }),
        json!({ "cni": { "chain": true } }),
        json!({ "events": false, "cni": { "removeAtUninstall": true, "confDir": "/etc/cni/conf" } }),
        json!({ "logs": { "level": "debug", "format": "json" }, "priorityClassName": "", "tolerations": [] }),
        json!({ "serviceAccount": { "create": false, "name": "ours" }, "imagePullSecrets": [{ "name": "registry" }] }),
        json!({ "serviceAccount": { "annotations": { "a": "b" } }, "podAnnotations": { "c": "d" }, "podLabels": { "e": "f" } }),
        json!({ "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } }),
        json!({ "resources": {}, "nodeSelector": { "feature.node.kubernetes.io/network-sriov.capable": "true" } }),
        json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "nics", "operator": "Exists" }] }] } } } }),
    ]
}

/// Whatever is chosen, the ConfigMap holds a config, each mount has its volume, and Kubernetes' own types know every field.
#[test]
fn what_is_rendered_fits_together() {
    for (values, answer) in choices().iter().zip(rendered(&choices())) {
        assert_eq!(answer.findings, Vec::<String>::new(), "{values}");
        let objects = objects(&answer);
        objects.iter().for_each(objects::is_known);
        let map = kind(&objects, "ConfigMap").find(|map| map["metadata"]["name"] == "doorbell").unwrap();
        let config = Config::parse("config.yaml", map["data"]["config.yaml"].as_str().unwrap()).unwrap();
        for pool in values["pools"].as_array().into_iter().flatten() {
            assert!(config.pools.iter().any(|known| pool["name"] == known.name.as_str()), "{values}");
        }
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
        let account = spec["serviceAccountName"].as_str().unwrap();
        let made = kind(&objects, "ServiceAccount").any(|one| one["metadata"]["name"] == account);
        assert_eq!(made, values["serviceAccount"]["create"] != json!(false), "{values}");
    }
}

#[test]
fn who_selects_the_pods_selects_these() {
    for answer in rendered(&[json!({ "podMonitor": { "enabled": true }, "podLabels": { "team": "net" } })]) {
        let set = daemonset(&answer);
        let labels = set["spec"]["template"]["metadata"]["labels"].as_object().unwrap().clone();
        let objects = objects(&answer);
        let monitor = kind(&objects, "PodMonitor").next().unwrap();
        for selector in [&set["spec"]["selector"], &monitor["spec"]["selector"]] {
            let selected = selector["matchLabels"].as_object().unwrap();
            assert!(!selected.is_empty() && selected.iter().all(|(key, value)| labels[key] == *value));
            let test: Value = serde_saphyr::from_str(&answer.files["tests/device.yaml"]).unwrap();
            let of_test = test["metadata"]["labels"].as_object().unwrap();
            assert!(
                selected.iter().any(|(key, value)| of_test.get(key) != Some(value)),
                "helm test's is one of them"
            );
            // It can never be changed.
            assert!(!selected.contains_key("app.kubernetes.io/version"));
        }
        assert_eq!(labels["team"], "net");
        assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["honorLabels"], true);
    }
}

#[test]
fn probes_come_with_the_port_that_they_ask() {
    let answers = rendered(&[json!({ "metrics": "" }), json!({})]);
    let plugin = |answer: &Rendered| daemonset(answer)["spec"]["template"]["spec"]["containers"][0].clone();
    assert!(plugin(&answers[0])["livenessProbe"].is_null() && plugin(&answers[0])["ports"].is_null());
    let probed = plugin(&answers[1]);
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(probed[probe]["httpGet"], json!({ "path": path, "port": "metrics" }));
    }
    assert_eq!(probed["ports"], json!([{ "name": "metrics", "containerPort": 9117 }]));
    assert_eq!(probed["args"], json!(["run", "--log-format=text", "--metrics=:9117", "--events"]));
}

/// Of the API server's each may what it asks, and who asks nothing may nothing.
#[test]
fn rights_are_those_that_are_used() {
    let values = [
        json!({ "events": false }),
        json!({}),
        json!({ "events": false, "nodeLabels": true }),
        json!({ "events": false, "cni": { "chain": true } }),
    ];
    let answers = rendered(&values);
    let rights = answers.iter().map(|answer| {
        let objects = objects(answer);
        let roles: Vec<&Value> = kind(&objects, "ClusterRole").chain(kind(&objects, "Role")).collect();
        let rules = roles.iter().flat_map(|role| role["rules"].as_array().unwrap());
        let rights = rules.flat_map(|rule| {
            let verbs = rule["verbs"].as_array().unwrap();
            verbs
                .iter()
                .map(|verb| format!("{} {}", verb.as_str().unwrap(), rule["resources"][0].as_str().unwrap()))
        });
        let bound = kind(&objects, "ClusterRoleBinding").chain(kind(&objects, "RoleBinding")).count();
        assert_eq!(bound, roles.len());
        rights.collect::<Vec<_>>().join(", ")
    });
    let rights: Vec<String> = rights.collect();
    assert_eq!(rights, ["", "create events, get pods", "get nodes, patch nodes", "get daemonsets"]);
    // The token is where it is used: never in the privileged container, nor in the one that runs once.
    for answer in &answers {
        let spec = daemonset(answer)["spec"]["template"]["spec"].clone();
        assert_eq!(spec["automountServiceAccountToken"], false);
        let mut containers = spec["containers"].as_array().unwrap().clone();
        containers.extend(spec["initContainers"].as_array().unwrap().clone());
        for container in containers {
            let mounts = container["volumeMounts"].as_array().unwrap();
            let has_token = mounts.iter().any(|mount| mount["name"] == "api");
            let args = container["args"].to_string();
            let asks = ["--events", "--node-labels", "--daemon-set"].iter().any(|flag| args.contains(flag));
            assert_eq!(has_token, asks, "{}", container["name"]);
        }
    }
}

#[test]
fn a_network_is_a_pools_and_calls_the_plugin_as_it_says() {
    let values = json!({
        "resourcePrefix": "example.com",
        "networks": [
            { "name": "fast", "pool": "fast" },
            { "name": "vlan", "namespace": "tenants", "pool": "fast", "config": { "vlan": 7, "cniVersion": "1.1.0", "type": "other" } },
        ],
    });
    let answer = &rendered(&[values])[0];
    let objects = objects(answer);
    let networks: Vec<&Value> = kind(&objects, "NetworkAttachmentDefinition").collect();
    let config = |of: usize| -> Value {
        serde_json::from_str(networks[of]["spec"]["config"].as_str().unwrap()).unwrap()
    };
    for (of, namespace) in ["kube-system", "tenants"].iter().enumerate() {
        assert_eq!(networks[of]["metadata"]["namespace"], *namespace);
        let resource = &networks[of]["metadata"]["annotations"]["k8s.v1.cni.cncf.io/resourceName"];
        assert_eq!(resource, "example.com/fast");
    }
    assert_eq!(config(0), json!({ "cniVersion": "1.0.0", "name": "fast", "type": "doorbell" }));
    assert_eq!(config(1), json!({ "cniVersion": "1.1.0", "name": "vlan", "type": "doorbell", "vlan": 7 }));
}

#[test]
fn helms_test_takes_a_device_whose_nodes_it_can_open() {
    let kata =
        json!({ "name": "vms", "access": "vfio", "runtime": "kata", "select": { "pfNames": ["ens1f0"] } });
    let plain = json!({ "name": "plain", "access": "netdev", "select": { "pfNames": ["ens1f0"] } });
    let rings = json!({ "name": "rings", "access": "vhost-vdpa", "select": { "pfNames": ["ens1f0"] } });
    let wired =
        json!({ "name": "fast", "access": "vfio", "requireCni": true, "select": { "pfNames": ["ens1f0"] } });
    let named = json!({
        "name": "fast", "resource": "intel.com/fast_nics", "access": "vfio", "select": { "pfNames": ["ens1f0"] },
    });
    let values = [
        json!({}),
        json!({ "pools": [kata, plain, rings] }),
        json!({ "pools": [kata, plain] }),
        json!({ "pools": [plain, rings], "test": { "pool": "plain" } }),
        json!({ "pools": [named] }),
        json!({ "pools": [wired] }),
        json!({ "pools": [wired], "cni": { "chain": true } }),
    ];
    let asked = rendered(&values).into_iter().map(|answer| {
        let text = answer.files.get("tests/device.yaml").map_or("", String::as_str);
        let pod: Value = serde_saphyr::from_str(text).unwrap();
        if pod.is_null() {
            return None;
        }
        objects::is_known(&pod);
        let limits = pod["spec"]["containers"][0]["resources"]["limits"].as_object().unwrap().clone();
        limits.into_iter().map(|(name, _)| name).find(|name| name.contains('/'))
    });
    let asked: Vec<Option<String>> = asked.collect();
    let [fast, rings, plain, named] =
        ["doorbell.dev/fast", "doorbell.dev/rings", "doorbell.dev/plain", "intel.com/fast_nics"].map(Some);
    let expected = [fast, rings, None, plain, named, None, fast];
    assert_eq!(asked, expected.map(|name| name.map(str::to_owned)));
}

#[test]
fn the_notes_say_what_to_run_next() {
    let answer = &rendered(&[json!({ "cni": { "binDir": "/opt/bin" } })])[0];
    let notes = &answer.files["NOTES.txt"];
    for said in [
        "doorbell.dev/fast  (vfio)",
        "kubectl --namespace kube-system rollout status daemonset/doorbell",
        ".status.allocatable.doorbell\\.dev/fast",
        "helm test doorbell --namespace kube-system",
        "/opt/bin",
    ] {
        assert!(notes.contains(said), "{said}:\n{notes}");
    }
}
