//! The CNI plugin in the pod network's chain, beside a main CNI plugin that writes its conflist as it likes.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used)]

mod node;
mod program;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use node::{CONFIGS, MAIN, Node, chained, conflist};

#[tokio::test]
async fn it_is_put_in_and_the_rest_stays_as_it_was() {
    let node = Node::new();
    node.replace(MAIN, &conflist(1));
    fs::set_permissions(node.path(MAIN), Permissions::from_mode(0o600)).unwrap();
    // Of a crash, as nothing else here is.
    fs::write(node.path("10-main.conflist.doorbell-new"), "{").unwrap();
    let keeping = node.keep();
    keeping.becomes(MAIN, &chained(1)).await;
    let (node, ended) = keeping.end(false).await;
    ended.unwrap();
    assert_eq!(node.text(MAIN), Some(chained(1)), "an end is no uninstall");
    assert_eq!(fs::metadata(node.path(MAIN)).unwrap().mode() & 0o777, 0o600);
    assert_eq!(node.names(), [MAIN]);
}

#[tokio::test]
async fn it_is_back_whenever_the_main_plugin_writes() {
    let keeping = Node::new().keep();
    keeping.node.replace(MAIN, &conflist(1));
    keeping.becomes(MAIN, &chained(1)).await;
    keeping.node.replace(MAIN, &conflist(2));
    keeping.becomes(MAIN, &chained(2)).await;
    fs::write(keeping.node.path(MAIN), conflist(3)).unwrap();
    keeping.becomes(MAIN, &chained(3)).await;
    keeping.end(false).await.1.unwrap();
}

#[tokio::test]
async fn a_file_that_is_half_written_is_waited_for() {
    let keeping = Node::new().keep();
    let text = conflist(1);
    let (half, rest) = text.split_at(40);
    fs::write(keeping.node.path(MAIN), half).unwrap();
    // What is seen after it shows that the half was seen.
    keeping.node.replace("20-other.conflist", &conflist(2));
    keeping.becomes("20-other.conflist", &chained(2)).await;
    assert_eq!(keeping.node.text(MAIN).unwrap(), half);
    fs::write(keeping.node.path(MAIN), [half, rest].concat()).unwrap();
    keeping.becomes(MAIN, &chained(1)).await;
    keeping.becomes("20-other.conflist", &conflist(2)).await;
    keeping.end(false).await.1.unwrap();
}

#[tokio::test]
async fn it_moves_with_what_is_active() {
    let keeping = Node::new().keep();
    keeping.node.replace(MAIN, &conflist(1));
    keeping.becomes(MAIN, &chained(1)).await;
    keeping.node.replace("05-first.conflist", &conflist(2));
    keeping.becomes("05-first.conflist", &chained(2)).await;
    keeping.becomes(MAIN, &conflist(1)).await;
    fs::remove_file(keeping.node.path("05-first.conflist")).unwrap();
    keeping.becomes(MAIN, &chained(1)).await;
    // As Cilium moves others out of its way, and as they would come back.
    fs::rename(keeping.node.path(MAIN), keeping.node.path("10-main.conflist.cilium_bak")).unwrap();
    keeping.becomes("10-main.conflist.cilium_bak", &conflist(1)).await;
    keeping.end(false).await.1.unwrap();
}

#[tokio::test]
async fn multus_takes_it_out_of_the_chain() {
    let keeping = Node::new().keep();
    keeping.node.replace(MAIN, &conflist(1));
    keeping.becomes(MAIN, &chained(1)).await;
    let multus = r#"{"cniVersion": "1.0.0", "name": "m", "type": "multus-shim"}"#;
    keeping.node.replace("00-multus.conf", multus);
    keeping.becomes(MAIN, &conflist(1)).await;
    assert_eq!(keeping.node.text("00-multus.conf").unwrap(), multus);
    keeping.end(false).await.1.unwrap();
}

#[tokio::test]
async fn what_is_no_list_of_its_own_is_left_alone() {
    for (name, text) in [
        ("00-a.conf", conflist(7).replace("\"plugins\"", "\"type\": \"ptp\", \"plugins\"")),
        ("00-a.conflist", conflist(7).replace("1.0.0", "0.2.0")),
        ("00-a.conflist", conflist(7).replace("ptp", "doorbell")),
    ] {
        let keeping = Node::new().keep();
        keeping.node.replace(MAIN, &conflist(1));
        keeping.becomes(MAIN, &chained(1)).await;
        keeping.node.replace(name, &text);
        // That ours goes shows that the other was seen.
        keeping.becomes(MAIN, &conflist(1)).await;
        let (node, ended) = keeping.end(false).await;
        ended.unwrap();
        assert_eq!(node.text(name), Some(text));
    }
}

