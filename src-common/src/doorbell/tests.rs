//! The verdict against layouts of real VFs and against broken ones.

mod pages;

use proptest::prelude::*;

use super::*;

const PAGE: u64 = 0x1000;

/// A virtio VF as the testbed shows it, piece by piece replaceable: BAR 1 with MSI-X, BAR 4 with the virtio structures.
struct Vf {
    bytes: Vec<u8>,
    next: usize,
    bars: [String; 6],
}

impl Vf {
    fn bare() -> Self {
        let mut bytes = vec![0; 256];
        bytes[0x06] = 0x10;
        let none = "0x0 0x0 0x0".to_owned();
        Self { bytes, next: 0x40, bars: std::array::from_fn(|_| none.clone()) }
    }

    fn usual() -> Self {
        Self::bare()
            .bar(1, 0xfe80_0000, 0x1000, 0x200)
            .bar(4, 0xe0_0000_0000, 0x4000, 0x200)
            .msix(1, 0, 0x800)
            .cap(COMMON, 4, 0, 0x1000)
            .cap(ISR, 4, 0x1000, 0x1000)
            .cap(DEVICE, 4, 0x2000, 0x1000)
    }

    fn bar(mut self, number: usize, start: u64, length: u64, flags: u64) -> Self {
        self.bars[number] = format!("{start:#x} {:#x} {flags:#x}", start + length - 1);
        self
    }

    fn link(&mut self) -> usize {
        let at = self.next;
        self.bytes[at + 1] = self.bytes[0x34];
        self.bytes[0x34] = u8::try_from(at).unwrap();
        at
    }

    fn cap(mut self, kind: u8, bar: u8, offset: u32, length: u32) -> Self {
        let at = self.link();
        self.bytes[at] = 0x09;
        self.bytes[at + 2] = 16;
        self.bytes[at + 3] = kind;
        self.bytes[at + 4] = bar;
        self.bytes[at + 8..at + 12].copy_from_slice(&offset.to_le_bytes());
        self.bytes[at + 12..at + 16].copy_from_slice(&length.to_le_bytes());
        self.next += 16;
        self
    }

    fn notify(self, bar: u8, offset: u32, length: u32, multiplier: u32) -> Self {
        let mut vf = self.cap(NOTIFY, bar, offset, length);
        let at = vf.next;
        vf.bytes[at - 16 + 2] = 20;
        vf.bytes[at..at + 4].copy_from_slice(&multiplier.to_le_bytes());
        vf.next += 4;
        vf
    }

    fn msix(mut self, bar: u32, table: u32, pending: u32) -> Self {
        let at = self.link();
        self.bytes[at] = 0x11;
        self.bytes[at + 2..at + 4].copy_from_slice(&2u16.to_le_bytes());
        self.bytes[at + 4..at + 8].copy_from_slice(&(table | bar).to_le_bytes());
        self.bytes[at + 8..at + 12].copy_from_slice(&(pending | bar).to_le_bytes());
        self.next += 12;
        self
    }

    fn verify(self) -> Result<Doorbell, Refusal> {
        self.verify_with(PAGE)
    }

    fn verify_with(self, page: u64) -> Result<Doorbell, Refusal> {
        verify(&ConfigSpace::from_bytes(self.bytes), &Bars::parse(&self.bars.join("\n")), page)
    }
}

const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

#[test]
fn a_small_multiplier_rings_the_device() {
    let doorbell = Vf::usual().notify(4, 0x3000, 0x1000, 4).verify().unwrap();
    assert_eq!(doorbell.granularity, Granularity::Device);
    assert_eq!((doorbell.bar, doorbell.offset, doorbell.length, doorbell.stride), (4, 0x3000, 0x1000, 4));
    assert_eq!(doorbell.hull, Hull { start: 0x3000, length: 0x1000 });
}

#[test]
fn a_page_a_queue_rings_the_queue() {
    let vf = Vf::usual().bar(4, 0xe0_0000_0000, 0x80_0000, 0x200);
    let doorbell = vf.notify(4, 0x40_0000, 0x40_0000, 0x1000).verify().unwrap();
    assert_eq!(doorbell.granularity, Granularity::Queue);
    assert_eq!(doorbell.hull.length, 0x40_0000);
}

