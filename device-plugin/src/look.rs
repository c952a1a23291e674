//! A look at the host: what it has, prepared as the config asks, and the inventory of that. The first look is whole; each
//! later one starts from what the one before knew.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use doorbell_common::formats::cdi::{self, Spec};
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::{DeviceId, Eligible};

use crate::allocated;
use crate::config::Config;
use crate::discovery::{self, Survey, Touched};
use crate::inventory::{self, Before, Inventory};
use crate::prepare::{self, Allocated, Settled};
use crate::publish;
use crate::tasks::aside;

/// Why the host is looked at again.
#[derive(Debug, Clone)]
pub enum Cause {
    /// The kernel said that something was touched.
    Touched(Touched),
    /// Another config is in force.
    Config(Arc<Config>),
    /// Time has passed: what the kernel does not say, or was not heard, shows now.
    Resync,
}

impl Cause {
    /// This cause, with one whose look failed.
    #[must_use]
    pub fn with(self, failed: Option<Self>) -> Self {
        match (self, failed) {
            (cause, None) | (cause @ Self::Config(_), _) | (_, Some(cause @ Self::Config(_))) => cause,
            _ => Self::Resync,
        }
    }
}

/// What was seen of the host by the last look.
#[derive(Debug, Clone)]
pub struct Seen {
    config: Arc<Config>,
    survey: Arc<Survey>,
    settled: Settled,
    /// What the look alone shows: who has a device open, and which links are up, comes on top.
    pub inventory: Arc<Inventory>,
}

impl Seen {
    /// The first look, and whether the CDI specifications that stand are those of what was seen.
    pub async fn first(host: &Host, config: Arc<Config>, page: u64) -> Result<(Self, bool)> {
        let survey = blocking(host, move |host| discovery::survey(&host.for_a_look(), page)).await?;
        let (survey, settled) = bring_about(host, &config, survey, Settled::default(), true, page).await?;
        let of = Arc::clone(&config);
        let (survey, mut inventory, is_specified, before) = blocking(host, move |host| {
            let inventory = inventory::list(&host.for_a_look(), &of, &survey, None, page);
            let is_specified = publish::is_specified(host, &inventory)?;
            let before = if is_specified { Vec::new() } else { cdi::read(host)? };
            Ok((survey, inventory, is_specified, before))
        })
        .await?;
        leave(host, &mut inventory, before).await;
        let (survey, inventory) = (Arc::new(survey), Arc::new(inventory));
        Ok((Self { config, survey, settled, inventory }, is_specified))
    }

    /// The config that it was looked at with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A glance at what was just touched, of which more may be to come: nothing is prepared yet, and nothing leaves the
    /// list. Devices that may not be handed out any more are unhealthy at once.
    pub async fn glance(&mut self, host: &Host, touched: Touched, page: u64) -> Result<()> {
        let before = self.before();
        let config = Arc::clone(&self.config);
        let look = move |host: &Host| {
            let survey = before.survey.again(host, page, &touched)?;
            let mut inventory = inventory::list(host, &config, &survey, Some(&before), page);
            let there = |device: &Eligible| survey.has(&device.parent);
            inventory.leave_undecided(&before.inventory, there);
            inventory.left.clone_from(&before.inventory.left);
            inventory.share(&before.inventory);
            Ok((Arc::new(survey), Arc::new(inventory)))
        };
        (self.survey, self.inventory) = blocking(host, look).await?;
        Ok(())
    }

    /// The next look.
    pub async fn next(&self, host: &Host, cause: &Cause, page: u64) -> Result<Self> {
        let touched = match cause {
            Cause::Touched(touched) => touched.clone(),
            Cause::Config(_) | Cause::Resync => Touched::everything(),
        };
        let before = Arc::clone(&self.survey);
        let at_all = touched.is_everything();
        let survey = blocking(host, move |host| before.again(&as_many(host, at_all), page, &touched)).await?;
        let mut settled = self.settled.clone();
        let (mut config, mut withdraw) = (Arc::clone(&self.config), false);
        match cause {
            Cause::Touched(touched) => settled.forget(&survey, touched),
            Cause::Config(other) => {
                prepare::forget_what_changes(&mut settled, &survey, &config, other);
                (config, withdraw) = (Arc::clone(other), true);
            }
            Cause::Resync => {
                settled.forget(&survey, &Touched::default());
                withdraw = settled.try_again();
            }
        }
        let (survey, settled) = bring_about(host, &config, survey, settled, withdraw, page).await?;
        let (before, of) = (self.before(), Arc::clone(&config));
        let (survey, mut inventory) = blocking(host, move |host| {
            let host = as_many(host, at_all);
            let mut inventory = inventory::list(&host, &of, &survey, Some(&before), page);
            inventory.share(&before.inventory);
            Ok((survey, inventory))
        })
        .await?;
        if !publish::has_same_files(&self.inventory, &inventory) {
            leave(host, &mut inventory, publish::specifications(&self.inventory)).await;
        }
        Ok(Self { config, survey: Arc::new(survey), settled, inventory: Arc::new(inventory) })
    }