#[tokio::test]
async fn a_link_stays_one() {
    let node = Node::new();
    fs::write(node.root.path().join("theirs"), conflist(1)).unwrap();
    symlink(node.root.path().join("theirs"), node.path("00-link.conflist")).unwrap();
    node.replace(MAIN, &chained(2));
    let keeping = node.keep();
    keeping.becomes(MAIN, &conflist(2)).await;
    assert!(keeping.node.path("00-link.conflist").is_symlink());
    assert_eq!(keeping.node.text("00-link.conflist"), Some(conflist(1)));
    keeping.end(false).await.1.unwrap();
}

#[tokio::test]
async fn another_name_of_the_active_file_is_left_alone() {
    let node = Node::new();
    symlink(MAIN, node.path("20-alias.conflist")).unwrap();
    let keeping = node.keep();
    keeping.node.replace(MAIN, &conflist(1));
    keeping.becomes(MAIN, &chained(1)).await;
    let (node, ended) = keeping.end(true).await;
    ended.unwrap();
    assert!(node.path("20-alias.conflist").is_symlink());
    assert_eq!(node.text("20-alias.conflist"), Some(conflist(1)));
}

#[tokio::test]
async fn it_comes_after_the_binary_and_goes_with_it() {
    let node = Node::new();
    node.replace(MAIN, &chained(1));
    fs::set_permissions(node.binary(), Permissions::from_mode(0o644)).unwrap();
    let keeping = node.keep();
    keeping.becomes(MAIN, &conflist(1)).await;
    fs::set_permissions(keeping.node.binary(), Permissions::from_mode(0o755)).unwrap();
    keeping.becomes(MAIN, &chained(1)).await;
    fs::remove_file(keeping.node.binary()).unwrap();
    keeping.becomes(MAIN, &conflist(1)).await;
    keeping.node.install();
    keeping.becomes(MAIN, &chained(1)).await;
    keeping.end(false).await.1.unwrap();
}

#[tokio::test]
async fn an_uninstall_takes_out_the_entry_and_the_binary() {
    let keeping = Node::new().keep();
    keeping.node.replace(MAIN, &conflist(1));
    keeping.becomes(MAIN, &chained(1)).await;
    let (node, ended) = keeping.end(true).await;
    ended.unwrap();
    assert_eq!(node.text(MAIN), Some(conflist(1)));
    assert!(!node.binary().exists());
}

#[tokio::test]
async fn a_binary_that_is_named_by_hand_stays() {
    let node = Node::new();
    let by_hand = conflist(1).replace("ptp", "doorbell");
    node.replace(MAIN, &by_hand);
    // Not active, and ours: it goes all the same.
    node.replace("20-other.conflist", &chained(2));
    let keeping = node.keep();
    keeping.becomes("20-other.conflist", &conflist(2)).await;
    let (node, ended) = keeping.end(true).await;
    let error = ended.unwrap_err().to_string();
    assert_eq!(error, format!("the CNI binary stays: {CONFIGS}/{MAIN} names it, and was written by hand"));
    assert_eq!(node.text(MAIN), Some(by_hand));
    assert!(node.binary().exists());
}

#[tokio::test]
async fn who_writes_again_and_again_is_answered_less_and_less() {
    let keeping = Node::new().keep();
    let mut answered = Vec::new();
    for mtu in 0..7 {
        keeping.node.replace(MAIN, &conflist(mtu));
        keeping.becomes(MAIN, &chained(mtu)).await;
        answered.push(Instant::now());
    }
    let gap = |index: usize| answered[index] - answered[index - 1];
    assert!(gap(5) >= Duration::from_millis(900), "{:?}", gap(5));
    assert!(gap(6) >= Duration::from_millis(1900), "{:?}", gap(6));
    // An end is not kept waiting by the next, which is due in 4 s.
    keeping.node.replace(MAIN, &conflist(8));
    let asked = Instant::now();
    let (node, ended) = keeping.end(true).await;
    ended.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert_eq!(node.text(MAIN), Some(conflist(8)));
}

#[tokio::test]
async fn a_folder_that_is_made_later_is_found() {
    let node = Node::new();
    fs::remove_dir(node.host().path(CONFIGS)).unwrap();
    let keeping = node.keep();
    tokio::task::yield_now().await;
    keeping.node.host().make_folder(CONFIGS).unwrap();
    keeping.node.replace(MAIN, &conflist(1));
    keeping.becomes(MAIN, &chained(1)).await;
    keeping.end(false).await.1.unwrap();
}

#[tokio::test]
async fn who_wants_no_entry_has_the_binary_removed_and_nothing_else_touched() {
    let node = Node::new();
    node.replace(MAIN, &conflist(1));
    let (node, ended) = node.keep_with(false).end(true).await;
    ended.unwrap();
    assert_eq!(node.text(MAIN), Some(conflist(1)));
    assert!(!node.binary().exists());
}
