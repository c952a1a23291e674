//! What an open function said of itself, and whether it is what the verdict rests on. Pure: no device is touched.

use std::ops::Range;

use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_RESET, VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP, vfio_region_info,
};

use crate::doorbell::Doorbell;
use crate::kernel::pci::PciAddress;

use super::TrialError;

/// The answers of an open function that the judgement needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Of the device.
    pub(super) flags: u32,
    /// Bytes of the region that is the doorbell's BAR.
    pub(super) region_size: u64,
    /// Of that region.
    pub(super) region_flags: u32,
    /// What of that region can be mapped.
    pub(super) mappable: Mappable,
}

/// What of a region can be mapped, where it can be mapped at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mappable {
    /// Every page.
    Whole,
    /// These parts: the driver keeps the rest to itself.
    Parts(Vec<Range<u64>>),
    /// The capabilities that would say so are no list.
    Unclear,
}

/// The function can be reset, the region is the BAR that the verdict looked at, the driver lets it be mapped, and its
/// holes are not the doorbell.
pub(super) fn judge(address: PciAddress, doorbell: &Doorbell, seen: &Seen) -> Result<(), TrialError> {
    let Doorbell { bar: region, bar_length, hull, .. } = *doorbell;
    let differs = |what| Err(TrialError::Region { address, what });
    if seen.flags & VFIO_DEVICE_FLAGS_RESET == 0 {
        return Err(TrialError::NoReset(address));
    }
    if seen.region_size != bar_length {
        return differs(format!(
            "VFIO region {region} has {:#x} bytes, BAR {region} has {bar_length:#x}",
            seen.region_size
        ));
    }
    if seen.region_flags & VFIO_REGION_INFO_FLAG_MMAP == 0 {
        return differs(format!("the driver does not let region {region} be mapped"));
    }
    let covers = |area: &Range<u64>| area.start <= hull.start && hull.start + hull.length <= area.end;
    match &seen.mappable {
        Mappable::Whole => Ok(()),
        Mappable::Parts(areas) if areas.iter().any(covers) => Ok(()),
        Mappable::Parts(_) => {
            differs(format!("the mappable areas of region {region} leave out the doorbell's pages"))
        }
        Mappable::Unclear => differs(format!("the capabilities of region {region} can't be followed")),
    }
}

/// What of a region can be mapped, by its capabilities: the bytes behind `info`, from where the kernel counts offsets.
pub(super) fn mappable(info: &vfio_region_info, capabilities: &[u8]) -> Mappable {
    if info.flags & VFIO_REGION_INFO_FLAG_CAPS == 0 {
        return Mappable::Whole;
    }
    match sparse(info.cap_offset, capabilities) {
        Some(Some(areas)) => Mappable::Parts(areas),
        Some(None) => Mappable::Whole,
        None => Mappable::Unclear,
    }
}

/// The areas of the sparse-mmap capability, if there is one; `None` where the list can't be followed.
fn sparse(first: u32, capabilities: &[u8]) -> Option<Option<Vec<Range<u64>>>> {
    let mut next = first;
    while next != 0 {
        let at = usize::try_from(next).ok()?.checked_sub(size_of::<vfio_region_info>())?;
        let capability = capabilities.get(at..)?;
        if u32::from(u16::from_ne_bytes(bytes(capability, 0)?)) == VFIO_REGION_INFO_CAP_SPARSE_MMAP {
            return areas(capability).map(Some);
        }
        // The kernel lines them up, so one that leads back is no list of its.
        let following = u32::from_ne_bytes(bytes(capability, 4)?);
        if following != 0 && following <= next {
            return None;
        }
        next = following;
    }
    Some(None)
}

