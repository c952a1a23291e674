//! A look at the host: what it has, prepared as the config asks, and the inventory of that. The first look is whole; each
//! later one starts from what the one before knew.

use std::sync::Arc;

use anyhow::{Context, Result};
use doorbell_common::formats::cdi::{self, Spec};
use doorbell_common::host::{self, Host};
use doorbell_common::subdevice::{DeviceId, Eligible};

use crate::allocated;
use crate::config::{Config, PoolName};
use crate::discovery::{self, Survey, Touched};
use crate::inventory::{self, Inventory};
use crate::prepare::{self, Allocated, Settled};
use crate::publish;

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
    survey: Survey,
    settled: Settled,
    /// What the look alone shows: who has a device open, and which links are up, comes on top.
    pub inventory: Inventory,
}

impl Seen {
    /// The first look.
    pub async fn first(host: &Host, config: Arc<Config>, page: u64) -> Result<Self> {
        let survey = blocking(host, move |host| discovery::survey(host, page)).await?;
        let mut first = Self::of(host, config, survey, Settled::default(), true, page).await?;
        let before = blocking(host, cdi::read).await?;
        first.leave(host, before).await;
        Ok(first)
    }

    /// The config that it was looked at with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The next look.
    pub async fn next(&self, host: &Host, cause: &Cause, page: u64) -> Result<Self> {
        let touched = match cause {
            Cause::Touched(touched) => touched.clone(),
            Cause::Config(_) | Cause::Resync => Touched::everything(),
        };
        let before = self.survey.clone();
        let survey = blocking(host, move |host| before.again(host, page, &touched)).await?;
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
        let mut next = Self::of(host, config, survey, settled, withdraw, page).await?;
        let same = |name: &PoolName| self.config.pool(name) == next.config.pool(name);
        let there = |device: &Eligible| next.survey.has(&device.parent);
        next.inventory.keep(&self.inventory, same, there);
        next.leave(host, publish::specifications(&self.inventory)).await;
        Ok(next)
    }

    /// Leaves to pods that may have them the specifications from before of devices that are not specified any more: by
    /// them Kata makes a sandbox, and a runtime a container that the kubelet is about to start.
    async fn leave(&mut self, host: &Host, before: Vec<Spec>) {
        let now = publish::specifications(&self.inventory);
        if before == now {
            return;
        }
        let is_specified =
            |kind: &str, id: &DeviceId| now.iter().any(|spec| spec.kind() == kind && spec.has(id));
        let gone = before.into_iter().filter_map(|spec| {
            let kind = spec.kind().to_owned();
            spec.only(|id| !is_specified(&kind, id))
        });
        let gone: Vec<Spec> = gone.collect();
        if gone.is_empty() {
            return;
        }
        let allocated = allocated::ask(host).await;
        let left = gone.into_iter().filter_map(|spec| spec.only(|id| allocated.holder(host, id).is_some()));
        self.inventory.left = left.collect();
    }

    async fn of(
        host: &Host,
        config: Arc<Config>,
        mut survey: Survey,
        mut settled: Settled,
        withdraw: bool,
        page: u64,
    ) -> Result<Self> {
        if withdraw || prepare::is_due(&config, &survey, &settled) {
            let allocated = allocated::ask(host).await;
            let config = Arc::clone(&config);
            (survey, settled) = blocking(host, move |host| {
                let survey = prepared(host, &config, survey, &allocated, &mut settled, withdraw, page)?;
                Ok((survey, settled))
            })
            .await?;
        }
        let of = Arc::clone(&config);
        let (survey, inventory) = blocking(host, move |host| {
            let inventory = inventory::list(host, &of, &survey, page);
            Ok((survey, inventory))
        })
        .await?;
        Ok(Self { config, survey, settled, inventory })
    }
}

/// Prepares what the config asks for and lists what may be handed out, once. `allocated` is what the kubelet has given
/// away.
pub fn once(host: &Host, config: &Config, allocated: &Allocated, page: u64) -> host::Result<Inventory> {
    let survey = discovery::survey(host, page)?;
    let survey = prepared(host, config, survey, allocated, &mut Settled::default(), true, page)?;
    Ok(inventory::list(host, config, &survey, page))
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
    let host = host.clone();
    let done = tokio::task::spawn_blocking(move || work(&host)).await;
    done.context("a look at the host panicked")?.context("look at the host")
}
