//! Sub-functions, which no testbed has, by a captured host: what pools select of them, and what is said of what stands
//! on them.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;

use doorbell_common::formats::descriptor::{self, Device};
use doorbell_common::subdevice::DeviceId;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::inventory::Inventory;
use doorbell_device_plugin::scan::{self, Row};
use doorbell_device_plugin::{explain, publish};
use serde_json::{Value, json};

use node::sub_functions::{self, CONFIG, IDS};

fn rows(config: &str) -> Vec<Row> {
    let root = sub_functions::root();
    let config = Config::parse("pools.yaml", config).unwrap();
    scan::rows(&root.host, Some(&config), root.page).unwrap()
}

/// Ids in each pool, in the pools' order by name.
fn pools(inventory: &Inventory) -> Vec<Vec<&str>> {
    inventory.pools.values().map(|pool| pool.devices.keys().map(DeviceId::as_str).collect()).collect()
}

/// Ids that one pool with this access mode and these selectors gets.
fn selected(access: &str, select: &str) -> Vec<String> {
    let config = format!(
        "apiVersion: doorbell.dev/v1\npools:\n- {{name: one, access: {access}, select: {{{select}}}}}\n"
    );
    let inventory = sub_functions::inventory(&sub_functions::root(), &config);
    pools(&inventory).concat().into_iter().map(str::to_owned).collect()
}

fn described(id: &str) -> Device {
    let root = sub_functions::root();
    publish::all(&root.host, &sub_functions::inventory(&root, CONFIG)).unwrap();
    descriptor::read_device(&root.host, &id.parse().unwrap()).unwrap().unwrap()
}

#[test]
fn each_sub_function_is_a_row() {
    let table = scan::table(&rows(CONFIG));
    assert_eq!(
        table,
        "\
ID                 PARENT  PF            NR  PCI  DRIVER        ACCESS      REGISTERS  MEDIATION  GROUP  ISOLATION        DOORBELL  RUNG    POOL   ADVERTISED
0000:08:00.0-sf88  sf      0000:08:00.0  88  -    mlx5_core.sf  netdev      none       pf-driver  -      kernel-mediated  none      kernel  plain  yes
0000:08:00.0-sf89  sf      0000:08:00.0  89  -    mlx5_core.sf  vhost-vdpa  mediated   pf-driver  -      on-device        none      direct  rings  yes
    selected by plain too: the first pool in the config has it
"
    );
}

#[test]
fn a_row_has_parent_number_and_child() {
    let row = serde_json::to_value(&rows(CONFIG)[1]).unwrap();
    let expected = json!({ "kind": "sf", "name": "0000:08:00.0-sf89" });
    assert_eq!((&row["parent"], &row["index"], &row["child"]), (&expected, &json!(89), &json!("vdpa-sf89")));
    assert_eq!((&row["virtioType"], &row["numaNode"]), (&json!(1), &json!(0)));
}

#[test]
fn a_sub_function_is_selected_by_what_it_has() {
    for select in [
        "auxTypes: [sf]",
        "auxTypes: [sf], pfNames: [p0]",
        "auxTypes: [sf], rootDevices: ['0000:08:00.0#80-88']",
        "auxTypes: [sf], parents: [mlx5_core.sf.2]",
        "auxTypes: [sf], drivers: [mlx5_core.sf], numaNodes: [0]",
        "auxTypes: [sf], isolation: [kernel-mediated]",
        "auxTypes: [sf], vendors: [15b3], devices: [a2d6]",
    ] {
        assert_eq!(selected("netdev", select), [IDS[0]], "{select}");
    }
    for select in ["auxTypes: [sf], isolation: [on-device]", "auxTypes: [sf], virtioTypes: [net]"] {
        assert_eq!(selected("vhost-vdpa", select), [IDS[1]], "{select}");
    }
}

#[test]
fn what_a_sub_function_has_not_does_not_select_it() {
    for select in [
        "auxTypes: [sf], pfNames: ['p0#0-87']",
        "auxTypes: [sf], vendors: [1af4]",
        "auxTypes: [sf], classes: ['02']",
        "auxTypes: [sf], pciAddresses: ['0000:08:00.0']",
        "auxTypes: [sf], acpiIndexes: [1]",
        "auxTypes: [sf], numaNodes: [1]",
        "auxTypes: [sf], isolation: [on-device]",
        "pfNames: [p0]",
    ] {
        assert_eq!(selected("netdev", select), [""; 0], "{select}");
    }
    for select in ["auxTypes: [sf], virtioTypes: [block]", "auxTypes: [sf], doorbell: [exclusive]"] {
        assert_eq!(selected("vhost-vdpa", select), [""; 0], "{select}");
    }
}

#[test]
fn the_doorbell_of_a_vdpa_device_is_its_drivers_word() {
    let device = serde_json::to_value(described(IDS[1])).unwrap();
    assert_eq!(
        device["doorbell"],
        json!({
            "verdict": "driver-attested",
            "reason": "only its driver knows where its doorbells lie",
            "effective": "direct",
            "effectiveReason": "mlx5_core.sf maps it into the consumer",
        })
    );
    assert_eq!(device["nodes"], json!({ "vhostVdpa": "/dev/vhost-vdpa-0" }));
    assert_eq!((&device["vdpa"], &device["virtioType"]), (&json!("vdpa-sf89"), &json!(1)));
    assert_eq!(device["isolation"]["class"], "on-device");
    assert_eq!((&device["registers"], &device["mediation"]), (&json!("mediated"), &json!("pf-driver")));
    assert_eq!((&device["pciAddress"], &device["iommuGroup"]), (&json!("0000:08:00.0"), &Value::Null));
    assert_eq!(device["memory"]["locked"], "memlock");
}

#[test]
fn who_gets_an_interface_gets_no_node() {
    let device = serde_json::to_value(described(IDS[0])).unwrap();
    assert_eq!((&device["nodes"], &device["vdpa"]), (&json!({}), &Value::Null));
    assert_eq!(
        (&device["doorbell"]["verdict"], &device["doorbell"]["effective"]),
        (&json!("none"), &json!("kernel"))
    );
    assert_eq!(device["memory"]["locked"], "nothing");
}

/// Its device-info would name the PF as the pod's own function.
#[test]
fn an_interface_of_a_sub_function_is_no_pci_function_to_meta_plugins() {
    let root = sub_functions::root();
    publish::all(&root.host, &sub_functions::inventory(&root, CONFIG)).unwrap();
    let files = root.host.list("/var/run/k8s.cni.cncf.io/devinfo/dp").unwrap();
    assert_eq!(files, ["doorbell.dev-rings-0000:08:00.0-sf89-device.json"]);
}

#[test]
fn a_sub_function_without_a_vdpa_device_says_what_run_would_do() {
    let prepared = CONFIG
        .replace("'p0#89'", "'p0#88'")
        .replace("]}}\n- {name: plain", "]}, prepare: {}}\n- {name: plain");
    let rows = rows(&prepared);
    assert_eq!(rows[0].reasons, ["it has no vDPA device", "`run` makes a vDPA device on it first"]);
}

#[test]
fn explain_says_of_each_what_scan_says() {
    let root = sub_functions::root();
    let config = Config::parse("pools.yaml", CONFIG).unwrap();
    for id in IDS {
        let explained = explain::explain(&root.host, Some(&config), &id.parse().unwrap(), root.page).unwrap();
        assert!(explained.advertised, "{explained:#?}");
        let access = explained.checks.iter().find(|check| check.name == "access").unwrap();
        assert!(access.rests_on.contains(id), "{}", access.rests_on);
    }
}