/// `struct vfio_region_info_cap_sparse_mmap`: the count at 8, from 16 on an offset and a size each.
fn areas(capability: &[u8]) -> Option<Vec<Range<u64>>> {
    let count = usize::try_from(u32::from_ne_bytes(bytes(capability, 8)?)).ok()?;
    let area = |number: usize| {
        let at = number.checked_mul(16)?.checked_add(16)?;
        let start = u64::from_ne_bytes(bytes(capability, at)?);
        Some(start..start.checked_add(u64::from_ne_bytes(bytes(capability, at + 8)?))?)
    };
    (0..count).map(area).collect()
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use vfio_bindings::bindings::vfio::VFIO_REGION_INFO_CAP_MSIX_MAPPABLE;

    use super::*;
    use crate::doorbell::{Granularity, Hull};

    const DOORBELL: Doorbell = Doorbell {
        bar: 4,
        bar_length: 0x4000,
        offset: 0x3000,
        length: 0x1000,
        stride: 4,
        granularity: Granularity::Device,
        hull: Hull { start: 0x3000, length: 0x1000 },
    };
    const GOOD: Seen = Seen {
        flags: VFIO_DEVICE_FLAGS_RESET,
        region_size: 0x4000,
        region_flags: VFIO_REGION_INFO_FLAG_MMAP,
        mappable: Mappable::Whole,
    };

    fn refusal(seen: &Seen) -> Option<String> {
        let address = "0000:01:00.1".parse().unwrap();
        judge(address, &DOORBELL, seen).err().map(|error| error.to_string())
    }

    fn with_parts(parts: &[Range<u64>]) -> Seen {
        Seen { mappable: Mappable::Parts(parts.to_vec()), ..GOOD }
    }

    #[test]
    fn a_function_that_is_as_the_verdict_says_passes() {
        assert_eq!(refusal(&GOOD), None);
        assert_eq!(refusal(&with_parts(&[0..0x1000, 0x2000..0x4000])), None);
    }

    #[test]
    fn a_function_that_cant_be_reset_is_refused() {
        assert_eq!(
            refusal(&Seen { flags: !VFIO_DEVICE_FLAGS_RESET, ..GOOD }).unwrap(),
            "0000:01:00.1 can't be reset (VFIO_DEVICE_FLAGS_RESET is not set)"
        );
    }

    #[test]
    fn a_region_of_another_size_is_refused() {
        assert_eq!(
            refusal(&Seen { region_size: 0x2000, ..GOOD }).unwrap(),
            "0000:01:00.1: VFIO region 4 has 0x2000 bytes, BAR 4 has 0x4000"
        );
    }

    #[test]
    fn a_region_that_the_driver_does_not_map_is_refused() {
        assert_eq!(
            refusal(&Seen { region_flags: !VFIO_REGION_INFO_FLAG_MMAP, ..GOOD }).unwrap(),
            "0000:01:00.1: the driver does not let region 4 be mapped"
        );
    }

    #[test]
    fn a_hole_over_the_doorbell_is_refused() {
        // None at all, two beside it, one with half of it, and two that only together have it.
        let parts: [&[Range<u64>]; 4] =
            [&[], &[0..0x1000, 0x1000..0x3000], &[0..0x1000, 0x2000..0x3800], &[0..0x3800, 0x3800..0x4000]];
        for parts in parts {
            assert_eq!(
                refusal(&with_parts(parts)).unwrap(),
                "0000:01:00.1: the mappable areas of region 4 leave out the doorbell's pages"
            );
        }
    }

    /// A capability: id, version 1, offset of the next, and what follows.
    fn capability(id: u32, next: u32, rest: &[u64]) -> Vec<u8> {
        let head = [u16::try_from(id).unwrap().to_ne_bytes(), 1_u16.to_ne_bytes()].concat();
        let rest = rest.iter().flat_map(|word| word.to_ne_bytes());
        head.into_iter().chain(next.to_ne_bytes()).chain(rest).collect()
    }

    fn read(capabilities: &[Vec<u8>]) -> Mappable {
        let flags = VFIO_REGION_INFO_FLAG_CAPS;
        let info = vfio_region_info { flags, cap_offset: 32, ..Default::default() };
        mappable(&info, &capabilities.concat())
    }

    #[test]
    fn the_mappable_areas_are_found_behind_another_capability() {
        let found = read(&[
            capability(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 40, &[]),
            capability(VFIO_REGION_INFO_CAP_SPARSE_MMAP, 0, &[2, 0, 0x1000, 0x3000, 0x1000]),
        ]);
        assert_eq!(found, Mappable::Parts(vec![0..0x1000, 0x3000..0x4000]));
    }

    #[test]
    fn a_region_without_mappable_areas_is_mappable_whole() {
        assert_eq!(read(&[capability(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 0, &[])]), Mappable::Whole);
        assert_eq!(mappable(&vfio_region_info::default(), &[]), Mappable::Whole);
    }

    #[test]
    fn capabilities_that_cant_be_followed_are_refused() {
        let (areas, other) = (VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE);
        for broken in [
            capability(areas, 0, &[2, 0, 0x1000]),
            capability(areas, 0, &[1, 1, u64::MAX]),
            capability(other, 32, &[]),
            capability(other, 4, &[]),
            capability(other, 0x4000, &[]),
            Vec::new(),
        ] {
            assert_eq!(read(std::slice::from_ref(&broken)), Mappable::Unclear, "{broken:?}");
        }
        assert_eq!(
            refusal(&Seen { mappable: Mappable::Unclear, ..GOOD }).unwrap(),
            "0000:01:00.1: the capabilities of region 4 can't be followed"
        );
    }
}
