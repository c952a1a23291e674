//! Which pools the kubelet listens to: it has a stream of their lists open. That is what a registration comes to, whichever
//! way it was made, and what is over when the kubelet is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::PoolName;
use crate::inventory::Inventory;

/// Streams that are open, by pool. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Listening(Arc<Mutex<BTreeMap<PoolName, usize>>>);

/// A stream that is open, until it is dropped.
#[derive(Debug)]
pub struct Open {
    listening: Listening,
    pool: PoolName,
}

impl Listening {
    /// Another stream of a pool's.
    #[must_use]
    pub fn open(&self, pool: &PoolName) -> Open {
        self.change(pool, |count| count + 1);
        Open { listening: self.clone(), pool: pool.clone() }
    }

    /// The pools that nobody listens to.
    #[must_use]
    pub fn lacks(&self, inventory: &Inventory) -> Vec<PoolName> {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inventory.pools.keys().filter(|pool| !open.contains_key(*pool)).cloned().collect()
    }

    fn change(&self, pool: &PoolName, change: impl FnOnce(usize) -> usize) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = change(open.get(pool).copied().unwrap_or_default());
        if count == 0 {
            open.remove(pool);
        } else {
            open.insert(pool.clone(), count);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.listening.change(&self.pool, |count| count.saturating_sub(1));
    }
}
