//! Configuration space and its capability list (PCI 3.0, 6.7).

use crate::host::{self, Host};

use super::{PciAddress, folder};

/// Bytes that hold every capability of the list: the conventional configuration space.
const SIZE: usize = 256;
/// Status register and its bit that says that a capability list stands.
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Where the list starts.
const CAPABILITY_POINTER: usize = 0x34;
/// Capabilities lie behind the header.
const FIRST: usize = 0x40;

/// A function's configuration space, as far as it could be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSpace(Vec<u8>);

/// One entry of the capability list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability {
    /// Where it starts.
    pub offset: usize,
    /// Capability id: 0x09 vendor-specific, 0x11 MSI-X.
    pub id: u8,
}

/// Why the capability list can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// Without CAP_SYS_ADMIN the kernel gives 64 bytes: the list would look empty.
    #[error("only {0} bytes of configuration space can be read, 256 are needed (is CAP_SYS_ADMIN missing?)")]
    Short(usize),
    /// What the root complex answers for a function that does not.
    #[error("its configuration space reads all ones: the function does not answer")]
    Silent,
    /// The list comes back to where it was.
    #[error("the capability list loops at {0:#04x}")]
    Loop(usize),
    /// A capability lies in the header or runs over the end.
    #[error("the capability at {0:#04x} lies outside of the space for capabilities")]
    Outside(usize),
}

impl ConfigSpace {
    /// Reads the first 256 bytes of the function's `config`: each dword is an access to the hardware, and the
    /// extended space behind holds no capability of this list.
    pub fn read(host: &Host, address: PciAddress) -> host::Result<Self> {
        host.read_start(format!("{}/config", folder(address)), SIZE).map(Self)
    }

    /// A space from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Bytes that could be read.
    #[must_use]
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// The capability list, in its order.
    pub fn capabilities(&self) -> Result<Vec<Capability>, CapabilityError> {
        if self.0.len() < SIZE {
            return Err(CapabilityError::Short(self.0.len()));
        }
        if self.0.iter().take(FIRST).all(|byte| *byte == 0xff) {
            return Err(CapabilityError::Silent);
        }
        let mut found: Vec<Capability> = Vec::new();
        if self.u16(STATUS).unwrap_or(0) & STATUS_CAPABILITIES == 0 {
            return Ok(found);
        }
        let mut next = self.pointer(CAPABILITY_POINTER);
        while next != 0 {
            if next < FIRST {
                return Err(CapabilityError::Outside(next));
            }
            if found.iter().any(|capability| capability.offset == next) {
                return Err(CapabilityError::Loop(next));
            }
            let id = self.u8(next).ok_or(CapabilityError::Outside(next))?;
            found.push(Capability { offset: next, id });
            next = self.pointer(next + 1);
        }
        Ok(found)
    }

    /// A byte; `None` behind the end of the conventional space.
    #[must_use]
    pub fn u8(&self, offset: usize) -> Option<u8> {
        self.bytes(offset).map(|[byte]| byte)
    }

    /// A little-endian 16-bit register.
    #[must_use]
    pub fn u16(&self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_le_bytes)
    }

    /// A little-endian 32-bit register.
    #[must_use]
    pub fn u32(&self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_le_bytes)
    }

    /// The low two bits of a pointer are reserved: software masks them.
    fn pointer(&self, offset: usize) -> usize {
        self.u8(offset).map_or(0, |pointer| usize::from(pointer & !3))
    }

    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..offset.checked_add(N)?.min(SIZE))?.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space(list: &[(usize, u8, u8)]) -> ConfigSpace {
        let mut bytes = vec![0; SIZE];
        bytes[STATUS] = 0x10;
        bytes[CAPABILITY_POINTER] = u8::try_from(list[0].0).unwrap();
        for (offset, id, next) in list {
            bytes[*offset] = *id;
            bytes[*offset + 1] = *next;
        }
        ConfigSpace(bytes)
    }

    #[test]
    fn the_list_is_walked_in_its_order() {
        let found = space(&[(0x98, 0x11, 0x84), (0x84, 0x09, 0)]).capabilities().unwrap();
        assert_eq!(found, [Capability { offset: 0x98, id: 0x11 }, Capability { offset: 0x84, id: 0x09 }]);
    }

    #[test]
    fn a_function_that_does_not_answer_has_no_list() {
        let space = ConfigSpace::from_bytes(vec![0xff; 256]);
        assert_eq!(space.capabilities(), Err(CapabilityError::Silent));
    }

    #[test]
    fn a_list_that_loops_is_refused() {
        let space = space(&[(0x40, 0x09, 0x50), (0x50, 0x09, 0x40)]);
        assert_eq!(space.capabilities(), Err(CapabilityError::Loop(0x40)));
    }

    #[test]
    fn a_capability_in_the_header_is_refused() {
        let space = space(&[(0x40, 0x09, 0x10)]);
        assert_eq!(space.capabilities(), Err(CapabilityError::Outside(0x10)));
    }

    #[test]
    fn a_short_read_is_not_an_empty_list() {
        let space = ConfigSpace(vec![0; 64]);
        assert_eq!(space.capabilities(), Err(CapabilityError::Short(64)));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ConfigSpace(bytes).capabilities();
        }
    }
}
