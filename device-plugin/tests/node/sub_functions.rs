//! The captured host with two sub-functions, 88 with an interface and 89 with a vDPA device.

use std::collections::BTreeMap;
use std::path::Path;

use doorbell_device_plugin::captured::Root;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::inventory::Inventory;
use doorbell_device_plugin::look;
use doorbell_device_plugin::prepare::Allocated;

/// A pool for each.
pub(crate) const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- {name: rings, access: vhost-vdpa, select: {auxTypes: [sf], pfNames: ['p0#89']}}
- {name: plain, access: netdev, select: {auxTypes: [sf]}}
";

/// Ids of both.
pub(crate) const IDS: [&str; 2] = ["0000:08:00.0-sf88", "0000:08:00.0-sf89"];

pub(crate) fn root() -> Root {
    let captures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    Root::at(&captures.join("mlx5-sub-functions.capture")).unwrap()
}

/// What the plugin would advertise there.
pub(crate) fn inventory(root: &Root, config: &str) -> Inventory {
    let config = Config::parse("pools.yaml", config).unwrap();
    look::once(&root.host, &config, &Allocated::To(BTreeMap::new()), root.page).unwrap()
}
