use nix::errno::Errno;

use super::super::tests::{bytes, found, inside, name, up, veth};
use super::*;

/// Two namespaces, with links of these names; of the first, `d0` is to be moved.
struct Ends {
    from: Netns,
    to: Netns,
    link: Link,
}

fn ends(here: &[&str], there: &[&str]) -> Ends {
    let (from, to) = (Netns::fresh(), Netns::fresh());
    // Made in another namespace and moved, links start with indices that differ.
    for (netns, links) in [(&from, here), (&to, there)] {
        for (number, link) in links.iter().enumerate() {
            veth(&mut inside(netns), link, &format!("p{number}"));
        }
    }
    let link = found(&mut inside(&from), "d0");
    set(&mut inside(&from), link.index, &up()).unwrap();
    let link = found(&mut inside(&from), "d0");
    Ends { from, to, link }
}

impl Ends {
    /// Without a look at what is there before.
    fn go(&self, text: &str) -> Result<Link, LinkError> {
        let (here, there) = (inside(&self.from), inside(&self.to));
        Way { here, there, from: &self.from, to: &self.to }.go(&self.link, &name(text))
    }

    fn assert_nothing_moved(&self, there: usize) {
        assert_eq!(found(&mut inside(&self.from), "d0"), self.link);
        assert_eq!(super::super::list(&mut inside(&self.to)).unwrap().len(), there);
    }
}

#[test]
#[rustfmt::skip]
fn a_move_is_one_request() {
    assert_eq!(bytes(&moved(5, 7, &name("net1"))), [
        0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // index 5
        8, 0, 28, 0, 7, 0, 0, 0, // IFLA_NET_NS_FD
        9, 0, 3, 0, b'n', b'e', b't', b'1', 0, 0, 0, 0, // IFLA_IFNAME
    ]);
}

#[test]
fn a_link_is_moved_and_renamed_there() {
    let ends = ends(&["d0"], &[]);
    let moved = move_to(&ends.from, ends.link.index, &ends.to, &name("net1")).unwrap();
    assert_eq!(moved, Link { name: name("net1"), up: false, ..ends.link.clone() });
    assert_eq!(found(&mut inside(&ends.to), "net1"), moved);
    assert_eq!(by_name(&mut inside(&ends.from), &name("d0")).unwrap(), None);
    let back = move_to(&ends.to, moved.index, &ends.from, &name("d0")).unwrap();
    assert_eq!(back, Link { up: false, ..ends.link });
}

#[test]
fn a_link_whose_index_and_name_are_taken_gets_others() {
    let ends = ends(&["d0"], &["d0"]);
    let moved = move_to(&ends.from, ends.link.index, &ends.to, &name("net1")).unwrap();
    assert_ne!(moved.index, ends.link.index);
    assert_eq!(moved.mac, ends.link.mac);
    assert_eq!(found(&mut inside(&ends.to), "net1"), moved);
}

#[test]
fn a_name_that_is_taken_there_stops_a_move_before_it_starts() {
    let ends = ends(&["d0"], &["net1"]);
    let error = move_to(&ends.from, ends.link.index, &ends.to, &name("net1")).unwrap_err();
    assert!(matches!(&error, LinkError::Taken { name, .. } if name.as_str() == "net1"), "{error}");
    ends.assert_nothing_moved(3);
}

/// What looking first is for: of its own the kernel leaves the link over there.
#[test]
fn the_kernel_moves_a_link_that_it_can_not_rename() {
    let ends = ends(&["d0"], &["net1"]);
    let failure = send(&mut inside(&ends.from), &ends.link, &ends.to, &name("net1")).unwrap_err();
    assert_eq!(failure.refusal(), Some(Errno::EEXIST));
    assert_eq!(by_name(&mut inside(&ends.from), &name("d0")).unwrap(), None);
    assert_eq!(found(&mut inside(&ends.to), "d0").mac, ends.link.mac);
}

#[test]
fn a_link_that_was_moved_and_not_renamed_comes_back_as_it_was() {
    let ends = ends(&["d0"], &["net1"]);
    assert_eq!(ends.go("net1").unwrap_err().refusal(), Some(Errno::EEXIST));
    let back = found(&mut inside(&ends.from), "d0");
    // Its index was taken over there.
    assert_eq!(Link { index: ends.link.index, ..back }, ends.link);
    assert_eq!(by_name(&mut inside(&ends.to), &name("d0")).unwrap(), None);
}

#[test]
fn a_link_whose_names_are_both_taken_never_leaves() {
    let ends = ends(&["d0"], &["net1", "d0"]);
    assert_eq!(ends.go("net1").unwrap_err().refusal(), Some(Errno::EEXIST));
    ends.assert_nothing_moved(5);
}

#[test]
fn a_link_that_can_not_come_back_is_said_to_be_stranded() {
    let ends = ends(&["d0"], &["net1"]);
    let mut way = Way { here: inside(&ends.from), there: inside(&ends.to), from: &ends.from, to: &ends.to };
    // Nobody sees the link on the other side: both sockets look at an empty namespace.
    let elsewhere = Netns::fresh();
    way.there = inside(&elsewhere);
    let error = way.go(&ends.link, &name("net1")).unwrap_err();
    let text = chain(&error);
    assert!(text.starts_with("link d0 is stranded in network namespace /proc/thread-self/ns/net"), "{text}");
    assert!(text.contains("move link d0 to /proc/thread-self/ns/net as net1: the kernel refuses"), "{text}");
    assert!(text.ends_with(": there is no link d0 in /proc/thread-self/ns/net"), "{text}");
}

#[test]
fn what_can_not_be_moved_stays() {
    let ends = ends(&["d0"], &[]);
    let error = move_to(&ends.from, 1, &ends.to, &name("net1")).unwrap_err();
    assert_eq!(error.refusal(), Some(Errno::EINVAL), "{error}");
    assert_eq!(found(&mut inside(&ends.from), "lo").index, 1);
    let error = move_to(&ends.from, 4711, &ends.to, &name("net1")).unwrap_err();
    assert_eq!(error.to_string(), "there is no link with index 4711 in /proc/thread-self/ns/net");
}
