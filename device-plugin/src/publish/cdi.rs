//! Each pool's CDI specification.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use doorbell_common::formats::cdi::{self, Edits, Mount, Node, Spec};
use doorbell_common::formats::descriptor;
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::Eligible;

use crate::config::{NodePermissions, PoolName};
use crate::inventory::{Inventory, Pool};

/// What mount(8) is told: the container reads the files that we write.
const MOUNT: &[Cow<'static, str>] =
    &[Cow::Borrowed("ro"), Cow::Borrowed("rbind"), Cow::Borrowed("nosuid"), Cow::Borrowed("nodev")];

/// Writes the specifications of all pools, where the runtime takes none those for Kata alone.
pub(super) fn publish(host: &Host, inventory: &Inventory) -> host::Result<()> {
    specifications(inventory).iter().try_for_each(|(file, spec)| host.keep_as(file, &spec.document()))
}

/// Whether the specifications that stand are these, and no others.
pub(super) fn is_published(host: &Host, inventory: &Inventory) -> host::Result<bool> {
    let mut stand = cdi::files(host)?;
    stand.sort();
    Ok(stand.into_iter().eq(files(inventory))
        && specifications(inventory)
            .iter()
            .all(|(file, spec)| host.read(file).is_ok_and(|now| now == spec.document())))
}

/// Removes the specifications of others.
pub(super) fn withdraw(host: &Host, inventory: &Inventory) -> host::Result<()> {
    let ours: BTreeSet<String> = files(inventory).collect();
    cdi::files(host)?.iter().filter(|file| !ours.contains(*file)).try_for_each(|file| host.remove(file))
}

/// What is specified, by the file that it stands in: the devices of the pools, and beside them those that are left.
pub(super) fn specifications(inventory: &Inventory) -> BTreeMap<String, Spec> {
    let pools = inventory.pools.iter().filter(|(_, pool)| inventory.is_specified(pool));
    let mut all: BTreeMap<String, Spec> =
        pools.filter_map(|(name, pool)| Some((cdi::file(name.as_str()), spec(name, pool)?))).collect();
    for left in &inventory.left {
        let file = place(inventory, left, |file| all.get(file).map(Spec::kind));
        match all.entry(file) {
            Entry::Occupied(mut same) => same.get_mut().join(left.clone()),
            Entry::Vacant(none) => drop(none.insert(left.clone())),
        }
    }
    all
}

/// The files of all specifications.
pub(super) fn files(inventory: &Inventory) -> impl Iterator<Item = String> {
    let pools = inventory.pools.iter();
    let pools = pools.filter(|(_, pool)| inventory.is_specified(pool) && !pool.devices.is_empty());
    let of_pool = |(name, pool): (&PoolName, &Pool)| (cdi::file(name.as_str()), pool.kind.clone());
    let mut kinds: BTreeMap<String, String> = pools.map(of_pool).collect();
    for left in &inventory.left {
        let file = place(inventory, left, |file| kinds.get(file).map(String::as_str));
        kinds.insert(file, left.kind().to_owned());
    }
    kinds.into_keys()
}

/// The file of its pool, so that what is left does not move. Where another kind has that file, as after the prefix of all
/// resources was changed, its own.
fn place<'a>(inventory: &Inventory, left: &Spec, kind_in: impl Fn(&str) -> Option<&'a str>) -> String {
    let kind = left.kind();
    if let Some((name, _)) = inventory.pools.iter().find(|(_, pool)| pool.kind == kind) {
        return cdi::file(name.as_str());
    }
    let file = cdi::file(kind.rsplit_once('/').map_or(kind, |(_, name)| name));
    if kind_in(&file).is_none_or(|other| other == kind) { file } else { cdi::file_beside(kind) }
}

fn spec(name: &PoolName, pool: &Pool) -> Option<Spec> {
    let edits = |device: &Arc<Eligible>| (device.id.clone(), edits(name, pool, device));
    Spec::new(&pool.kind, pool.devices.values().map(edits).collect())
}

/// Permissions are `rw` and never `m`: a container makes no nodes.
fn edits(name: &PoolName, pool: &Pool, device: &Eligible) -> Edits {
    let NodePermissions { mode, uid, gid } = pool.node;
    let node =
        |path: &str| Node { path: path.to_owned(), permissions: "rw".into(), file_mode: mode, uid, gid };
    let mount = Mount {
        host_path: descriptor::folder(&device.id),
        container_path: descriptor::container_folder(name.as_str(), &device.id),
        options: MOUNT.into(),
    };
    Edits {
        env: vec![format!("{}={}", descriptor::ENV, descriptor::CONTAINER_FOLDER).into()].into(),
        device_nodes: pool.nodes(device).into_iter().map(node).collect(),
        mounts: vec![mount],
    }
}
