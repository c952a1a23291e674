//! What the config file takes and how it says no.

mod modes;
mod resources;

use std::collections::BTreeSet;

use doorbell_common::fault::dice::Dice;
use proptest::prelude::*;

use doorbell_common::formats::kata_dan::KataRuntime;

use super::*;

const GOOD: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select:
    pfNames: [ens1f0#0-3]
    vendors: [1af4]
  prepare:
    numVfs: 4
- name: slow
  access: vfio
  runtime: runc
  select:
    pciAddresses:
    - 0000:01:00.5
";

fn refused(text: &str) -> String {
    Config::parse("pools.yaml", text).unwrap_err().to_string()
}

/// The one set of selectors of a pool.
fn select(config: &Config, pool: usize) -> &Select {
    let mut sets = config.pools[pool].select.iter();
    let set = sets.next().unwrap();
    assert!(sets.next().is_none());
    set
}

#[test]
fn defaults_are_filled_in() {
    let config = Config::parse("pools.yaml", GOOD).unwrap();
    assert_eq!(config.resource(&config.pools[0]), "doorbell.dev/fast");
    assert_eq!(config.pools[0].prepare, Some(Prepare { num_vfs: Some(4), ..Prepare::default() }));
    assert_eq!(select(&config, 0).vendors, [HexId(0x1af4)]);
    assert_eq!(config.pools[1].prepare, None);
}

#[test]
fn an_unknown_field_is_named_with_its_line() {
    let text = GOOD.replace("    numVfs: 4", "    numVFs: 4");
    assert_eq!(
        refused(&text),
        "pools.yaml:9: pools[0].prepare.numVFs: unknown field `numVFs`, expected one of numVfs, driver, maxVqPairs, mtu, mac, features, ifUnsupported, perParent, mdevType"
    );
}

#[test]
fn what_an_error_is_about_is_named_where_several_fields_begin() {
    for (good, bad, says) in [
        ("- name: fast", "- colour: red\n  name: fast", "3: pools[0].colour: unknown field `colour`"),
        ("  access: vfio\n  select:\n    pfN", "  select:\n    pfN", "3: pools[0]: missing field `access`"),
        ("- name: fast\n  access", "- access", "3: pools[0]: missing field `name`"),
        (
            "  access: vfio\n  runtime: runc\n  select",
            "  access: vfio\n  kata",
            "13: pools[1].kata.pciAddresses: ",
        ),
        (
            "  runtime: runc\n  select:\n    pciAddresses:\n    - 0000:01:00.5\n",
            "",
            "10: pools[1]: missing field `select`",
        ),
        ("pools:\n", "pools: [\n", "3: "),
        ("apiVersion: doorbell.dev/v1\n", "", "1: missing field `apiVersion`"),
        ("  prepare:\n    numVfs: 4", "  prepare:\n    mtu: 0", "9: pools[0].prepare.mtu: invalid value: 0"),
        ("    vendors: [1af4]", "    pfNames: [ens2]", "7: pools[0].select.pfNames: duplicate"),
        ("  prepare:\n    numVfs: 4", "  prepare: 4", "8: pools[0].prepare: "),
        ("pools:\n", "colours: 1\npools:\n", "2: colours: unknown field `colours`"),
    ] {
        let message = refused(&GOOD.replacen(good, bad, 1));
        assert!(message.starts_with(&format!("pools.yaml:{says}")), "{message}");
    }
}

#[test]
fn a_bad_address_is_named_with_its_line() {
    let message = refused(&GOOD.replace("0000:01:00.5", "01:00.5"));
    assert!(
        message.starts_with("pools.yaml:15: pools[1].select.pciAddresses[0]: `01:00.5` is no PCI address"),
        "{message}"
    );
}

#[test]
fn a_pool_name_starts_with_a_letter() {
    for name in ["10g", "Fast", "fast-", "a_b", "x", "''"] {
        let message = refused(&GOOD.replace("name: fast", &format!("name: {name}")));
        assert!(message.starts_with("pools.yaml:3: pools[0].name: `"), "{message}");
    }
}

#[test]
fn a_pool_stands_once() {
    let message = refused(&GOOD.replace("name: slow", "name: fast"));
    assert!(message.starts_with("pools.yaml:10: pools[1].name: pool `fast` is there already"), "{message}");
}

#[test]
fn a_pool_without_selectors_is_refused() {
    let message = refused("apiVersion: doorbell.dev/v1\npools:\n- name: all\n  access: vfio\n  select: {}\n");
    assert!(message.starts_with("pools.yaml:5: pools[0].select"), "{message}");
    assert!(message.ends_with("no selector is given"), "{message}");
}

#[test]
fn what_would_reach_sysfs_or_the_kubelet_is_checked() {
    for (good, bad) in [
        ("numVfs: 4", "driver: ''"),
        ("numVfs: 4", "driver: ../../devices"),
        ("numVfs: 4", "driver: .."),
        ("vendors: [1af4]", "vendors: ['+af4']"),
        ("[ens1f0#0-3]", "['ens1f0#+0-+3']"),
        ("pools:", "resourcePrefix: kubernetes.io\npools:"),
        ("pools:", "resourcePrefix: requests.x.y\npools:"),
    ] {
        refused(&GOOD.replace(good, bad));
    }
}

#[test]
fn fields_that_contradict_each_other_are_refused() {
    let message = refused(&GOOD.replace("pfNames: [ens1f0#0-3]\n", "devices: ['1041']\n"));
    assert!(message.starts_with("pools.yaml:9: pools[0].prepare.numVfs: "), "{message}");
    let message = refused(&GOOD.replace("vendors: [1af4]", "drivers: [virtio-pci]"));
    assert!(message.starts_with("pools.yaml:7: pools[0].select.drivers: "), "{message}");
    assert!(
        Config::parse("pools.yaml", &GOOD.replace("vendors: [1af4]", "drivers: [virtio-pci, vfio-pci]"))
            .is_ok()
    );
}

#[test]
fn values_that_no_selector_knows_are_named_with_their_line() {
    for (select, field, says) in [
        ("rootDevices: [ens1f0]", "rootDevices[0]", "`ens1f0` is no root device"),
        ("acpiIndexes: [1, eth]", "acpiIndexes[1]", "`eth` is no ACPI index"),
        ("numaNodes: [-1]", "numaNodes[0]", "invalid"),
        ("virtioTypes: [nic]", "virtioTypes[0]", "`nic` is no virtio device type"),
        ("isolation: [iommu]", "isolation[0]", "unknown variant `iommu`, expected one of `iommu-rid`"),
        ("doorbell: [shared]", "doorbell[0]", "unknown variant `shared`, expected one of `exclusive`"),
    ] {
        let message = refused(&GOOD.replace("vendors: [1af4]", select));
        let expected = format!("pools.yaml:7: pools[0].select.{field}: {says}");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn vfs_are_made_on_root_devices_too() {
    let text = GOOD.replace("pfNames: [ens1f0#0-3]", "rootDevices: ['0000:01:00.0#0-3']");
    assert!(Config::parse("pools.yaml", &text).is_ok());
}

#[test]
fn switches_are_booleans_or_auto() {
    let config = Config::parse("pools.yaml", GOOD).unwrap();
    assert_eq!((config.cdi, config.pools[0].iommufd), (Cdi::Auto, Iommufd::Off));
    for (text, cdi, iommufd) in [
        ("true", Cdi::On, Iommufd::On),
        ("false", Cdi::Off, Iommufd::Off),
        ("auto", Cdi::Auto, Iommufd::Auto),
        ("'true'", Cdi::On, Iommufd::On),
    ] {
        let text = GOOD
            .replace("pools:", &format!("cdi: {text}\npools:"))
            .replace("  runtime: runc", &format!("  iommufd: {text}"));
        let config = Config::parse("pools.yaml", &text).unwrap();
        assert_eq!((config.cdi, config.pools[1].iommufd), (cdi, iommufd));
    }
    let message = refused(&GOOD.replace("pools:", "cdi: maybe\npools:"));
    assert_eq!(message, "pools.yaml:2: cdi: unknown variant `maybe`, expected one of auto, true, false");
}

#[test]
fn how_a_pool_is_handed_out_has_defaults() {
    let Pool { require_cni, allocation, node, .. } =
        Config::parse("pools.yaml", GOOD).unwrap().pools[1].clone();
    assert_eq!((require_cni, allocation, node), (false, AllocationPolicy::Pack, NodePermissions::default()));
    let text = GOOD.replace(
        "  runtime: runc",
        "  requireCni: true\n  allocation: spread\n  nodeMode: '0660'\n  nodeOwner: {gid: 107}",
    );
    let Pool { require_cni, allocation, node, .. } =
        Config::parse("pools.yaml", &text).unwrap().pools[1].clone();
    assert_eq!((require_cni, allocation), (true, AllocationPolicy::Spread));
    assert_eq!(node, NodePermissions { mode: Some(0o660), uid: None, gid: Some(107) });
}

#[test]
fn a_node_is_read_and_written_and_no_more() {
    for bad in ["0777", "4666", "0668", "666", "420", "'06660'", "'0o66'", "''", "'+666'"] {
        let message = refused(&GOOD.replace("  runtime: runc", &format!("  nodeMode: {bad}")));
        assert!(message.starts_with("pools.yaml:12: pools[1].nodeMode: `"), "{message}");
        assert!(message.contains("is no mode of a device node"), "{message}");
    }
    let message = refused(&GOOD.replace("  runtime: runc", "  nodeOwner: {uid: -1}"));
    assert!(message.starts_with("pools.yaml:12: pools[1].nodeOwner.uid: "), "{message}");
}

#[test]
fn node_permissions_contradict_a_config_without_cdi() {
    let text = GOOD.replace("pools:", "cdi: false\npools:");
    for (field, value) in [("nodeMode", "'0666'"), ("nodeOwner", "{uid: 107, gid: 107}")] {
        let message = refused(&text.replace("  runtime: runc", &format!("  {field}: {value}")));
        let expected = format!("pools.yaml:13: pools[1].{field}: only CDI carries it to the container");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn containerds_config_is_an_absolute_path() {
    let parse = |path: &str| {
        Config::parse("pools.yaml", &GOOD.replace("pools:", &format!("containerdConfig: {path}\npools:")))
    };
    assert_eq!(parse("/etc/c.toml").unwrap().containerd_config.as_deref(), Some("/etc/c.toml"));
    assert_eq!(
        parse("etc/c.toml").unwrap_err().to_string(),
        "pools.yaml:2: containerdConfig: `etc/c.toml` is no absolute path"
    );
}

#[test]
fn kata_takes_what_can_be_plugged_into_a_vm() {
    let pool = |access: &str, more: &str| {
        let text = format!(
            "apiVersion: doorbell.dev/v1\npools:\n- name: vm\n  access: {access}\n  runtime: kata\n  {more}\n"
        );
        Config::parse("pools.yaml", &text).map(|config| config.pools[0].runtime.clone())
    };
    let kata = |runtime| Runtime::Kata(Kata { runtime, dan_conf: None });
    let vfs = "select: {pfNames: [ens1f0]}";
    assert_eq!(pool("vfio", vfs).unwrap(), kata(KataRuntime::Rs));
    assert_eq!(pool("vfio", &format!("{vfs}\n  kata: {{runtime: go}}")).unwrap(), kata(KataRuntime::Go));
    let mdevs = "select: {parents: [mtty]}\n  prepare: {mdevType: mtty-1}";
    assert_eq!(pool("mdev", &format!("{mdevs}\n  kata: {{runtime: go}}")).unwrap(), kata(KataRuntime::Go));
    for (access, more, why) in [
        ("vhost-vdpa", vfs, "Kata plugs no vhost-vdpa device"),
        ("virtio-vdpa", vfs, "Kata would forward the packets"),
        ("netdev", vfs, "Kata would take the VF off its driver"),
        ("mdev", mdevs, "Kata's runtime-rs plugs no mdev"),
    ] {
        let message = pool(access, more).unwrap_err().to_string();
        assert!(message.starts_with(&format!("pools.yaml:4: pools[0].access: {why}")), "{message}");
        assert!(message.contains("use `access: vfio`") || message.contains("runtime: go"), "{message}");
    }
    let by_dan = |access: &str, selected: &str, folder: &str, more: &str| {
        pool(access, &format!("{selected}\n  kata: {{runtime: go, danConf: {folder}}}{more}"))
    };
    let Runtime::Kata(Kata { dan_conf: Some(folder), .. }) = by_dan("vfio", vfs, "/run/dans/", "").unwrap()
    else {
        panic!("no folder");
    };
    assert_eq!(folder.to_string(), "/run/dans");
    for bad in ["dans", "/", "/run/../etc", "''"] {
        let error = by_dan("vfio", vfs, bad, "").unwrap_err().to_string();
        assert!(error.contains("is no absolute path of a folder"), "{bad}: {error}");
    }
    let error = by_dan("vfio", vfs, "/run/dans", "\n  iommufd: auto").unwrap_err().to_string();
    assert!(error.contains("kata.danConf: Kata plugs what a DAN file names by its group"), "{error}");
    let error = by_dan("mdev", mdevs, "/run/dans", "").unwrap_err().to_string();
    assert!(error.contains("kata.danConf: a DAN file names a VF"), "{error}");

    let message = refused(&GOOD.replace("  runtime: runc", "  kata: {runtime: go}"));
    assert_eq!(message, "pools.yaml:12: pools[1].kata: it is for pools with `runtime: kata`");
}

#[test]
fn every_error_is_one_line() {
    for text in
        ["", "pools: [", "a: b", "apiVersion: v9\npools: []", "apiVersion: doorbell.dev/v1\npools: 3\n", "\t"]
    {
        let message = refused(text);
        assert!(message.starts_with("pools.yaml:") && !message.contains('\n'), "{message}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,200}") {
        let _ = Config::parse("pools.yaml", &text);
    }

    #[test]
    fn a_damaged_config_is_refused_with_its_place_or_makes_sense(seed: u64) {
        let text = Dice::of(seed).damage(GOOD.as_bytes());
        let text = String::from_utf8_lossy(&text);
        match Config::parse("pools.yaml", &text) {
            Ok(config) => {
                let names: BTreeSet<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
                prop_assert_eq!(names.len(), config.pools.len());
                let mut sets = config.pools.iter().flat_map(|pool| pool.select.iter());
                prop_assert!(sets.all(|select| *select != Select::default()));
            }
            Err(error) => {
                let told = error.to_string();
                let line = told.strip_prefix("pools.yaml:").and_then(|told| told.split_once(':'));
                prop_assert!(line.is_some_and(|(line, _)| line.parse::<u64>().is_ok()), "{}", told);
                prop_assert!(!told.contains('\n'), "{}", told);
            }
        }
    }
}
