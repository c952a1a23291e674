//! The JSON Schema of the config, made of its types: their fields, what they are for, and the forms of texts.
//!
//! What texts say to each other, a schema can't tell: the parser does.

use std::borrow::Cow;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::File;
use super::node::NodeMode;
use super::prepare::{Features, MdevType};
use super::runtime::Folder;
use super::{
    AcpiIndex, AdditionalInfo, BaseClass, Cdi, DriverName, HexId, Iommufd, PfSelector, PoolName,
    ResourceName, ResourcePrefix, RootDevice, Select, Selection, VirtioType,
};

/// The schema of a config file (JSON Schema 2020-12).
#[must_use]
pub fn schema() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<File>();
    // What is not given has no value, and null is none.
    RecursiveTransform(|schema: &mut Schema| {
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
    })
    .transform(&mut schema);
    schema.to_value()
}

/// A text of a form, or where that may be of digits a number too: YAML has one where there are no quotes.
macro_rules! text {
    ($($kind:ty: $types:expr, $description:literal, $pattern:literal;)*) => {$(
        impl JsonSchema for $kind {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($kind).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": $types,
                    "description": $description,
                    "pattern": $pattern,
                })
            }
        }
    )*};
}

const TEXT: &str = "string";
const OR_NUMBER: [&str; 2] = ["string", "integer"];

text! {
    PoolName: TEXT, "A lower-case letter, then letters, digits and inner dashes, 2 to 50 in all.", "^[a-z][-a-z0-9]{0,48}[a-z0-9]$";
    ResourcePrefix: TEXT, "A DNS name in lower case outside of kubernetes.io.", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$";
    ResourceName: TEXT, "Full name of an extended resource: a prefix, a slash, and letters, digits and inner `_` and `-`.", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/[A-Za-z0-9]([-_A-Za-z0-9]{0,61}[A-Za-z0-9])?$";
    DriverName: TEXT, "Name of a driver, as its folder in sysfs is called.", "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$";
    HexId: OR_NUMBER, "A PCI id: four hexadecimal digits.", "^[0-9A-Fa-f]{4}$";
    BaseClass: OR_NUMBER, "A PCI base class: two hexadecimal digits.", "^[0-9A-Fa-f]{2}$";
    AcpiIndex: OR_NUMBER, "A number.", "^[0-9]+$";
    VirtioType: OR_NUMBER, "A virtio device type, by name or number.", "^([a-z][a-z0-9]*|[1-9][0-9]{0,4})$";
    PfSelector: TEXT, "A PF by its network interface or address, then at will `#` and numbers of VFs.", "^[^#]+(#[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$";
    RootDevice: TEXT, "A PF by its address, then at will `#` and numbers of VFs.", "^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7](#[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$";
    NodeMode: TEXT, "Permission bits in octal, from 0000 to 0666.", "^0[0246]{3}$";
    Features: TEXT, "Virtio feature bits in hexadecimal.", "^0x[0-9A-Fa-f]{1,16}$";
    MdevType: TEXT, "Name of an mdev type.", "^[A-Za-z0-9_-][A-Za-z0-9_.-]*$";
    form::Address: TEXT, "Address of a PCI function.", "^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\\.[0-7]$";
    Folder: TEXT, "An absolute path of a folder.", "^/[^/]";
}

/// A switch that can be left to the node.
fn switch(description: &str) -> Schema {
    json_schema!({ "description": description, "enum": [true, false, "auto", "true", "false"] })
}

impl JsonSchema for Cdi {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cdi".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        switch(
            "Whether devices are handed out by CDI names; `auto`: where the node's runtime is seen to take them.",
        )
    }
}

impl JsonSchema for Iommufd {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Iommufd".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        switch("Whether consumers open a device's own node; `auto`: where the kernel has it.")
    }
}

impl JsonSchema for Selection {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Selection".into()
    }

    /// By condition and not as alternatives: a wrong value is named by its own path then.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let select = generator.subschema_for::<Select>();
        json_schema!({
            "description": "Selectors, or a list of such: a sub-device is selected where one of them selects it.",
            "if": { "type": "array" },
            "then": { "items": select.clone(), "minItems": 1 },
            "else": select,
        })
    }
}

impl JsonSchema for AdditionalInfo {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AdditionalInfo".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let texts = json_schema!({ "type": "object", "additionalProperties": { "type": "string" } });
        json_schema!({
            "description": "Texts by name for pods to read: of all devices by `*`, and of one by its id.",
            "type": "object",
            "additionalProperties": texts,
        })
    }
}

/// Forms of what other crates have types for.
pub(super) mod form {
    use schemars::JsonSchema;

    /// Address of a PCI function.
    pub(in crate::config) struct Address;

    /// How a pod drives its devices.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "kebab-case", inline)]
    #[expect(dead_code, reason = "it is a form, and no value")]
    pub(in crate::config) enum Access {
        Vfio,
        VhostVdpa,
        VirtioVdpa,
        Netdev,
        Mdev,
    }

    /// Kata's two runtimes: in Rust and in Go.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "kebab-case", inline)]
    #[expect(dead_code, reason = "it is a form, and no value")]
    pub(in crate::config) enum KataRuntime {
        Rs,
        Go,
    }

    /// What a network interface is on.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "kebab-case", inline)]
    #[expect(dead_code, reason = "it is a form, and no value")]
    pub(in crate::config) enum LinkType {
        Ether,
        Infiniband,
    }

    /// What confines a device's DMA.
    #[derive(JsonSchema)]
    #[schemars(rename_all = "kebab-case", inline)]
    #[expect(dead_code, reason = "it is a form, and no value")]
    pub(in crate::config) enum Class {
        IommuRid,
        OnDevice,
        KernelMediated,
        Software,
    }
}
