//! The command `scan`: every sub-device of the node, its verdicts, and why it is or isn't advertised.
//!
//! It makes, binds and advertises nothing; like `run`, it attaches one free VF a PF where no earlier attach is known.

use std::fmt::Write;

use doorbell_common::doorbell::{Granularity, Refusal};
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::{
    Access, Child, DeviceId, Effective, Eligible, Mediation, Parent, Reasons, Registers, VirtualFunction,
};
use serde::Serialize;
use tracing::warn;

use crate::config::{Config, PoolName};
use crate::discovery::{self, Assignment, Survey, Unreadable, Vf};
use crate::prepare::{self, Plan};
use crate::proof;

/// One sub-device, or one parent that none stands on yet, as `scan` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Its id.
    pub id: String,
    /// What it stands on.
    pub parent: Parent,
    /// The PF that made its function.
    pub pf: Option<String>,
    /// Number of the VF below its PF, or of the sub-function.
    pub index: Option<u32>,
    /// PCI vendor and device id of its function, `1af4:1041`.
    pub ids: Option<String>,
    /// Driver of the parent.
    pub driver: Option<String>,
    /// Name of the vDPA device or UUID of the mdev, where it is one.
    pub child: Option<String>,
    /// How it is driven: as its pool says, or as it stands.
    pub access: Access,
    /// Whether its consumer reaches registers beyond the doorbell.
    pub registers: Registers,
    /// Who stands between the consumer and the control path.
    pub mediation: Mediation,
    /// The IOMMU group that its DMA goes through: its parent's.
    pub iommu_group: Option<u32>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Virtio device type.
    pub virtio_type: Option<u16>,
    /// Isolation class; `none` where nothing confines it, `unproven` where that is not known yet.
    pub isolation: String,
    /// Doorbell verdict of the hardware: `exclusive`, `shared`, `none`, `unverifiable`.
    pub doorbell: String,
    /// What one page rings: `device` or `queue`.
    pub granularity: Option<Granularity>,
    /// How a ring of the consumer reaches the hardware; of one that is not eligible it is not known.
    pub effective: Option<Effective>,
    /// Pool that selects it.
    pub pool: Option<String>,
    /// Later pools that select it too and do not get it.
    pub also_selected_by: Vec<PoolName>,
    /// Whether `run` advertises it as it stands.
    pub advertised: bool,
    /// Why not, a reason a line; empty for an advertised one.
    pub reasons: Vec<String>,
}

/// Every sub-device, VFs first in bus order. Without a config no pool selects anything.
pub fn rows(host: &Host, config: Option<&Config>, page: u64) -> host::Result<Vec<Row>> {
    let survey = discovery::survey(host, page)?;
    if let Some(reason) = &survey.unlisted {
        warn!(reason, "vDPA management devices not listed");
    }
    let assigned = config.map(|config| survey.assign(config)).unwrap_or_default();
    // Before the attach is asked for: a VF that is yet to be bound can't be attached.
    let plans = config.map(|config| prepare::plans(config, &survey)).unwrap_or_default();
    let survey = proof::confirm(host, &survey, |address| assigned.contains_key(&Parent::Vf(address)));
    let mut rows = Vec::new();
    for parent in survey.parents() {
        let assignment = assigned.get(&parent);
        let promise = plans.get(&parent).and_then(|plan| promise(host, &survey, plan));
        rows.extend(of_parent(host, &survey, &parent, assignment, promise.as_deref(), page));
    }
    rows.extend(unreadable(&survey));
    rows.sort_by(|a, b| (&a.parent, &a.id).cmp(&(&b.parent, &b.id)));
    Ok(rows)
}

fn of_parent(
    host: &Host,
    survey: &Survey,
    parent: &Parent,
    assignment: Option<&Assignment>,
    promise: Option<&str>,
    page: u64,
) -> Vec<Row> {
    let driven = survey.driven(parent, assignment);
    let access = driven.access;
    let finish = |mut row: Row| {
        row.reasons.extend(promise.map(str::to_owned));
        if assignment.is_none() {
            row.reasons.push("no pool selects it".to_owned());
        }
        row.pool = assignment.map(|assignment| assignment.pool.to_string());
        row.also_selected_by = assignment.map(|assignment| assignment.also.clone()).unwrap_or_default();
        row.advertised = row.reasons.is_empty();
        row
    };
    let devices = survey.sub_devices(host, parent, driven, page);
    if devices.is_empty() {
        let mut row = bare(survey, parent, access);
        row.reasons.push("nothing stands on it".to_owned());
        return vec![finish(row)];
    }
    let row = |(id, device): (DeviceId, Result<Eligible, Reasons>)| {
        let mut row = Row { id: id.to_string(), ..bare(survey, parent, access) };
        match device {
            Ok(eligible) => passed(&mut row, &eligible),
            Err(reasons) => row.reasons = reasons.iter().map(ToString::to_string).collect(),
        }
        finish(row)
    };
    devices.into_iter().map(row).collect()
}