    fn before(&self) -> Before {
        let (config, survey) = (Arc::clone(&self.config), Arc::clone(&self.survey));
        Before { config, survey, inventory: Arc::clone(&self.inventory) }
    }
}

/// The host as it is asked of all devices, or of a few.
fn as_many(host: &Host, all: bool) -> Host {
    if all { host.for_a_look() } else { host.clone() }
}

/// Leaves to pods that may have them the specifications from before of devices that are not specified any more: by
/// them Kata makes a sandbox, and a runtime a container that the kubelet is about to start.
async fn leave(host: &Host, inventory: &mut Inventory, before: Vec<Spec>) {
    if before.is_empty() {
        return;
    }
    let now = publish::specifications(inventory);
    let specified: BTreeSet<(&str, &DeviceId)> =
        now.iter().flat_map(|spec| spec.ids().map(|id| (spec.kind(), id))).collect();
    let gone = before.into_iter().filter_map(|spec| {
        let kind = spec.kind().to_owned();
        spec.only(|id| !specified.contains(&(kind.as_str(), id)))
    });
    let gone: Vec<Spec> = gone.collect();
    if gone.is_empty() {
        return;
    }
    let allocated = allocated::ask(host).await;
    let left = gone.into_iter().filter_map(|spec| spec.only(|id| allocated.holder(host, id).is_some()));
    inventory.left = left.collect();
}

/// Brings about what is due, if anything is: the kubelet is asked first what it has given away.
async fn bring_about(
    host: &Host,
    config: &Arc<Config>,
    survey: Survey,
    mut settled: Settled,
    withdraw: bool,
    page: u64,
) -> Result<(Survey, Settled)> {
    if !withdraw && !prepare::is_due(config, &survey, &settled) {
        return Ok((survey, settled));
    }
    let allocated = allocated::ask(host).await;
    let config = Arc::clone(config);
    blocking(host, move |host| {
        let survey = prepared(host, &config, survey, &allocated, &mut settled, withdraw, page)?;
        Ok((survey, settled))
    })
    .await
}

/// Prepares what the config asks for and lists what may be handed out, once. `allocated` is what the kubelet has given
/// away.
pub fn once(host: &Host, config: &Config, allocated: &Allocated, page: u64) -> host::Result<Inventory> {
    let survey = discovery::survey(host, page)?;
    let survey = prepared(host, config, survey, allocated, &mut Settled::default(), true, page)?;
    Ok(inventory::list(host, config, &survey, None, page))
}

/// Brings about what the config wants that is not settled, after what it does not want any more was taken back, if
/// `withdraw` says so. What the host has then.
fn prepared(
    host: &Host,
    config: &Config,
    mut survey: Survey,
    allocated: &Allocated,
    settled: &mut Settled,
    withdraw: bool,
    page: u64,
) -> host::Result<Survey> {
    let mut changed = withdraw && prepare::withdraw(host, config, &survey, allocated, settled);
    changed |= prepare::make_vfs(host, config, &survey, settled);
    if changed {
        survey = discovery::survey(host, page)?;
    }
    if prepare::carry_out(host, config, &survey, allocated, settled) {
        survey = discovery::survey(host, page)?;
    }
    Ok(survey)
}

/// Reads and binds beside the tasks that answer the kubelet: some drivers take seconds.
async fn blocking<T: Send + 'static>(
    host: &Host,
    work: impl FnOnce(&Host) -> host::Result<T> + Send + 'static,
) -> Result<T> {
    aside(host, |host| Ok(work(host)?)).await.context("look at the host")
}
