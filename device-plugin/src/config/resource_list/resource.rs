//! One resource of the list, as a pool.

use std::collections::{BTreeMap, BTreeSet};

use doorbell_common::subdevice::Access;

use super::super::{
    AdditionalInfo, AllocationPolicy, Iommufd, NodePermissions, PfLinkDown, Pool, PoolName, ResourceName,
    Runtime, Selection,
};
use super::device_type::DeviceType;
use super::selectors::{self, Set};
use super::tree::At;

/// The longest name that is made of a resource's, so that a number still fits behind it.
const NAME_LENGTH: usize = 40;

/// Names that are taken: of pools, and of resources.
#[derive(Default)]
pub(super) struct Names {
    pools: BTreeSet<String>,
    resources: BTreeSet<String>,
}

/// The pool of a resource; `None` where something of it is refused.
pub(super) fn pool(resource: &At<'_>, prefix: &str, names: &mut Names) -> Option<Pool> {
    let mut fields = resource.fields();
    let name = fields.take("resourceName").and_then(|field| Some((field.text()?, field)));
    let own_prefix =
        fields.take("resourcePrefix").and_then(|field| field.text()).filter(|text| !text.is_empty());
    let device_type = match fields.take("deviceType") {
        Some(field) => DeviceType::read(&field),
        None => Some(DeviceType::NetDevice),
    };
    let exclude_topology = fields.take("excludeTopology").is_some_and(|field| field.bool() == Some(true));
    let selectors = fields.take("selectors");
    let info = fields.take("additionalInfo");
    fields.ignore_rest("it has no meaning");

    let Some((name, at)) = name else {
        resource.refuse("no `resourceName` is given");
        return None;
    };
    let full: Option<ResourceName> = at.parsed(&format!("{}/{name}", own_prefix.unwrap_or(prefix)));
    let full = full.filter(|full| {
        let is_new = names.resources.insert(full.to_string());
        if !is_new {
            at.refuse(format!("resource `{full}` is there already"));
        }
        is_new
    });
    let device_type = device_type?;
    let additional_info = info.map(|info| additional_info(&info, device_type)).unwrap_or_default();
    let Some(selectors) = selectors else {
        resource.refuse(
            "no `selectors` are given, and sriov-dp ends at that; `[{}]` selects every device of its type",
        );
        return None;
    };
    let at_sets = if selectors.is_map() { vec![selectors.clone()] } else { selectors.list() };
    if at_sets.is_empty() && !selectors.is_map() {
        selectors.refuse("no selectors are given, and sriov-dp leaves the resource out");
    }
    let sets: Vec<Option<Set>> = at_sets.iter().map(|at| selectors::read(at, device_type)).collect();
    let sets: Vec<Set> = sets.into_iter().collect::<Option<_>>()?;
    let (access, vhost_net) = alike(&at_sets, &sets)?;
    Some(Pool {
        name: names.pool(name)?,
        resource: Some(full?),
        access,
        runtime: Runtime::Runc,
        select: Selection::of(sets.into_iter().map(|set| set.select).collect())?,
        prepare: None,
        iommufd: Iommufd::default(),
        require_cni: access.is_netdev(),
        allocation: AllocationPolicy::default(),
        node: NodePermissions::default(),
        pf_link_down: PfLinkDown::default(),
        exclude_topology,
        vhost_net,
        additional_info,
    })
}

/// What all sets of a pool have in common; there, each device has what its own set says.
fn alike(at: &[At<'_>], sets: &[Set]) -> Option<(Access, bool)> {
    let first = sets.first()?;
    let mut same = true;
    for (at, set) in at.iter().zip(sets).skip(1) {
        if set.access != first.access {
            at.refuse(format!(
                "its devices are handed out by {}, those of selectors[0] by {}, and a pool has one access mode: make it \
                 a resource of its own",
                set.access, first.access
            ));
            same = false;
        }
        if set.vhost_net != first.vhost_net {
            at.refuse(
                "its `needVhostNet` is another than that of selectors[0], and a pool has one: make it a resource of its \
                 own",
            );
            same = false;
        }
    }
    same.then_some((first.access, first.vhost_net))
}

fn additional_info(info: &At<'_>, device_type: DeviceType) -> AdditionalInfo {
    let mut told = AdditionalInfo::default();
    for (key, texts) in info.entries() {
        let texts_of = |(name, text): (&str, At<'_>)| Some((name.to_owned(), text.text()?.to_owned()));
        let by_name: BTreeMap<String, String> = texts.entries().into_iter().filter_map(texts_of).collect();
        if device_type == DeviceType::AuxNetDevice && key != "*" {
            texts.refuse("a function's address names no sub-function here: name one by its id, in the YAML");
        } else if let Err(error) = told.add(key, by_name) {
            texts.refuse(error);
        }
    }
    told
}

impl Names {
    /// A name for the pool of a resource: in lower case, with dashes, and with a number where others have it.
    fn pool(&mut self, resource: &str) -> Option<PoolName> {
        let plain = resource.to_ascii_lowercase().replace('_', "-");
        let starts_well = plain.starts_with(|first: char| first.is_ascii_lowercase());
        let plain = if starts_well && plain.len() > 1 { plain } else { format!("pool-{plain}") };
        let plain = plain.chars().take(NAME_LENGTH).collect::<String>();
        let plain = plain.trim_end_matches('-');
        let mut numbered = (2..).map(|number| format!("{plain}-{number}"));
        let mut name = plain.to_owned();
        while self.pools.contains(&name) {
            name = numbered.next()?;
        }
        self.pools.insert(name.clone());
        name.parse().ok()
    }
}
