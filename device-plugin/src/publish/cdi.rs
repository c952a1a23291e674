//! Each pool's CDI specification.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use doorbell_common::formats::cdi::{self, Device, Edits, Mount, Node, Spec};
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
    specified(inventory).iter().try_for_each(|(file, spec)| host.keep_as(file, &spec.document()))
}

/// Whether the specifications that stand are these, and no others.
pub(super) fn is_published(host: &Host, inventory: &Inventory) -> host::Result<bool> {
    let mut stand = cdi::files(host)?;
    stand.sort();
    let specified = specified(inventory);
    let is_same =
        |(file, spec): (&String, &Specified<'_>)| host.read(file).is_ok_and(|now| now == spec.document());
    Ok(stand.iter().eq(specified.keys()) && specified.iter().all(is_same))
}

/// Removes the specifications of others.
pub(super) fn withdraw(host: &Host, inventory: &Inventory) -> host::Result<()> {
    let ours: BTreeSet<String> = files(inventory).collect();
    cdi::files(host)?.iter().filter(|file| !ours.contains(*file)).try_for_each(|file| host.remove(file))
}

/// The specifications, made whole: to find out what is left of them for pods.
pub(super) fn specifications(inventory: &Inventory) -> Vec<Spec> {
    let spec = |of: Specified<'_>| Spec::new(of.kind, of.devices().map(Cow::into_owned).collect());
    specified(inventory).into_values().filter_map(spec).collect()
}

/// The files of all specifications.
pub(super) fn files(inventory: &Inventory) -> impl Iterator<Item = String> {
    specified(inventory).into_keys()
}

/// What is specified in one file: the devices of a pool, and beside them those of the same kind that are left.
struct Specified<'a> {
    kind: &'a str,
    pool: Option<(&'a PoolName, &'a Pool)>,
    left: Vec<&'a Spec>,
}

/// All that is specified, by the file that it stands in.
fn specified(inventory: &Inventory) -> BTreeMap<String, Specified<'_>> {
    let pools = inventory.pools.iter();
    let pools = pools.filter(|(_, pool)| inventory.is_specified(pool) && !pool.devices.is_empty());
    let mut all: BTreeMap<String, Specified<'_>> =
        pools.map(|(name, pool)| Specified::of_pool(name, pool)).collect();
    for left in &inventory.left {
        let file = place(inventory, left, |file| all.get(file).map(|spec| spec.kind));
        let spec =
            all.entry(file).or_insert_with(|| Specified { kind: left.kind(), pool: None, left: Vec::new() });
        spec.left.push(left);
    }
    all
}

impl<'a> Specified<'a> {
    fn of_pool(name: &'a PoolName, pool: &'a Pool) -> (String, Self) {
        (cdi::file(name.as_str()), Self { kind: &pool.kind, pool: Some((name, pool)), left: Vec::new() })
    }

    fn devices(&self) -> impl Iterator<Item = Cow<'a, Device>> + Clone {
        let device = |name, pool, device: &Arc<Eligible>| Device {
            name: device.id.clone(),
            container_edits: edits(name, pool, device),
        };
        let of_pool = self.pool.into_iter().flat_map(move |(name, pool)| {
            pool.devices.values().map(move |eligible| Cow::Owned(device(name, pool, eligible)))
        });
        of_pool.chain(self.left.clone().into_iter().flat_map(Spec::devices).map(Cow::Borrowed))
    }

    fn document(&self) -> Vec<u8> {
        cdi::document(self.kind, self.devices())
    }
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
