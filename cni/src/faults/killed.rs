//! A call that is killed at each of its steps in turn.

use super::{End, NEVER, SANDBOXES, World};

/// Fewer would mean that steps are not seen.
const FEWEST: u64 = 20;

/// Kills at the first step, the second, and so on, until a call goes through.
fn each_step(kill: impl Fn(u64) -> End, then: impl Fn(u64)) {
    for step in 1.. {
        let end = kill(step);
        then(step);
        if end != End::Killed {
            assert_eq!(end, End::Succeeded, "at step {step}");
            assert!(step > FEWEST, "only {step} steps");
            println!("{step} steps");
            return;
        }
    }
}

#[test]
fn what_an_add_that_was_killed_has_done_is_undone_by_del() {
    let world = World::new();
    let [sandbox, ..] = SANDBOXES;
    let del = |step| {
        assert_eq!(world.call(sandbox, "DEL", NEVER), End::Succeeded, "after an ADD killed at step {step}");
        world.is_restored().unwrap_or_else(|what| panic!("after an ADD killed at step {step}: {what}"));
    };
    each_step(|step| world.call(sandbox, "ADD", step), del);
}

#[test]
fn what_an_add_that_was_killed_has_done_is_undone_by_gc() {
    let world = World::new();
    let [sandbox, ..] = SANDBOXES;
    let gc = |step| {
        assert_eq!(world.gc(&[], NEVER), End::Succeeded, "after an ADD killed at step {step}");
        world.is_restored().unwrap_or_else(|what| panic!("after an ADD killed at step {step}: {what}"));
    };
    each_step(|step| world.call(sandbox, "ADD", step), gc);
}

#[test]
fn what_an_add_that_was_killed_has_done_is_in_no_next_ones_way() {
    let world = World::new();
    let [killed, next, _] = SANDBOXES;
    let add = |step| {
        // Where the interface comes back on the way, the kernel shows it only then: an ADD more.
        let end = match world.call(next, "ADD", NEVER) {
            End::Failed => world.call(next, "ADD", NEVER),
            end => end,
        };
        assert_eq!(end, End::Succeeded, "after an ADD killed at step {step}");
        world.is_wired(next).unwrap_or_else(|what| panic!("after an ADD killed at step {step}: {what}"));
        // Late, and about nothing any more.
        assert_eq!(world.call(killed, "DEL", NEVER), End::Succeeded);
        world.is_wired(next).unwrap_or_else(|what| panic!("after a late DEL at step {step}: {what}"));
        assert_eq!(world.call(next, "DEL", NEVER), End::Succeeded);
        world.is_restored().unwrap_or_else(|what| panic!("after an ADD killed at step {step}: {what}"));
    };
    each_step(|step| world.call(killed, "ADD", step), add);
}

#[test]
fn a_del_that_was_killed_is_finished_by_the_next() {
    let world = World::new();
    let [sandbox, ..] = SANDBOXES;
    let killed = |step| {
        assert_eq!(world.call(sandbox, "ADD", NEVER), End::Succeeded, "at step {step}");
        world.call(sandbox, "DEL", step)
    };
    let del = |step| {
        assert_eq!(world.call(sandbox, "DEL", NEVER), End::Succeeded, "after a DEL killed at step {step}");
        world.is_restored().unwrap_or_else(|what| panic!("after a DEL killed at step {step}: {what}"));
    };
    each_step(killed, del);
}
