//! What the plugin reads of a VF, held to the list that the bare loop reads: the same, and each once a look.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use doorbell_common::host::Host;
use doorbell_device_plugin::config::Config;
use doorbell_device_plugin::look;
use doorbell_device_plugin::prepare::Allocated;
use e2e_bench::attributes;
use e2e_bench::load::{Load, Vf};

const LOAD: Load = Load { vfs: 4, pfs: 2, pools: 2 };
const BOOT: &str = "11111111-2222-3333-4444-555555555555";

fn node() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    LOAD.make(root.path(), BOOT).unwrap();
    let boot = root.path().join("proc/sys/kernel/random/boot_id");
    fs::create_dir_all(boot.parent().unwrap()).unwrap();
    fs::write(boot, format!("{BOOT}\n")).unwrap();
    root
}

/// What belongs to a VF: below its folder, its group's members, and the link by which its PF names it.
fn of_vf(vf: Vf, path: &Path) -> bool {
    let own = format!("/sys/bus/pci/devices/{}/", vf.address());
    let elsewhere = attributes::of_vf(vf).into_iter().any(|one| one.path == path);
    path.to_string_lossy().starts_with(&own) || elsewhere
}

#[test]
fn the_plugin_reads_of_a_vf_what_is_listed_and_nothing_else() {
    let root = node();
    let host = Host::at(root.path()).recording();
    let text = fs::read_to_string(root.path().join("etc/doorbell/config.yaml")).unwrap();
    let config = Config::parse("config.yaml", &text).unwrap();
    let allocated = Allocated::To(BTreeMap::new());
    let inventory = look::once(&host, &config, &allocated, 0x1000).unwrap();
    assert_eq!(inventory.pools.values().map(|pool| pool.devices.len()).collect::<Vec<_>>(), [2, 2]);
    for vf in LOAD.vfs() {
        let read: BTreeSet<PathBuf> = host.recorded().into_keys().filter(|path| of_vf(vf, path)).collect();
        let listed = attributes::of_vf(vf).into_iter().map(|one| one.path);
        assert_eq!(read, listed.collect(), "{vf:?}");
    }
}
