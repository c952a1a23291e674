//! What is known here of Kubernetes' objects, as a manifest has them.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Deserializer, de, de::IgnoredAny};

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind")]
pub(super) enum Object {
    ConfigMap(ConfigMap),
    DaemonSet(Box<DaemonSet>),
    RuntimeClass(RuntimeClass),
    Pod(UserPod),
    // Of a cluster, which is not here.
    ServiceAccount(IgnoredAny),
    ClusterRole(IgnoredAny),
    ClusterRoleBinding(IgnoredAny),
    Role(IgnoredAny),
    RoleBinding(IgnoredAny),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuntimeClass {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    pub(super) metadata: Named,
    pub(super) handler: String,
}

/// A pod that somebody makes, in whatever namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UserPod {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    pub(super) metadata: UserPodMetadata,
    pub(super) spec: UserPodSpec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserPodMetadata {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
    // Of Helm's, which is not here.
    #[serde(default, rename = "annotations")]
    _annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UserPodSpec {
    pub(super) runtime_class_name: Option<String>,
    // Nobody restarts a container here.
    #[serde(default, rename = "restartPolicy")]
    _restart_policy: String,
    #[serde(default, rename = "automountServiceAccountToken")]
    _automount_service_account_token: bool,
    #[serde(default, rename = "tolerations")]
    _tolerations: IgnoredAny,
    pub(super) containers: Vec<UserContainer>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct UserContainer {
    pub(super) name: String,
    pub(super) image: String,
    #[serde(default, rename = "imagePullPolicy")]
    _image_pull_policy: String,
    #[serde(default)]
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) security_context: SecurityContext,
    pub(super) resources: Resources,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Resources {
    pub(super) limits: UserLimits,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct UserLimits {
    #[serde(default, deserialize_with = "mebibytes")]
    pub(super) memory: Option<u64>,
    #[serde(default, rename = "cpu")]
    _cpu: IgnoredAny,
    /// Extended resources.
    #[serde(flatten)]
    pub(super) extended: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ConfigMap {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    pub(super) metadata: Metadata,
    pub(super) data: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DaemonSet {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    pub(super) metadata: Metadata,
    pub(super) spec: DaemonSetSpec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    #[serde(default, rename = "labels")]
    _labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DaemonSetSpec {
    #[serde(default, rename = "updateStrategy")]
    _update_strategy: IgnoredAny,
    #[serde(rename = "selector")]
    _selector: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) template: Template,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    #[serde(rename = "metadata")]
    _metadata: BTreeMap<String, BTreeMap<String, String>>,
    pub(super) spec: Pod,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Pod {
    #[serde(rename = "automountServiceAccountToken")]
    _automount_service_account_token: bool,
    #[serde(default)]
    pub(super) host_network: bool,
    #[serde(default, rename = "hostPID")]
    pub(super) host_pid: bool,
    // This node is one that it runs on.
    #[serde(default, rename = "nodeSelector")]
    _node_selector: BTreeMap<String, String>,
    #[serde(default, rename = "tolerations")]
    _tolerations: IgnoredAny,
    #[serde(default, rename = "affinity")]
    _affinity: IgnoredAny,
    #[serde(default, rename = "priorityClassName")]
    _priority_class_name: String,
    #[serde(default, rename = "serviceAccountName")]
    _service_account_name: String,
    #[serde(default)]
    pub(super) init_containers: Vec<Container>,
    pub(super) containers: Vec<Container>,
    pub(super) volumes: Vec<Volume>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    // The image is on the node.
    #[serde(default, rename = "imagePullPolicy")]
    _image_pull_policy: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    pub(super) env: Vec<Variable>,
    #[serde(default)]
    pub(super) resources: PluginResources,
    // Nobody but the scenarios asks, and they ask the pod's own address.
    #[serde(default, rename = "ports")]
    _ports: IgnoredAny,
    #[serde(default, rename = "startupProbe")]
    _startup_probe: IgnoredAny,
    #[serde(default, rename = "livenessProbe")]
    _liveness_probe: IgnoredAny,
    #[serde(default, rename = "readinessProbe")]
    _readiness_probe: IgnoredAny,
    pub(super) security_context: SecurityContext,
    pub(super) termination_message_path: PathBuf,
    pub(super) volume_mounts: Vec<Mount>,
}

/// A variable that has a value of its own, or something of the pod's.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Variable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) value: String,
    pub(super) value_from: Option<ValueFrom>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ValueFrom {
    pub(super) field_ref: FieldRef,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FieldRef {
    pub(super) field_path: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PluginResources {
    pub(super) limits: Limits,
    // The node has what is asked for.
    #[serde(rename = "requests")]
    _requests: IgnoredAny,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    #[serde(deserialize_with = "mebibytes")]
    pub(super) memory: Option<u64>,
}

/// A quantity of memory as the chart writes it, in bytes.
fn mebibytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = text.strip_suffix("Mi").and_then(|count| count.parse::<u64>().ok()?.checked_mul(1 << 20));
    bytes.map(Some).ok_or_else(|| de::Error::custom(format!("`{text}` is no number of Mi")))
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SecurityContext {
    // The double's containers can't have it otherwise.
    #[serde(default, rename = "allowPrivilegeEscalation")]
    _allow_privilege_escalation: bool,
    #[serde(default)]
    pub(super) capabilities: Capabilities,
    #[serde(default)]
    pub(super) privileged: bool,
    #[serde(default)]
    pub(super) read_only_root_filesystem: bool,
    // The testbed's kernel has neither AppArmor nor SELinux; the runtime ignores both where that is so.
    #[serde(default, rename = "appArmorProfile")]
    _app_armor_profile: BTreeMap<String, String>,
    #[serde(default, rename = "seLinuxOptions")]
    _se_linux_options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Capabilities {
    pub(super) drop: Vec<String>,
    pub(super) add: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Mount {
    pub(super) name: String,
    pub(super) mount_path: PathBuf,
    #[serde(default)]
    pub(super) read_only: bool,
    pub(super) mount_propagation: Option<Propagation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Propagation {
    HostToContainer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) host_path: Option<HostPath>,
    pub(super) empty_dir: Option<EmptyDir>,
    pub(super) config_map: Option<ConfigMapSource>,
    // There is no API server here whose token it could have: an empty folder.
    pub(super) projected: Option<IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostPath {
    pub(super) path: PathBuf,
    #[serde(rename = "type")]
    pub(super) kind: HostPathType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum HostPathType {
    DirectoryOrCreate,
    Directory,
    File,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmptyDir {
    // A plain folder does: nothing that a test looks at differs in memory.
    #[serde(default, rename = "medium")]
    _medium: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigMapSource {
    pub(super) name: String,
}
