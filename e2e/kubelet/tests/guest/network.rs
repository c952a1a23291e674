//! The CNI chain, as the runtime calls it.

use crate::guest::{Guest, IDLE, LIMIT, shell_pod};

pub(crate) async fn a_plugins_refusal_reaches_the_caller_and_the_pod_may_be_started_again() {
    let guest = Guest::new().await;
    guest.refuse_add(true);
    let spec = shell_pod("p", IDLE);
    let uid = spec.uid.clone();
    let error = guest.kubelet.run_pod(spec, LIMIT).await.unwrap_err();
    println!("{error}");
    let message = error.runtime_message().unwrap();
    assert!(message.contains("0000:01:00.1 is not this pod"), "{message}");
    guest.refuse_add(false);
    let sandbox = guest.kubelet.start_pod(&uid).await.unwrap();
    assert_eq!(sandbox.attempt, 1);
    guest.kubelet.remove_pod(&uid).await.unwrap();
}

pub(crate) async fn a_late_del_of_an_old_sandbox_comes_after_the_new_add() {
    let guest = Guest::new().await;
    let uid = guest.kubelet.run_pod(shell_pod("p", IDLE), LIMIT).await.unwrap();
    let old = guest.kubelet.sandboxes(&uid).await.unwrap().remove(0);
    let new = guest.kubelet.run_sandbox(&uid, old.attempt + 1).await.unwrap();
    guest.kubelet.start_containers(&uid).await.unwrap();
    assert_ne!(old.ips, new.ips);
    let before = guest.cni_calls().len();
    guest.kubelet.stop_sandbox(&old.id).await.unwrap();
    guest.kubelet.remove_sandbox(&old.id).await.unwrap();
    let calls = guest.cni_calls();
    let verbs: Vec<_> = calls.iter().map(|[verb, id, _]| (verb.as_str(), id.as_str())).collect();
    assert_eq!(verbs[..before], [("ADD", old.id.as_str()), ("ADD", &new.id)]);
    assert!(
        verbs[before..].iter().all(|call| *call == ("DEL", &old.id)) && verbs.len() > before,
        "{verbs:?}"
    );
    // The new one is as it was.
    assert_eq!(guest.kubelet.sandboxes(&uid).await.unwrap(), [new]);
    let exec = guest.kubelet.exec(&uid, "c", ["true"], LIMIT).await.unwrap();
    assert_eq!(exec.exit, 0);
    guest.kubelet.remove_pod(&uid).await.unwrap();
}
