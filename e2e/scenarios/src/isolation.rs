//! Machines on which nothing may be advertised, and what `scan` says of them.

use anyhow::{Result, ensure};
use e2e_kubelet::NodeView;

use crate::Story;
use crate::rig::WITHIN;
use crate::rig::node::Node;
use crate::rig::plugin::{self, FAST, Plugin};

const CONFIG: &str = "\
apiVersion: doorbell.dev/v1
pools:
- name: fast
  access: vfio
  select: {pfNames: ['0000:01:00.0']}
  prepare: {numVfs: 2}
";

/// No IOMMU: no group, so nothing is even taken off its driver.
pub(crate) async fn no_iommu(story: Story) -> Result<()> {
    refused(&story, "no IOMMU group").await?;
    for row in plugin::scan().await? {
        ensure!(row["driver"] != "vfio-pci", "bound though nothing isolates it: {row}");
    }
    Ok(())
}

/// No interrupt remapping: sysfs looks as it should, and the attach fails.
pub(crate) async fn no_interrupt_remapping(story: Story) -> Result<()> {
    refused(&story, "VFIO_SET_IOMMU on /dev/vfio/").await?;
    for row in plugin::scan().await? {
        ensure!(
            row["iommuGroup"].is_number() && row["driver"] == "vfio-pci",
            "not as far as the attach: {row}"
        );
        ensure!(row["reasons"].to_string().contains("EPERM"), "{row}");
    }
    Ok(())
}

async fn refused(story: &Story, reason: &str) -> Result<()> {
    let node = Node::start().await?;
    let _plugin = Plugin::start(CONFIG).await?;
    let listed = |view: &NodeView| view.resources.get(FAST).is_some_and(|resource| resource.listed);
    node.kubelet.wait_until("the first list", listed, WITHIN).await?;
    ensure!(node.kubelet.capacity(FAST) == 0, "a VF is advertised");
    let rows = plugin::scan().await?;
    story.quote(plugin::scan_table().await?);
    ensure!(rows.len() == 2, "{} VFs, not 2", rows.len());
    for row in rows {
        ensure!(row["advertised"] == false && row["isolation"] == "none", "{row}");
        ensure!(row["reasons"].to_string().contains(reason), "{row}");
    }
    story.tell("both VFs are refused with the reason, and the pool is registered empty");
    Ok(())
}
