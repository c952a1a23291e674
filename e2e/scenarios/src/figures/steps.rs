//! Where an ADD's time goes: from one mark among its system calls to the next.

use anyhow::{Context, Result};
use doorbell_common::formats::descriptor;
use doorbell_common::kubelet::podresources::SOCKET;
use doorbell_common::{calls, claim};
use e2e_probe::spread::Spread;

use super::document::Step;
use super::trace::Call;

/// What a step begins with, among the calls after the step before began.
#[derive(Debug, Clone, Copy)]
enum Mark {
    /// The first such call.
    First(fn(&Call) -> bool),
    /// The end of the last such call.
    AfterLast(fn(&Call) -> bool),
}

const STEPS: [(&str, Mark); 9] = [
    ("start of the process, call and configuration", Mark::First(|call| call.is("execve"))),
    ("which devices: kubelet, descriptor, record", Mark::First(|call| call.is_on("connect", SOCKET))),
    ("verified anew, by sysfs", Mark::First(|call| call.is_on("statfs", claim::FOLDER))),
    ("locked and claimed, on disk", Mark::First(|call| call.is_on("mkdir", descriptor::HOST_FOLDER))),
    ("opened: attach, reset", Mark::First(|call| call.asks("VFIO_GROUP_GET_STATUS"))),
    ("asked, and mapped on trial", Mark::First(|call| call.asks("VFIO_DEVICE_GET_INFO"))),
    ("closed: reset", Mark::AfterLast(|call| call.is("pread64"))),
    ("claimed with its undo, attachment.json", Mark::First(|call| call.is_on("mkdir", claim::FOLDER))),
    ("call counted, result printed", Mark::First(|call| call.is_on("mkdir", calls::FOLDER))),
];

/// The steps of several ADDs' calls, each by its median.
pub(super) fn medians(adds: &[Vec<Call>]) -> Result<Vec<Step>> {
    let times = adds.iter().map(|calls| times(calls)).collect::<Result<Vec<_>>>()?;
    let median = |(place, (name, _)): (usize, &(&str, Mark))| {
        let spread = Spread::of(times.iter().map(|times| 1000.0 * times[place]).collect());
        let millis = spread.context("no ADD was traced")?.p50;
        Ok(Step { name: (*name).to_owned(), millis })
    };
    STEPS.iter().enumerate().map(median).collect()
}

/// How long each step of an ADD took, in seconds, up to its end.
fn times(calls: &[Call]) -> Result<[f64; STEPS.len()]> {
    let mut begins = [0.0; STEPS.len()];
    let mut rest = calls;
    for (begin, (name, mark)) in begins.iter_mut().zip(STEPS) {
        let place = match mark {
            Mark::First(is) => rest.iter().position(is),
            Mark::AfterLast(is) => rest.iter().rposition(is),
        };
        let place = place.with_context(|| format!("nothing begins the step `{name}`"))?;
        let Call { at, took, .. } = rest[place];
        *begin = if matches!(mark, Mark::AfterLast(_)) { at + took } else { at };
        rest = &rest[place + 1..];
    }
    let end = rest.iter().find(|call| call.is("exit_group")).context("it has no end")?.at;
    let mut ends = begins;
    ends.rotate_left(1);
    ends[STEPS.len() - 1] = end;
    Ok(std::array::from_fn(|place| ends[place] - begins[place]))
}

#[cfg(test)]
mod tests {
    use super::super::trace::tests::{MARKED, calls};
    use super::*;

    #[test]
    fn the_steps_of_an_add_are_all_of_its_time() {
        let calls = calls(MARKED);
        let steps = times(&calls).unwrap();
        let whole = calls.last().unwrap().at - calls[0].at;
        assert!((steps.iter().sum::<f64>() - whole).abs() < 1e-6);
        assert!(steps.iter().all(|step| *step > 0.0), "{steps:?}");
        let longest =
            |name: &str| steps[STEPS.iter().position(|step| step.0.starts_with(name)).unwrap()] > 0.1;
        assert!(longest("opened") && longest("closed"), "{steps:?}");
    }

    #[test]
    fn of_several_adds_each_step_has_its_median() {
        let add = calls(MARKED);
        let mut slow = add.clone();
        let late = slow.iter().rposition(|call| call.is("mkdir")).unwrap();
        slow[late..].iter_mut().for_each(|call| call.at += 7.0);
        let steps = medians(&[add.clone(), slow, add.clone()]).unwrap();
        assert_eq!(steps, medians(&[add]).unwrap());
        assert_eq!(medians(&[]).unwrap_err().to_string(), "no ADD was traced");
    }

    #[test]
    fn a_step_that_is_missing_is_named() {
        let mut calls = calls(MARKED);
        calls.retain(|call| !call.asks("VFIO_DEVICE_GET_INFO"));
        let error = times(&calls).unwrap_err().to_string();
        assert_eq!(error, "nothing begins the step `asked, and mapped on trial`");
    }
}
