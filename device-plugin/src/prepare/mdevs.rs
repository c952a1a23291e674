//! Making mdevs.

use std::collections::BTreeSet;

use doorbell_common::error::chain;
use doorbell_common::host::Host;
use doorbell_common::kernel::mdev;
use doorbell_common::subdevice::Parent;
use tracing::info;

use super::made::{Made, Step};
use super::plan::Plan;
use crate::config::MdevType;
use crate::discovery::{Other, Survey};

/// What our mdevs' UUIDs are derived in: drawn once, for good.
const NAMESPACE: uuid::Uuid = uuid::uuid!("5f1c6a52-6f0a-4b3c-9d8f-0d6c7c6f2b11");

/// Makes as many mdevs on a parent as are still wanted, and its type has.
pub(super) fn make(host: &Host, survey: &Survey, plan: &Plan) -> Result<(), String> {
    let (Parent::Device(name), Some(kind)) = (&plan.parent, &plan.prepare.mdev_type) else { return Ok(()) };
    let Some(Other::Mdev { mdevs, .. }) = survey.others.get(name) else { return Ok(()) };
    let there: BTreeSet<String> = mdevs.iter().map(ToString::to_string).collect();
    let missing = plan.count().saturating_sub(there.len());
    let ours = (0..plan.count()).map(|number| uuid(&plan.parent, kind, number));
    for uuid in ours.filter(|uuid| !there.contains(uuid)).take(missing) {
        let uuid: mdev::Uuid = uuid.parse().map_err(|_| format!("{uuid} is no UUID to the kernel"))?;
        let mut made = Made::of(host, name.as_str())?;
        made.will(host, Step::Mdev(uuid.clone())).map_err(|error| chain(&error))?;
        if let Err(error) = mdev::create(host, name.as_str(), &kind.to_string(), &uuid) {
            // One of that name is somebody else's.
            made.undone(host, &Step::Mdev(uuid)).map_err(|error| chain(&error))?;
            return Err(chain(&error));
        }
        info!(pool = %plan.pool, parent = %name, %uuid, kind = %kind, "mdev made");
    }
    Ok(())
}

/// The same at each start, so that a pod finds its device again after a reboot.
pub(super) fn uuid(parent: &Parent, kind: &MdevType, number: usize) -> String {
    uuid::Uuid::new_v5(&NAMESPACE, format!("{parent}/{kind}/{number}").as_bytes()).to_string()
}
