//! A config as its file would say it: what is a default is left out.

use std::collections::BTreeMap;

use doorbell_common::subdevice::Access;
use serde::{Serialize, Serializer};

use super::prepare::{Features, MdevType};
use super::runtime::{Folder, RuntimeName};
use super::{
    AcpiIndex, AllocationPolicy, BaseClass, Cdi, Config, DriverName, HexId, Iommufd, Kata, Loaded, LogLevel,
    NodePermissions, PfLinkDown, PfSelector, Pool, PoolName, Prepare, Registration, Remark, ResourceName,
    ResourcePrefix, RootDevice, Runtime, Select, VirtioType,
};

/// The fields of a file, in the order of its documentation.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    api_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_prefix: Option<&'a ResourcePrefix>,
    #[serde(skip_serializing_if = "is_default")]
    cdi: Cdi,
    #[serde(skip_serializing_if = "Option::is_none")]
    containerd_config: Option<&'a str>,
    #[serde(skip_serializing_if = "is_default")]
    registration: Registration,
    #[serde(skip_serializing_if = "is_default")]
    log_level: LogLevel,
    pools: Vec<WrittenPool<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPool<'a> {
    name: &'a PoolName,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a ResourceName>,
    access: Access,
    #[serde(skip_serializing_if = "is_default")]
    runtime: RuntimeName,
    #[serde(skip_serializing_if = "Option::is_none")]
    kata: Option<&'a Kata>,
    select: WrittenSelection<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prepare: Option<&'a Prepare>,
    #[serde(skip_serializing_if = "is_default")]
    iommufd: Iommufd,
    #[serde(skip_serializing_if = "Option::is_none")]
    require_cni: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    allocation: AllocationPolicy,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_owner: Option<WrittenOwner>,
    #[serde(skip_serializing_if = "is_default")]
    pf_link_down: PfLinkDown,
    #[serde(skip_serializing_if = "is_default")]
    exclude_topology: bool,
    #[serde(skip_serializing_if = "is_default")]
    vhost_net: bool,
    #[serde(skip_serializing_if = "is_default")]
    additional_info: BTreeMap<&'a str, &'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenSelection<'a> {
    One(&'a Select),
    Several(Vec<&'a Select>),
}

#[derive(Serialize)]
struct WrittenOwner {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
}

impl Config {
    /// The text of a file that says this.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        let Self { resource_prefix, cdi, containerd_config, registration, log_level, pools } = self;
        serde_saphyr::to_string(&Written {
            api_version: "doorbell.dev/v1",
            resource_prefix: Some(resource_prefix).filter(|prefix| **prefix != ResourcePrefix::default()),
            cdi: *cdi,
            containerd_config: containerd_config.as_deref(),
            registration: *registration,
            log_level: *log_level,
            pools: pools.iter().map(WrittenPool::of).collect(),
        })
    }
}

impl Loaded {
    /// The same of what was read from `file`, with what is to be known of it in front.
    pub fn to_yaml(&self, file: &str) -> Result<String, serde_saphyr::SerializeError> {
        let mut text = format!("# Converted from {}.\n", file.escape_debug());
        for Remark { field, message, .. } in &self.notes {
            text += &format!("# {field}: {message}\n");
        }
        Ok(text + &self.config.to_yaml()?)
    }
}

impl<'a> WrittenPool<'a> {
    fn of(pool: &'a Pool) -> Self {
        // Each field by its name: one that is new is not to be forgotten here.
        let Pool {
            name,
            resource,
            access,
            runtime,
            select,
            prepare,
            iommufd,
            require_cni,
            allocation,
            node: NodePermissions { mode, uid, gid },
            pf_link_down,
            exclude_topology,
            vhost_net,
            additional_info,
        } = pool;
        let (runtime, kata) = match runtime {
            Runtime::Runc => (RuntimeName::Runc, None),
            Runtime::Kata(kata) => (RuntimeName::Kata, (*kata != Kata::default()).then_some(kata)),
        };
        let sets: Vec<&Select> = select.iter().collect();
        let select = match sets.as_slice() {
            [one] => WrittenSelection::One(one),
            _ => WrittenSelection::Several(sets),
        };
        let owner = WrittenOwner { uid: *uid, gid: *gid };
        Self {
            name,
            resource: resource.as_ref(),
            access: *access,
            runtime,
            kata,
            select,
            prepare: prepare.as_ref(),
            iommufd: *iommufd,
            require_cni: (*require_cni != access.is_netdev()).then_some(*require_cni),
            allocation: *allocation,
            node_mode: mode.map(|mode| format!("{mode:04o}")),
            node_owner: (uid.is_some() || gid.is_some()).then_some(owner),
            pf_link_down: *pf_link_down,
            exclude_topology: *exclude_topology,
            vhost_net: *vhost_net,
            additional_info: additional_info.written(),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Written by its text, which its parser takes.
macro_rules! as_text {
    ($($kind:ty),*) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )*};
}

as_text!(
    ResourcePrefix,
    ResourceName,
    DriverName,
    PfSelector,
    RootDevice,
    HexId,
    BaseClass,
    AcpiIndex,
    VirtioType,
    Features,
    MdevType,
    Folder
);