/// What a parent shows by itself.
fn bare(survey: &Survey, parent: &Parent, access: Access) -> Row {
    let row = Row {
        id: parent.to_string(),
        parent: parent.clone(),
        pf: None,
        index: None,
        ids: None,
        driver: None,
        child: None,
        access,
        registers: access.registers(),
        mediation: access.mediation(parent),
        iommu_group: None,
        numa_node: None,
        virtio_type: None,
        isolation: "none".to_owned(),
        doorbell: Refusal::NotPci.verdict().to_owned(),
        granularity: None,
        effective: None,
        pool: None,
        also_selected_by: Vec::new(),
        advertised: false,
        reasons: Vec::new(),
    };
    match parent {
        Parent::Vf(address) => match survey.vfs.get(address) {
            Some(vf) => of_vf(row, vf),
            None => row,
        },
        Parent::Sf(address) => match survey.sfs.get(address) {
            Some(sf) => Row {
                pf: Some(sf.parent.to_string()),
                index: Some(sf.number),
                driver: sf.driver.clone(),
                numa_node: sf.numa_node,
                ..row
            },
            None => row,
        },
        Parent::Device(_) => row,
    }
}

fn of_vf(row: Row, vf: &Vf) -> Row {
    let Vf { pf, index, device } = vf;
    let VirtualFunction { function, isolation, doorbell, .. } = &**device;
    let verdict = doorbell.as_ref();
    Row {
        pf: Some(pf.to_string()),
        index: Some(*index),
        ids: Some(function.ids.to_string()),
        driver: function.driver.as_deref().map(str::to_owned),
        iommu_group: device.iommu_group.map(|group| group.0),
        numa_node: function.numa_node,
        virtio_type: device.virtio_type,
        isolation: match isolation {
            Ok(isolation) => isolation.class.to_string(),
            Err(refusal) => refusal.verdict().to_owned(),
        },
        doorbell: verdict.map_or_else(Refusal::verdict, |_| "exclusive").to_owned(),
        granularity: verdict.ok().map(|doorbell| doorbell.granularity),
        ..row
    }
}

fn passed(row: &mut Row, device: &Eligible) {
    row.child = match &device.child {
        Child::None => None,
        Child::Vdpa { name, .. } => Some(name.to_string()),
        Child::Mdev(uuid) => Some(uuid.to_string()),
    };
    row.driver = device.driver.as_deref().map(str::to_owned);
    row.iommu_group = device.isolation.group.map(|group| group.0);
    row.isolation = device.isolation.class.to_string();
    row.virtio_type = device.virtio_type;
    row.effective = Some(device.effective);
}

/// `scan` makes and binds nothing, so what `run` has yet to prepare is told apart from what nobody will.
fn promise(host: &Host, survey: &Survey, plan: &Plan) -> Option<String> {
    let change = plan.change(survey)?;
    Some(match prepare::would_be_made(host, survey, plan, &change) {
        Ok(()) => format!("`run` {} first", change.does()),
        Err(reason) => format!("`run` {}: {reason}", change.does_not()),
    })
}

fn unreadable(survey: &Survey) -> impl Iterator<Item = Row> {
    survey.unreadable.iter().map(|(address, Unreadable { pf, index, reason })| Row {
        pf: Some(pf.to_string()),
        index: Some(*index),
        isolation: "unproven".to_owned(),
        doorbell: "unverifiable".to_owned(),
        reasons: vec![reason.clone()],
        ..bare(survey, &Parent::Vf(*address), Access::Vfio)
    })
}

/// The rows as a table for people; below a row its overlap with other pools, and its reasons.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    const NONE: &str = "-";
    let text = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
    let header = [
        "ID",
        "PARENT",
        "PF",
        "NR",
        "PCI",
        "DRIVER",
        "ACCESS",
        "REGISTERS",
        "MEDIATION",
        "GROUP",
        "ISOLATION",
        "DOORBELL",
        "RUNG",
        "POOL",
        "ADVERTISED",
    ];
    let lines: Vec<[String; 15]> = rows
        .iter()
        .map(|row| {
            let granularity = row.granularity.map(|granularity| format!(" {granularity}"));
            let doorbell = row.doorbell.clone() + &granularity.unwrap_or_default();
            let parent = row.parent.to_string();
            [
                row.id.clone(),
                if parent == row.id { row.parent.kind().to_owned() } else { parent },
                text(row.pf.clone()),
                text(row.index.map(|index| index.to_string())),
                text(row.ids.clone()),
                text(row.driver.clone()),
                row.access.to_string(),
                row.registers.to_string(),
                row.mediation.to_string(),
                text(row.iommu_group.map(|group| group.to_string())),
                row.isolation.clone(),
                doorbell,
                text(row.effective.map(|effective| effective.to_string())),
                text(row.pool.clone()),
                if row.advertised { "yes" } else { "no" }.to_owned(),
            ]
        })
        .collect();
    let width = |column: usize| {
        lines.iter().map(|line| line[column].len()).chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let join = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut table = join(header.to_vec()) + "\n";
    for (row, line) in rows.iter().zip(&lines) {
        table += &(join(line.iter().map(String::as_str).collect()) + "\n");
        for remark in discovery::overlap(&row.also_selected_by).iter().chain(&row.reasons) {
            // Writing to a string does not fail.
            let _ = writeln!(table, "    {remark}");
        }
    }
    table
}
