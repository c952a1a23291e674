//! An event as `kubectl describe` shows it: of core/v1, which it asks for by the object's uid.

use std::time::{SystemTime, UNIX_EPOCH};

use doorbell_common::claim::Pod;
use jiff::Timestamp;

use super::health::Change;
use super::objects::{Event, EventMetadata, EventSource, ObjectReference};
use super::{NAME, NodeName};

/// What events of a node are in: the object itself is in no namespace (the API server's `ValidateEvent`).
const NODES: &str = "default";
/// Bytes of a message that the API server takes (`NoteLengthLimit`).
const MESSAGE: usize = 1024;
/// Characters of an object's name.
const NAME_LENGTH: usize = 253;

/// What is to be said of a device to one object.
#[derive(Debug, Clone)]
pub(super) struct Note {
    about: About,
    change: Change,
    /// The other one that is told: the pod, for the node.
    pods: Vec<Pod>,
    number: u64,
}

/// The object that an event is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    /// The node.
    Node,
    /// A pod on it.
    Pod(Pod),
}

/// Numbers of events: the time of each in nanoseconds, and no two of them the same.
#[derive(Debug, Default)]
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn next(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.0 = u64::try_from(now.as_nanos()).unwrap_or_default().max(self.0 + 1);
        self.0
    }
}

impl Note {
    /// What the node and the pods are told.
    pub(super) fn all(change: &Change, pods: &[Pod], numbers: &mut Numbers) -> Vec<Self> {
        let abouts = [About::Node].into_iter().chain(pods.iter().cloned().map(About::Pod));
        let note = |about| {
            let pods = if about == About::Node { pods.to_vec() } else { Vec::new() };
            Self { about, change: change.clone(), pods, number: numbers.next() }
        };
        abouts.map(note).collect()
    }

    /// Who is told.
    pub(super) fn about(&self) -> &About {
        &self.about
    }

    /// When it happened.
    pub(super) fn at(&self) -> Timestamp {
        let seconds = i64::try_from(self.number / 1_000_000_000).unwrap_or_default();
        Timestamp::from_second(seconds).unwrap_or_default()
    }

    /// The namespace that the event is in.
    pub(super) fn namespace(&self) -> &str {
        match &self.about {
            About::Node => NODES,
            About::Pod(pod) => &pod.namespace,
        }
    }

    /// The event. `uid` is the pod's; a node's is its name, as the kubelet has it in its own events, and where
    /// `kubectl describe node` looks.
    ///
    /// It has the same name at each try: one that was made, and whose answer was lost, is not made again.
    pub(super) fn event(&self, node: &NodeName, uid: Option<String>) -> Event {
        let (kind, name, uid) = match &self.about {
            About::Node => ("Node", node.as_str(), Some(node.to_string())),
            About::Pod(pod) => ("Pod", pod.name.as_str(), uid),
        };
        let namespace = match &self.about {
            About::Node => None,
            About::Pod(pod) => Some(pod.namespace.clone()),
        };
        let suffix = format!(".{:x}", self.number);
        let stem: String = name.chars().take(NAME_LENGTH - suffix.len()).collect();
        let (kind_of_event, reason) = match self.change.reason {
            Some(_) => ("Warning", "DeviceUnhealthy"),
            None => ("Normal", "DeviceHealthy"),
        };
        let at = self.at().to_string();
        Event {
            metadata: EventMetadata {
                name: format!("{stem}{suffix}"),
                namespace: self.namespace().to_owned(),
            },
            involved_object: ObjectReference {
                api_version: "v1",
                kind,
                name: name.to_owned(),
                namespace,
                uid,
            },
            kind: kind_of_event,
            reason,
            message: self.message(),
            count: 1,
            first_timestamp: at.clone(),
            last_timestamp: at,
            source: EventSource { component: NAME, host: node.to_string() },
            reporting_component: NAME,
            reporting_instance: node.to_string(),
        }
    }

    fn message(&self) -> String {
        let Change { pool, device, reason } = &self.change;
        let pods: Vec<String> =
            self.pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
        let whose = if pods.is_empty() { String::new() } else { format!(", which {} has,", pods.join(", ")) };
        let mut message = match reason {
            Some(reason) => format!("device {device} of pool {pool}{whose} is unhealthy: {reason}"),
            None => format!("device {device} of pool {pool}{whose} is healthy again"),
        };
        message.truncate(message.floor_char_boundary(MESSAGE));
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(reason: &str) -> Change {
        let pool = "fast".parse().unwrap();
        Change { pool, device: "0000:01:00.1".parse().unwrap(), reason: Some(reason.to_owned()) }
    }

    #[test]
    fn a_long_reason_is_cut_and_a_long_name_too() {
        let pod = Pod { namespace: "default".to_owned(), name: "p".repeat(NAME_LENGTH) };
        let notes = Note::all(&change(&"ä".repeat(MESSAGE)), &[pod], &mut Numbers::default());
        for note in notes {
            let event = note.event(&"node".parse().unwrap(), None);
            assert!(event.message.len() <= MESSAGE);
            assert!(event.metadata.name.len() <= NAME_LENGTH);
        }
    }

    #[test]
    fn no_two_events_have_a_name() {
        let mut numbers = Numbers::default();
        let all: std::collections::BTreeSet<u64> = (0..1000).map(|_| numbers.next()).collect();
        assert_eq!(all.len(), 1000);
    }
}
