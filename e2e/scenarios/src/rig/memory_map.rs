//! QEMU's `info mtree -f`: what each piece of a guest's memory is.

/// A piece: `0000…-0000… (prio 0, ramd): 0000:01:00.1 BAR 4 mmaps[0] @0000…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// `ramd`: a device's memory, mapped into the guest. `i/o`: QEMU's own, and each access leaves the guest.
    pub(crate) kind: String,
    /// The region that it is of.
    pub(crate) region: String,
    /// Where in that region it starts.
    pub(crate) start: u64,
    /// And ends.
    pub(crate) end: u64,
}

/// Every piece that is printed.
pub(crate) fn parse(printed: &str) -> Vec<Piece> {
    printed.lines().filter_map(piece).collect()
}

fn piece(line: &str) -> Option<Piece> {
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (place, rest) = line.trim().split_once(" (prio ")?;
    let (first, last) = place.split_once('-')?;
    let (kind, region) = rest.split_once("): ")?;
    let (_, kind) = kind.split_once(", ")?;
    let (region, start) = region.split_once(" @").unwrap_or((region, "0"));
    // Where it is of a piece of a device tree QEMU says more behind it.
    let start = number(start.split(' ').next()?)?;
    let length = number(last)?.checked_sub(number(first)?)? + 1;
    Some(Piece { kind: kind.to_owned(), region: region.to_owned(), start, end: start + length })
}

/// Whether those bytes of a region are of that kind, all of them in one piece.
pub(crate) fn is(map: &[Piece], region: &str, kind: &str, start: u64, end: u64) -> bool {
    map.iter()
        .any(|piece| piece.region == region && piece.kind == kind && piece.start <= start && end <= piece.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
FlatView #2
 AS \"memory\", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000fe800000-00000000fe8001ff (prio 0, i/o): msix-table
  00000000fea00000-00000000fea02fff (prio 0, ramd): 0000:01:00.1 BAR 4 mmaps[0]
  00000000fea03000-00000000fea03fff (prio 0, ramd): 0000:01:00.1 BAR 4 mmaps[0] @0000000000003000
  0000000100000000-00000001000000ff (prio 0, i/o): other KVM
";

    #[test]
    fn a_piece_is_where_it_is_in_its_region() {
        let map = parse(PRINTED);
        assert_eq!(map.len(), 5);
        let region = "0000:01:00.1 BAR 4 mmaps[0]";
        assert!(is(&map, region, "ramd", 0x3000, 0x4000) && is(&map, region, "ramd", 0, 0x1000));
        assert!(is(&map, "msix-table", "i/o", 0, 0x200) && !is(&map, "msix-table", "ramd", 0, 0x200));
        assert!(!is(&map, region, "ramd", 0x2000, 0x4000), "no piece has both");
        assert!(!is(&map, region, "i/o", 0x3000, 0x4000));
    }
}
