//! Pages that are not 4 KiB: the layout that fits the smallest of them need not fit others.

use super::*;

const PAGE_16K: u64 = 0x4000;
const PAGE_64K: u64 = 0x1_0000;

/// The testbed's VF, whole: its doorbell is alone in a page of 4 KiB and in no larger one.
fn testbed() -> Vf {
    Vf::usual().notify(4, 0x3000, 0x1000, 4)
}

fn refusal(vf: Vf, page: u64) -> String {
    vf.verify_with(page).unwrap_err().to_string()
}

#[test]
fn the_testbeds_vf_is_shared_on_pages_of_16_kib() {
    assert_eq!(
        refusal(testbed(), PAGE_16K),
        "shared: the device configuration (BAR 4 0x2000..0x3000) meets the doorbell's pages 0x0..0x4000"
    );
}

#[test]
fn the_testbeds_vf_is_shared_on_pages_of_64_kib() {
    assert_eq!(
        refusal(testbed(), PAGE_64K),
        "shared: the device configuration (BAR 4 0x2000..0x3000) meets the doorbell's pages 0x0..0x10000"
    );
}

#[test]
fn a_bar_that_starts_within_a_larger_page_is_refused() {
    // The testbed's second VF: BARs of 16 KiB, one behind the other.
    let vf = testbed().bar(4, 0xe0_0000_4000, 0x4000, 0x200);
    assert_eq!(refusal(vf, PAGE_64K), "BAR 4 starts at 0xe000004000, not on a page of 0x10000 bytes");
}

#[test]
fn a_notify_area_with_a_page_of_64_kib_for_itself_is_exclusive() {
    let vf = Vf::usual().bar(4, 0xe0_0000_0000, 0x2_0000, 0x200).notify(4, 0x1_0000, 0x1000, 4);
    let doorbell = vf.verify_with(PAGE_64K).unwrap();
    assert_eq!(doorbell.hull, Hull { start: 0x1_0000, length: 0x1_0000 });
    assert_eq!(doorbell.granularity, Granularity::Device);
}

/// The area of a device that gives each queue a page of its own, where pages have 4 KiB.
fn page_a_queue() -> Vf {
    Vf::usual().bar(4, 0xe0_0000_0000, 0x80_0000, 0x200).notify(4, 0x40_0000, 0x40_0000, 0x1000)
}

#[test]
fn queues_that_are_4_kib_apart_share_a_page_of_64_kib() {
    let granularity = |page| page_a_queue().verify_with(page).unwrap().granularity;
    assert_eq!(granularity(PAGE), Granularity::Queue);
    assert_eq!(granularity(PAGE_64K), Granularity::Device);
}

#[test]
fn queues_that_are_64_kib_apart_have_a_page_of_64_kib_each() {
    let vf = Vf::usual().bar(4, 0xe0_0000_0000, 0x80_0000, 0x200).notify(4, 0x40_0000, 0x40_0000, 0x1_0000);
    assert_eq!(vf.verify_with(PAGE_64K).unwrap().granularity, Granularity::Queue);
}

#[test]
fn a_bar_smaller_than_its_page_is_exclusive_when_alone_there() {
    let vf = Vf::bare().bar(2, 0xfe80_0000, 0x1000, 0x200).bar(3, 0xfe81_0000, 0x1000, 0x200);
    let doorbell = vf.notify(2, 0, 0x1000, 4).verify_with(PAGE_64K).unwrap();
    assert_eq!(doorbell.hull, Hull { start: 0, length: 0x1_0000 });
}

#[test]
fn a_bar_smaller_than_its_page_is_refused_with_a_neighbour_there() {
    let vf = Vf::bare().bar(2, 0xfe80_0000, 0x1000, 0x200).bar(3, 0xfe80_1000, 0x1000, 0x200);
    assert_eq!(
        refusal(vf.notify(2, 0, 0x1000, 4), PAGE_64K),
        "BAR 2 of 0x1000 bytes shares its page of memory with BAR 3"
    );
}
