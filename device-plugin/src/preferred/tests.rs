//! Which devices are preferred. A node is drawn as its PFs: NUMA node, and how many free VFs.

use proptest::prelude::*;

use super::*;

/// VF `vf` of the `pf`th PF, both from 0: `0000:<pf + 1>:00.<vf + 1>`.
fn device(pf: usize, vf: usize, numa_node: Option<u32>) -> Candidate {
    let address = |function: usize| -> PciAddress {
        format!("0000:{:02x}:{:02x}.{:x}", pf + 1, function / 8, function % 8).parse().unwrap()
    };
    let own = address(vf + 1);
    Candidate { parent: Parent::Vf(own), id: own.into(), pf: Some(address(0)), numa_node }
}

fn node(pfs: &[(Option<u32>, usize)]) -> Vec<Candidate> {
    let vfs =
        pfs.iter().enumerate().flat_map(|(pf, (node, vfs))| (0..*vfs).map(move |vf| device(pf, vf, *node)));
    vfs.collect()
}

fn ids(devices: &[Candidate]) -> Vec<String> {
    devices.iter().map(|device| device.id.to_string()).collect()
}

/// All devices are available.
fn ask(
    devices: &[Candidate],
    must_include: &[&str],
    size: i32,
    policy: AllocationPolicy,
) -> Result<Vec<String>, Refusal> {
    let request = ContainerPreferredAllocationRequest {
        available_device_i_ds: ids(devices),
        must_include_device_i_ds: must_include.iter().map(|id| (*id).to_owned()).collect(),
        allocation_size: size,
    };
    Ok(choose(devices, &request, policy)?.iter().map(ToString::to_string).collect())
}

fn packed(pfs: &[(Option<u32>, usize)], must_include: &[&str], size: i32) -> Vec<String> {
    ask(&node(pfs), must_include, size, AllocationPolicy::Pack).unwrap()
}

fn spread(pfs: &[(Option<u32>, usize)], must_include: &[&str], size: i32) -> Vec<String> {
    ask(&node(pfs), must_include, size, AllocationPolicy::Spread).unwrap()
}

const N0: Option<u32> = Some(0);
const N1: Option<u32> = Some(1);

#[test]
fn packing_takes_the_smallest_pf_that_suffices() {
    assert_eq!(packed(&[(None, 4), (None, 2), (None, 3)], &[], 2), ["0000:02:00.1", "0000:02:00.2"]);
    assert_eq!(packed(&[(None, 4), (None, 4)], &[], 1), ["0000:01:00.1"]);
}

#[test]
fn packing_takes_the_fewest_pfs_where_none_suffices() {
    assert_eq!(
        packed(&[(None, 1), (None, 2), (None, 3)], &[], 4),
        ["0000:01:00.1", "0000:03:00.1", "0000:03:00.2", "0000:03:00.3"]
    );
}

#[test]
fn packing_stays_on_the_pfs_that_are_in_use() {
    assert_eq!(packed(&[(None, 2), (None, 9)], &["0000:02:00.3"], 2), ["0000:02:00.1", "0000:02:00.3"]);
}

#[test]
fn spreading_goes_round_the_pfs_from_the_fullest() {
    assert_eq!(spread(&[(None, 2), (None, 4), (None, 3)], &[], 2), ["0000:02:00.1", "0000:03:00.1"]);
    assert_eq!(
        spread(&[(None, 1), (None, 4)], &[], 4),
        ["0000:01:00.1", "0000:02:00.1", "0000:02:00.2", "0000:02:00.3"]
    );
}

#[test]
fn spreading_counts_what_is_there_already() {
    assert_eq!(spread(&[(None, 2), (None, 4)], &["0000:02:00.4"], 2), ["0000:01:00.1", "0000:02:00.4"]);
}

#[test]
fn one_numa_node_is_kept_to_where_one_suffices() {
    let pfs = [(N0, 1), (N1, 1), (N1, 1)];
    assert_eq!(packed(&pfs, &[], 2), ["0000:02:00.1", "0000:03:00.1"]);
    assert_eq!(spread(&pfs, &[], 2), ["0000:02:00.1", "0000:03:00.1"]);
    assert_eq!(packed(&pfs, &[], 3).len(), 3);
}

#[test]
fn of_two_numa_nodes_the_one_that_serves_the_policy_is_taken() {
    let pfs = [(N0, 1), (N0, 1), (N1, 2)];
    assert_eq!(packed(&pfs, &[], 2), ["0000:03:00.1", "0000:03:00.2"]);
    assert_eq!(spread(&pfs, &[], 2), ["0000:01:00.1", "0000:02:00.1"]);
}