#[test]
fn one_doorbell_for_all_rings_the_device() {
    let doorbell = Vf::usual().notify(4, 0x3000, 2, 0).verify().unwrap();
    assert_eq!((doorbell.granularity, doorbell.stride), (Granularity::Device, 0));
}

#[test]
fn registers_in_the_page_make_it_shared() {
    let refusal = Vf::usual().notify(4, 0x2800, 0x800, 4).verify().unwrap_err();
    assert!(refusal.to_string().starts_with("shared: the device configuration (BAR 4"), "{refusal}");
    // A notify area that begins in the page behind the registers, but ends in a page with more of them.
    let vf = Vf::usual().notify(4, 0x3000, 0x100, 4).cap(77, 4, 0x3800, 4);
    assert!(vf.verify().unwrap_err().to_string().contains("unknown type 77"));
}

#[test]
fn the_msix_table_in_the_page_makes_it_shared() {
    let vf =
        Vf::bare().bar(4, 0xe0_0000_0000, 0x4000, 0x200).msix(4, 0x3800, 0x3f00).notify(4, 0x3000, 0x800, 4);
    let refusal = vf.verify().unwrap_err();
    assert!(refusal.to_string().contains("MSI-X") && refusal.is_for_msix_alone());
}

#[test]
fn registers_beside_the_msix_table_are_named_before_it() {
    let vf = Vf::bare()
        .bar(4, 0xe0_0000_0000, 0x4000, 0x200)
        .msix(4, 0x3800, 0x3f00)
        .notify(4, 0x3000, 0x800, 4)
        .cap(77, 4, 0x3840, 4);
    let refusal = vf.verify().unwrap_err();
    assert!(refusal.to_string().contains("unknown type 77") && !refusal.is_for_msix_alone(), "{refusal}");
}

#[test]
fn an_area_past_its_bar_is_refused() {
    let refusal = Vf::usual().notify(4, 0x3000, 0x1001, 4).verify().unwrap_err();
    assert!(matches!(refusal, Refusal::PastBar { length: 0x4000, .. }), "{refusal}");
    let refusal = Vf::usual().notify(4, u32::MAX, u32::MAX, 4).verify().unwrap_err();
    assert!(matches!(refusal, Refusal::PastBar { .. }), "{refusal}");
}

#[test]
fn bad_multipliers_are_refused() {
    for multiplier in [1, 3, 0xfff, 0x1001, u32::MAX] {
        let refusal = Vf::usual().notify(4, 0x3000, 0x1000, multiplier).verify();
        assert_eq!(refusal, Err(Refusal::Multiplier(multiplier)));
    }
}

#[test]
fn an_odd_or_empty_area_is_refused() {
    for (offset, length) in [(0x3001, 0x10), (0x3000, 1), (0x3000, 0)] {
        assert!(matches!(Vf::usual().notify(4, offset, length, 4).verify(), Err(Refusal::Malformed(_))));
    }
}

#[test]
fn ports_cannot_be_mapped() {
    let vf = Vf::usual().bar(0, 0xc000, 0x40, 0x100);
    assert_eq!(vf.notify(0, 0, 0x10, 4).verify(), Err(Refusal::OnlyPorts(0)));
    // The list runs from the last added to the first: the area in ports comes first here, and memory is taken.
    let vf = Vf::usual().bar(0, 0xc000, 0x40, 0x100).notify(4, 0x3000, 0x1000, 4).notify(0, 0, 0x10, 4);
    assert_eq!(vf.verify().unwrap().bar, 4);
}

#[test]
fn no_notify_no_doorbell() {
    assert_eq!(Vf::usual().verify(), Err(Refusal::NoNotify));
    assert_eq!(Vf::usual().notify(6, 0, 0x1000, 4).verify(), Err(Refusal::NoNotify));
    assert!(matches!(Vf::usual().notify(2, 0, 0x1000, 4).verify(), Err(Refusal::NoBar(_))));
}

