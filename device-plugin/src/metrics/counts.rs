//! What is counted as it happens.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::PoolName;

/// The counters. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    reloads: Family<Reload, Counter>,
    config_refused: Gauge,
    rescans: Family<Rescan, Counter>,
    allocations: Family<Request, Counter>,
    starts: Family<Request, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rescan {
    scope: &'static str,
    outcome: &'static str,
}

/// Of the kubelet's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    pool: String,
    outcome: &'static str,
}

const APPLIED: Reload = Reload { outcome: "applied" };
const REFUSED: Reload = Reload { outcome: "refused" };
const SCOPES: [&str; 2] = [TOUCHED, EVERYTHING];
const TOUCHED: &str = "touched";
const EVERYTHING: &str = "everything";

impl Counts {
    /// Another config is in force.
    pub fn applied(&self) {
        self.reloads.get_or_create(&APPLIED).inc();
    }

    /// The file is not usable.
    pub fn refused(&self) {
        self.reloads.get_or_create(&REFUSED).inc();
        self.config_refused.set(1);
    }

    /// The file says what is in force.
    pub fn usable(&self) {
        self.config_refused.set(0);
    }

    /// The host was looked at again, or not: at everything, or at what was touched.
    pub fn rescanned(&self, everything: bool, done: bool) {
        let scope = if everything { EVERYTHING } else { TOUCHED };
        self.rescans.get_or_create(&Rescan { scope, outcome: if done { "done" } else { "failed" } }).inc();
    }

    /// The kubelet asked for devices of a container.
    pub fn allocated(&self, pool: &PoolName, granted: bool) {
        self.allocations.get_or_create(&request(pool, granted)).inc();
    }

    /// The kubelet asked whether a container may start with its devices.
    pub fn started(&self, pool: &PoolName, granted: bool) {
        self.starts.get_or_create(&request(pool, granted)).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        // These are there before the first of them.
        for reload in [APPLIED, REFUSED] {
            self.reloads.get_or_create(&reload).inc_by(0);
        }
        for scope in SCOPES {
            self.rescans.get_or_create(&Rescan { scope, outcome: "done" }).inc_by(0);
        }
        let told = "Changes of the config file, by what became of them";
        registry.register("config_reloads", told, self.reloads.clone());
        let told = "1 while the config file is not usable, and the config before it stays in force";
        registry.register("config_refused", told, self.config_refused.clone());
        let told = "Looks at the host after the first: at what the kernel said was touched, or at everything";
        registry.register("rescans", told, self.rescans.clone());
        let told = "Requests of the kubelet for devices of a container, by what became of them";
        registry.register("allocations", told, self.allocations.clone());
        let told = "Requests of the kubelet to start a container with its devices, by what became of them";
        registry.register("container_starts", told, self.starts.clone());
    }
}

fn request(pool: &PoolName, granted: bool) -> Request {
    Request { pool: pool.to_string(), outcome: if granted { "granted" } else { "refused" } }
}
