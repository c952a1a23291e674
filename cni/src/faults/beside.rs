//! Calls at the same time, about the same device.

use super::{End, NEVER, SANDBOXES, World, network};

const ROUNDS: usize = 20;

#[test]
fn a_late_del_beside_the_next_add_takes_nothing_from_it() {
    let world = World::new();
    let [mut before, mut next, _] = SANDBOXES;
    assert_eq!(world.call(before, "ADD", NEVER), End::Succeeded);
    for round in 0..ROUNDS {
        let conf = network();
        let (add, del) = (world.start(next, "ADD", &conf, NEVER), world.start(before, "DEL", &conf, NEVER));
        let (added, deleted) = (world.end(add), world.end(del));
        assert_eq!(deleted, End::Succeeded, "round {round}");
        // Where it was first it found the interface in the other's sandbox still: it is to come again.
        if added == End::Failed {
            assert_eq!(world.call(next, "ADD", NEVER), End::Succeeded, "round {round}");
        }
        world.is_wired(next).unwrap_or_else(|what| panic!("round {round}: {what}"));
        (before, next) = (next, before);
    }
    assert_eq!(world.call(before, "DEL", NEVER), End::Succeeded);
    world.is_restored().unwrap();
}

#[test]
fn of_two_dels_at_the_same_time_each_succeeds() {
    let world = World::new();
    let [sandbox, ..] = SANDBOXES;
    for round in 0..ROUNDS {
        assert_eq!(world.call(sandbox, "ADD", NEVER), End::Succeeded, "round {round}");
        let conf = network();
        let (one, other) =
            (world.start(sandbox, "DEL", &conf, NEVER), world.start(sandbox, "DEL", &conf, NEVER));
        assert_eq!((world.end(one), world.end(other)), (End::Succeeded, End::Succeeded), "round {round}");
        world.is_restored().unwrap_or_else(|what| panic!("round {round}: {what}"));
    }
}