#[test]
fn a_bar_that_shares_its_page_is_refused() {
    let vf = Vf::bare().bar(2, 0xfe80_0000, 0x800, 0x200).bar(3, 0xfe80_0800, 0x800, 0x200);
    assert!(matches!(vf.notify(2, 0, 0x800, 4).verify(), Err(Refusal::SubPage { bar: 2, neighbour: 3, .. })));
    let vf = Vf::bare().bar(2, 0xfe80_0800, 0x800, 0x200);
    assert!(matches!(vf.notify(2, 0, 0x800, 4).verify(), Err(Refusal::Unaligned { bar: 2, .. })));
    let vf = Vf::bare().bar(2, 0xfe80_0000, 0x800, 0x200);
    assert!(vf.notify(2, 0, 0x800, 4).verify().is_ok());
}

#[test]
fn a_vendors_own_data_names_no_bar() {
    let mut vf = Vf::usual().notify(4, 0x3000, 0x1000, 4);
    let at = vf.link();
    // vndr, next, length 8, cfg_type 9, and a vendor id where other capabilities have their BAR.
    vf.bytes[at] = 0x09;
    vf.bytes[at + 2..at + 6].copy_from_slice(&[8, 9, 0x04, 0x1d]);
    assert!(vf.verify().is_ok());
}

#[test]
fn a_capability_cut_short_is_refused() {
    let mut vf = Vf::usual().notify(4, 0x3000, 0x1000, 4);
    let at = usize::from(vf.bytes[0x34]);
    vf.bytes[at + 2] = 16;
    assert_eq!(vf.verify(), Err(Refusal::Layout(LayoutError::TooShort(at))));
}

proptest! {
    #[test]
    fn any_configuration_space_gets_a_verdict(
        mut bytes in proptest::collection::vec(any::<u8>(), 256),
        lengths in any::<[u16; 6]>(),
    ) {
        bytes[0x06] |= 0x10;
        let resource: Vec<_> = lengths
            .iter()
            .map(|length| format!("0xfe800000 {:#x} 0x200", 0xfe80_0000_u64 + u64::from(*length)))
            .collect();
        let _ = verify(&ConfigSpace::from_bytes(bytes), &Bars::parse(&resource.join("\n")), PAGE);
    }

    /// A sound list of unsound capabilities: each field may be anything.
    #[test]
    fn any_capabilities_get_a_verdict(
        capabilities in proptest::collection::vec((any::<u8>(), 0u8..8, any::<u32>(), any::<u32>()), 0..5),
        notify in (0u8..8, any::<u32>(), any::<u32>(), any::<u32>()),
    ) {
        let mut vf = Vf::bare().bar(4, 0xe0_0000_0000, 0x8000, 0x200).bar(5, 0xe1_0000_0000, 1 << 40, 0x200);
        for (kind, bar, offset, length) in capabilities {
            vf = vf.cap(kind, bar, offset, length);
        }
        let (bar, offset, length, multiplier) = notify;
        if let Ok(doorbell) = vf.notify(bar, offset, length, multiplier).verify() {
            prop_assert!(doorbell.bar == 4 || doorbell.bar == 5);
        }
    }

    /// Whatever the layout: an exclusive doorbell's pages meet no other structure and stay in the BAR's pages.
    #[test]
    fn an_exclusive_doorbell_is_alone(
        notify in (0u32..0x6000, 0u32..0x3000, prop::sample::select(vec![0u32, 2, 4, 0x800, 0x1000, 0x2000])),
        others in proptest::collection::vec((0u32..0x6000, 1u32..0x2000), 0..3),
    ) {
        let mut vf = Vf::bare().bar(4, 0xe0_0000_0000, 0x8000, 0x200);
        for (offset, length) in &others {
            vf = vf.cap(DEVICE, 4, *offset, *length);
        }
        let (offset, length, multiplier) = notify;
        if let Ok(doorbell) = vf.notify(4, offset, length, multiplier).verify() {
            let pages = doorbell.hull.start..doorbell.hull.start + doorbell.hull.length;
            prop_assert!(pages.start.is_multiple_of(PAGE) && pages.end.is_multiple_of(PAGE) && pages.end <= 0x8000);
            prop_assert!(pages.start <= u64::from(offset) && u64::from(offset + length) <= pages.end);
            for (offset, length) in others {
                let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(length));
                prop_assert!(end <= pages.start || pages.end <= start);
            }
        }
    }
}