#[test]
fn the_numa_node_of_what_must_be_included_comes_first() {
    let pfs = [(N0, 8), (N1, 2)];
    assert_eq!(packed(&pfs, &["0000:02:00.2"], 2), ["0000:02:00.1", "0000:02:00.2"]);
    assert_eq!(packed(&pfs, &["0000:02:00.2"], 3), ["0000:01:00.1", "0000:02:00.1", "0000:02:00.2"]);
}

#[test]
fn order_is_the_buss_and_not_the_texts() {
    let long: Vec<Candidate> = ["10000:01:00.1", "ffff:01:00.1"]
        .map(|text| {
            let address: PciAddress = text.parse().unwrap();
            let pf = Some("ffff:01:00.0".parse().unwrap());
            Candidate { parent: Parent::Vf(address), id: address.into(), pf, numa_node: None }
        })
        .into();
    assert_eq!(ask(&long, &[], 1, AllocationPolicy::Pack).unwrap(), ["ffff:01:00.1"]);
}

#[test]
fn what_cannot_be_given_is_named() {
    let devices = node(&[(None, 2)]);
    let refused = |available: &[String], must_include: &[&str], size: i32| {
        let request = ContainerPreferredAllocationRequest {
            available_device_i_ds: available.to_vec(),
            must_include_device_i_ds: must_include.iter().map(|id| (*id).to_owned()).collect(),
            allocation_size: size,
        };
        choose(&devices, &request, AllocationPolicy::Pack).unwrap_err().to_string()
    };
    let all = ids(&devices);
    assert_eq!(
        refused(&all, &["0000:09:00.1"], 1),
        "the pool has no device `0000:09:00.1`, which must be included"
    );
    assert_eq!(
        refused(&all[1..], &["0000:01:00.1"], 1),
        "0000:01:00.1 must be included and is not available"
    );
    assert_eq!(
        refused(&all, &["0000:01:00.1", "0000:01:00.2"], 1),
        "0000:01:00.1, 0000:01:00.2 must be included, and 1 are asked for"
    );
    assert_eq!(
        refused(&["0000:01:00.1".to_owned(), "0000:09:00.1".to_owned()], &[], 2),
        "2 are asked for, and of those available the pool has 1; not its own: 0000:09:00.1"
    );
    assert_eq!(refused(&all, &[], -1), "-1 is no number of devices");
}

#[test]
fn a_device_that_left_the_pool_does_not_stop_the_others() {
    let devices = node(&[(None, 2)]);
    let request = ContainerPreferredAllocationRequest {
        available_device_i_ds: [ids(&devices), vec!["0000:09:00.1".to_owned()]].concat(),
        must_include_device_i_ds: Vec::new(),
        allocation_size: 2,
    };
    assert_eq!(choose(&devices, &request, AllocationPolicy::Spread).unwrap().len(), 2);
}

proptest! {
    #[test]
    fn an_answer_has_the_size_asked_for_and_keeps_to_what_it_is_given(
        drawn in proptest::collection::vec((0..4usize, proptest::option::of(0..2u32), 0..3u8), 0..40),
        size in 0..40usize,
        pack: bool,
    ) {
        let policy = if pack { AllocationPolicy::Pack } else { AllocationPolicy::Spread };
        // 0: taken by others, 1: available, 2: must be included.
        let devices: Vec<(Candidate, u8)> =
            drawn.iter().enumerate().map(|(vf, (pf, node, state))| (device(*pf, vf, *node), *state)).collect();
        let at_least = |least: u8| -> Vec<String> {
            let drawn = devices.iter().filter(|(_, state)| *state >= least);
            drawn.map(|(device, _)| device.id.to_string()).collect()
        };
        let (available, must_include) = (at_least(1), at_least(2));
        let all: Vec<Candidate> = devices.iter().map(|(device, _)| device.clone()).collect();
        let mut request = ContainerPreferredAllocationRequest {
            available_device_i_ds: available.clone(),
            must_include_device_i_ds: must_include.clone(),
            allocation_size: i32::try_from(size).unwrap(),
        };
        let answer = choose(&all, &request, policy);
        prop_assert_eq!(answer.is_ok(), (must_include.len()..=available.len()).contains(&size));
        request.available_device_i_ds.reverse();
        if let Ok(chosen) = &answer {
            let chosen: BTreeSet<String> = chosen.iter().map(ToString::to_string).collect();
            prop_assert_eq!(chosen.len(), size);
            prop_assert!(chosen.iter().all(|id| available.contains(id)));
            prop_assert!(must_include.iter().all(|id| chosen.contains(id)));
            prop_assert_eq!(answer, choose(&all, &request, policy));
        }
    }
}
