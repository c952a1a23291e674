//! Looking at the node, and waiting for it to be as a scenario wants it: on the published views, never by sleeping.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    kubelet::Kubelet,
    view::{NodeView, ResourceView, Timeout},
};

impl Kubelet {
    /// The node as it stands.
    pub fn view(&self) -> Arc<NodeView> {
        self.shared.subscribe().borrow().clone()
    }

    /// Every change of the node.
    pub fn subscribe(&self) -> watch::Receiver<Arc<NodeView>> {
        self.shared.subscribe()
    }

    /// Devices that the resource lists, healthy or not.
    pub fn capacity(&self, resource: &str) -> usize {
        self.view().resources.get(resource).map_or(0, ResourceView::capacity)
    }

    /// Healthy devices that the resource lists, given out or not.
    pub fn allocatable(&self, resource: &str) -> usize {
        self.view().resources.get(resource).map_or(0, ResourceView::allocatable)
    }

    /// How many times the resource has registered.
    pub fn registrations(&self, resource: &str) -> u64 {
        self.view().resources.get(resource).map_or(0, |resource| resource.registrations)
    }

    /// Waits until the node is as `wanted`; `awaited` is what the error calls it.
    pub async fn wait_until(
        &self,
        awaited: &str,
        mut wanted: impl FnMut(&NodeView) -> bool,
        limit: Duration,
    ) -> Result<Arc<NodeView>, Timeout> {
        let mut changes = self.shared.subscribe();
        let seen = timeout(limit, changes.wait_for(|node| wanted(node))).await;
        if let Ok(Ok(node)) = seen {
            return Ok(Arc::clone(&node));
        }
        let node = Box::new((*self.view()).clone());
        Err(Timeout { awaited: awaited.to_owned(), limit, node })
    }

    /// Waits until the resource has registered and its plugin's stream is open.
    pub async fn wait_registered(&self, resource: &str, limit: Duration) -> Result<Arc<NodeView>, Timeout> {
        let connected = |node: &NodeView| node.resources.get(resource).is_some_and(|found| found.connected);
        self.wait_until(&format!("{resource} to be registered"), connected, limit).await
    }

    /// Waits until the resource has registered `count` times: after a restart, until it is back.
    pub async fn wait_registrations(
        &self,
        resource: &str,
        count: u64,
        limit: Duration,
    ) -> Result<Arc<NodeView>, Timeout> {
        let often = |node: &NodeView| {
            node.resources.get(resource).is_some_and(|found| found.connected && found.registrations >= count)
        };
        self.wait_until(&format!("{resource} to be registered {count} times"), often, limit).await
    }

    /// Waits until exactly `count` devices of the resource are allocatable.
    pub async fn wait_allocatable(
        &self,
        resource: &str,
        count: usize,
        limit: Duration,
    ) -> Result<Arc<NodeView>, Timeout> {
        let enough =
            |node: &NodeView| node.resources.get(resource).map_or(0, ResourceView::allocatable) == count;
        self.wait_until(&format!("{count} allocatable {resource}"), enough, limit).await
    }

    /// Waits until the resource has exactly `count` devices.
    pub async fn wait_capacity(
        &self,
        resource: &str,
        count: usize,
        limit: Duration,
    ) -> Result<Arc<NodeView>, Timeout> {
        let enough =
            |node: &NodeView| node.resources.get(resource).map_or(0, ResourceView::capacity) == count;
        self.wait_until(&format!("a capacity of {count} {resource}"), enough, limit).await
    }
}
