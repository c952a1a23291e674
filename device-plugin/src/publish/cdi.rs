//! Each pool's CDI specification.

use doorbell_common::formats::cdi::{self, Edits, Mount, Node, Spec};
use doorbell_common::formats::descriptor;
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::Eligible;

use crate::config::{NodePermissions, PoolName};
use crate::inventory::{Inventory, Pool};

/// What mount(8) is told: the container reads the files that we write.
const MOUNT: [&str; 4] = ["ro", "rbind", "nosuid", "nodev"];

/// Writes the specifications of all pools, where the runtime takes none those for Kata alone, and removes those of others.
pub(super) fn publish(host: &Host, inventory: &Inventory) -> host::Result<()> {
    let mut ours = Vec::new();
    for (name, pool) in inventory.pools.iter().filter(|(_, pool)| inventory.is_specified(pool)) {
        if let Some(spec) = spec(name, pool) {
            let file = cdi::file(name.as_str());
            host.keep_as(&file, &spec.document())?;
            ours.push(file);
        }
    }
    for file in cdi::files(host)?.iter().filter(|file| !ours.contains(file)) {
        host.remove(file)?;
    }
    Ok(())
}

fn spec(name: &PoolName, pool: &Pool) -> Option<Spec> {
    let edits = |device: &Eligible| (device.id.clone(), edits(name, pool, device));
    Spec::new(&pool.resource, pool.devices.values().map(edits).collect())
}

/// Permissions are `rw` and never `m`: a container makes no nodes.
fn edits(name: &PoolName, pool: &Pool, device: &Eligible) -> Edits {
    let NodePermissions { mode, uid, gid } = pool.node;
    let node =
        |path: &str| Node { path: path.to_owned(), permissions: "rw".to_owned(), file_mode: mode, uid, gid };
    let mount = Mount {
        host_path: descriptor::folder(&device.id),
        container_path: descriptor::container_folder(name.as_str(), &device.id),
        options: MOUNT.map(str::to_owned).to_vec(),
    };
    Edits {
        env: vec![format!("{}={}", descriptor::ENV, descriptor::CONTAINER_FOLDER)],
        device_nodes: pool.runtime.nodes(device).into_iter().map(node).collect(),
        mounts: vec![mount],
    }
}
