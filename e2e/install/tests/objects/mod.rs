//! Objects, held against Kubernetes' own types.

// Each test program uses its part.
#![allow(dead_code)]

use e2e_install::helm::Rendered;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is installed.
pub(crate) fn objects(rendered: &Rendered) -> Vec<Value> {
    serde_saphyr::from_multiple(&rendered.manifest()).unwrap()
}

pub(crate) fn kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

pub(crate) fn daemonset(rendered: &Rendered) -> Value {
    kind(&objects(rendered), "DaemonSet").next().unwrap().clone()
}

/// Fails where an object has a field that its type does not know, or of another form.
pub(crate) fn is_known(object: &Value) {
    match object["kind"].as_str().unwrap() {
        "DaemonSet" => known_to::<DaemonSet>(object),
        "ConfigMap" => known_to::<ConfigMap>(object),
        "Pod" => known_to::<Pod>(object),
        "ServiceAccount" => known_to::<ServiceAccount>(object),
        "ClusterRole" => known_to::<ClusterRole>(object),
        "ClusterRoleBinding" => known_to::<ClusterRoleBinding>(object),
        "Role" => known_to::<Role>(object),
        "RoleBinding" => known_to::<RoleBinding>(object),
        "RuntimeClass" => known_to::<RuntimeClass>(object),
        // Of others' groups, whose types are not in that crate: the tests look at all that they have.
        "PodMonitor" | "NetworkAttachmentDefinition" => {}
        other => panic!("{other} is no kind that is known here"),
    }
}

/// What a type does not know it drops, so it is not there when it is written again.
fn known_to<T: DeserializeOwned + Serialize>(object: &Value) {
    let read: T =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{}: {error}", object["kind"]));
    let written = serde_json::to_value(read).unwrap();
    let mut lost = Vec::new();
    compare(object, &written, "", &mut lost);
    assert!(lost.is_empty(), "{} does not know {lost:?}", object["kind"]);
}

fn compare(asked: &Value, known: &Value, at: &str, lost: &mut Vec<String>) {
    match (asked, known) {
        (Value::Object(asked), _) => {
            for (key, value) in asked.iter().filter(|(_, value)| !value.is_null()) {
                match known.get(key) {
                    Some(known) => compare(value, known, &format!("{at}.{key}"), lost),
                    None if is_empty(value) => {}
                    None => lost.push(format!("{at}.{key}")),
                }
            }
        }
        (Value::Array(asked), Value::Array(known)) if asked.len() == known.len() => {
            asked.iter().zip(known).for_each(|(asked, known)| compare(asked, known, at, lost));
        }
        (asked, known) if asked == known => {}
        // A quantity may be written as a number, and is kept as a text.
        (Value::Number(asked), Value::String(known)) if asked.to_string() == *known => {}
        _ => lost.push(at.to_owned()),
    }
}

/// What is written as nothing.
fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(serde_json::Map::is_empty)
}
