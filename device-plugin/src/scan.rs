//! The command `scan`: every VF of the node, its verdicts, and why it is or isn't advertised.
//!
//! It makes, binds and advertises nothing; like `run`, it attaches one free VF a PF where no earlier attach is known.

use std::fmt::Write;

use doorbell_common::doorbell::{Granularity, Refusal};
use doorbell_common::host::{self, Host};
use doorbell_common::kernel::pci::PciAddress;
use doorbell_common::kernel::vfio::Way;
use serde::Serialize;

use crate::config::{Config, PoolName};
use crate::discovery::{self, Assignment, Survey, Unreadable, Vf};
use crate::prepare::{self, Binding};
use crate::proof;

/// One VF as `scan` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Where it is.
    pub address: PciAddress,
    /// Its PF.
    pub pf: PciAddress,
    /// Number of the VF below its PF.
    pub index: u32,
    /// PCI vendor and device id, `1af4:1041`.
    pub ids: String,
    /// Bound driver.
    pub driver: Option<String>,
    /// IOMMU group.
    pub iommu_group: Option<u32>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// Isolation class; `none` where nothing confines it, `unproven` where that is not known yet.
    pub isolation: String,
    /// Doorbell verdict: `exclusive`, `shared`, `none`, `unverifiable`.
    pub doorbell: String,
    /// What one page rings: `device` or `queue`.
    pub granularity: Option<Granularity>,
    /// Pool that selects it.
    pub pool: Option<String>,
    /// Later pools that select it too and do not get it.
    pub also_selected_by: Vec<PoolName>,
    /// Whether `run` advertises it as it stands.
    pub advertised: bool,
    /// Why not, a reason a line; empty for an advertised one.
    pub reasons: Vec<String>,
}

/// Every VF, in bus order. Without a config no pool selects anything.
pub fn rows(host: &Host, config: Option<&Config>, page: u64) -> host::Result<Vec<Row>> {
    let mut survey = discovery::survey(host, page)?;
    let assigned = config.map(|config| survey.assign(config)).unwrap_or_default();
    // Before the attach is asked for: a VF that is yet to be bound can't be attached.
    let bindings = config.map(|config| prepare::bindings(config, &survey)).unwrap_or_default();
    proof::confirm(host, &mut survey, |address| assigned.contains_key(&address));
    let mut rows: Vec<Row> = survey
        .vfs
        .iter()
        .map(|(address, vf)| {
            let binding = bindings.get(address).map(|binding| promise(host, *address, binding));
            row(host, vf, assigned.get(address), binding)
        })
        .collect();
    rows.extend(unreadable(&survey));
    rows.sort_by_key(|row| row.address);
    Ok(rows)
}

fn row(host: &Host, vf: &Vf, assignment: Option<&Assignment>, binding: Option<String>) -> Row {
    let way = assignment.map_or(Way::default(), |assignment| assignment.way);
    let Vf { pf, index, device } = vf;
    let function = &device.function;
    let mut reasons = device.eligible(host, way).err().unwrap_or_default();
    reasons.extend(binding);
    if assignment.is_none() {
        reasons.push("no pool selects it".to_owned());
    }
    let verdict = device.doorbell.as_ref();
    Row {
        address: function.address,
        pf: *pf,
        index: *index,
        ids: format!("{:04x}:{:04x}", function.vendor, function.device),
        driver: function.driver.clone(),
        iommu_group: device.iommu_group.map(|group| group.0),
        numa_node: function.numa_node,
        isolation: match &device.isolation {
            Ok(isolation) => isolation.class.to_string(),
            Err(refusal) => refusal.verdict().to_owned(),
        },
        doorbell: verdict.map_or_else(Refusal::verdict, |_| "exclusive").to_owned(),
        granularity: verdict.ok().map(|doorbell| doorbell.granularity),
        pool: assignment.map(|assignment| assignment.pool.to_string()),
        also_selected_by: assignment.map(|assignment| assignment.also.clone()).unwrap_or_default(),
        advertised: reasons.is_empty(),
        reasons,
    }
}

/// `scan` binds nothing, so a VF that `run` has yet to bind is told apart from one that nobody will.
fn promise(host: &Host, address: PciAddress, Binding { driver, .. }: &Binding) -> String {
    match prepare::free(host, address) {
        Ok(()) => format!("`run` binds it to {driver} first"),
        Err(reason) => format!("`run` does not bind it to {driver}: {reason}"),
    }
}

fn unreadable(survey: &Survey) -> impl Iterator<Item = Row> {
    survey.unreadable.iter().map(|(address, Unreadable { pf, index, reason })| Row {
        address: *address,
        pf: *pf,
        index: *index,
        ids: "unreadable".to_owned(),
        driver: None,
        iommu_group: None,
        numa_node: None,
        isolation: "unproven".to_owned(),
        doorbell: "unverifiable".to_owned(),
        granularity: None,
        pool: None,
        also_selected_by: Vec::new(),
        advertised: false,
        reasons: vec![reason.clone()],
    })
}

/// The rows as a table for people; below a row its overlap with other pools, and its reasons.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    const NONE: &str = "-";
    let text = |value: Option<String>| value.unwrap_or_else(|| NONE.to_owned());
    let header =
        ["ADDRESS", "PF", "VF", "ID", "DRIVER", "GROUP", "ISOLATION", "DOORBELL", "POOL", "ADVERTISED"];
    let lines: Vec<[String; 10]> = rows
        .iter()
        .map(|row| {
            let granularity = row.granularity.map(|granularity| format!(" {granularity}"));
            let doorbell = row.doorbell.clone() + &granularity.unwrap_or_default();
            [
                row.address.to_string(),
                row.pf.to_string(),
                row.index.to_string(),
                row.ids.clone(),
                text(row.driver.clone()),
                text(row.iommu_group.map(|group| group.to_string())),
                row.isolation.clone(),
                doorbell,
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
