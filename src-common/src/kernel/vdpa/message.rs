//! One message of the kernel's generic netlink family `vdpa`: a command and its attributes.
//!
//! Numbers are those of Linux 6.12, `include/uapi/linux/vdpa.h` (`enum vdpa_command`, `enum vdpa_attr`), in the byte
//! order of the host.

use std::collections::BTreeMap;

use netlink_packet_core::{
    DecodeError, Emitable, ErrorContext, Nla, NlasIterator, ParseableParametrized, parse_mac, parse_string,
    parse_u8, parse_u16, parse_u32, parse_u64,
};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};

use crate::kernel::mac::MacAddress;

/// `VDPA_GENL_NAME` and `VDPA_GENL_VERSION`.
pub(super) const FAMILY: &str = "vdpa";
const VERSION: u8 = 1;

pub(super) const MGMTDEV_GET: u8 = 2;
pub(super) const DEV_NEW: u8 = 3;
pub(super) const DEV_DEL: u8 = 4;
pub(super) const DEV_GET: u8 = 5;
pub(super) const DEV_CONFIG_GET: u8 = 6;
/// Since Linux 6.12; an older kernel says EOPNOTSUPP.
pub(super) const DEV_ATTR_SET: u8 = 8;

/// Attributes' kinds, all `VDPA_ATTR_…`.
pub(super) const MGMTDEV_BUS_NAME: u16 = 1;
pub(super) const MGMTDEV_DEV_NAME: u16 = 2;
pub(super) const MGMTDEV_SUPPORTED_CLASSES: u16 = 3;
pub(super) const DEV_NAME: u16 = 4;
pub(super) const DEV_ID: u16 = 5;
pub(super) const DEV_VENDOR_ID: u16 = 6;
pub(super) const DEV_MAX_VQS: u16 = 7;
pub(super) const DEV_MAX_VQ_SIZE: u16 = 8;
pub(super) const DEV_NET_CFG_MACADDR: u16 = 10;
pub(super) const DEV_NET_STATUS: u16 = 11;
pub(super) const DEV_NET_CFG_MAX_VQP: u16 = 12;
pub(super) const DEV_NET_CFG_MTU: u16 = 13;
pub(super) const DEV_NEGOTIATED_FEATURES: u16 = 14;
pub(super) const DEV_MGMTDEV_MAX_VQS: u16 = 15;
pub(super) const DEV_SUPPORTED_FEATURES: u16 = 16;
pub(super) const DEV_FEATURES: u16 = 20;
/// In Linux 6.1 this number was another attribute, of network devices only.
pub(super) const DEV_BLK_CFG_CAPACITY: u16 = 21;
pub(super) const DEV_BLK_CFG_BLK_SIZE: u16 = 23;
pub(super) const DEV_BLK_CFG_SEG_MAX: u16 = 24;
pub(super) const DEV_BLK_CFG_NUM_QUEUES: u16 = 25;
pub(super) const DEV_BLK_READ_ONLY: u16 = 35;
pub(super) const DEV_BLK_FLUSH: u16 = 36;

/// A command with its attributes' values, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    command: u8,
    attributes: BTreeMap<u16, Vec<u8>>,
}

impl Message {
    pub(super) fn new(command: u8) -> Self {
        Self { command, attributes: BTreeMap::new() }
    }

    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.attributes.insert(kind, value.to_vec());
        self
    }

    /// A name, which the kernel takes up to its NUL.
    pub(super) fn with_text(self, kind: u16, text: &str) -> Self {
        let bytes: Vec<u8> = text.bytes().chain([0]).collect();
        self.with(kind, &bytes)
    }

    pub(super) fn with_u16(self, kind: u16, number: Option<u16>) -> Self {
        if let Some(number) = number { self.with(kind, &number.to_ne_bytes()) } else { self }
    }

    pub(super) fn with_u64(self, kind: u16, number: Option<u64>) -> Self {
        if let Some(number) = number { self.with(kind, &number.to_ne_bytes()) } else { self }
    }

    pub(super) fn text(&self, kind: u16) -> Result<Option<String>, DecodeError> {
        self.get(kind, parse_string)
    }

    pub(super) fn mac(&self, kind: u16) -> Result<Option<MacAddress>, DecodeError> {
        self.get(kind, |value| parse_mac(value).map(MacAddress::from))
    }

    pub(super) fn u8(&self, kind: u16) -> Result<Option<u8>, DecodeError> {
        self.get(kind, parse_u8)
    }

    pub(super) fn u16(&self, kind: u16) -> Result<Option<u16>, DecodeError> {
        self.get(kind, parse_u16)
    }

    pub(super) fn u32(&self, kind: u16) -> Result<Option<u32>, DecodeError> {
        self.get(kind, parse_u32)
    }

    pub(super) fn u64(&self, kind: u16) -> Result<Option<u64>, DecodeError> {
        self.get(kind, parse_u64)
    }

    /// An attribute that an answer of this command always has: `message.required(DEV_ID, Message::u32)`.
    pub(super) fn required<T>(
        &self,
        kind: u16,
        read: impl FnOnce(&Self, u16) -> Result<Option<T>, DecodeError>,
    ) -> Result<T, DecodeError> {
        read(self, kind)?.ok_or_else(|| DecodeError::from(format!("attribute {kind} is missing")))
    }

    fn get<T>(
        &self,
        kind: u16,
        parse: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let value = self.attributes.get(&kind).map(|value| parse(value));
        value.transpose().with_context(|| format!("attribute {kind}"))
    }

    /// The message in its netlink payload: the generic header, then the attributes.
    pub(super) fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let message: GenlMessage<Self> = GenlMessage::parse_with_param(payload, 0)?;
        Ok(message.payload)
    }
}

impl GenlFamily for Message {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        VERSION
    }
}

impl Emitable for Message {
    fn buffer_len(&self) -> usize {
        self.nlas().as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.nlas().as_slice().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Message {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        let mut message = Self::new(header.cmd);
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute?;
            message.attributes.insert(attribute.kind(), attribute.value().to_vec());
        }
        Ok(message)
    }
}

/// One attribute, for its layout.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

impl Message {
    fn nlas(&self) -> Vec<Attribute<'_>> {
        self.attributes.iter().map(|(kind, value)| Attribute { kind: *kind, value }).collect()
    }
}

impl Nla for Attribute<'_> {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_attribute_of_another_size_is_an_error_with_its_number() {
        let message = Message::new(DEV_GET).with(DEV_ID, &[1, 0]);
        let error = message.u32(DEV_ID).unwrap_err().to_string();
        assert!(error.starts_with("attribute 5 caused by"), "{error}");
        assert_eq!(
            message.required(DEV_NAME, Message::text).unwrap_err().to_string(),
            "attribute 4 is missing"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(values in proptest::collection::btree_map(0u16..64, proptest::collection::vec(any::<u8>(), 0..40), 0..8)) {
            let message = Message { command: DEV_NEW, attributes: values };
            let generic = GenlMessage::from_payload(message.clone());
            let mut bytes = vec![0xff; Emitable::buffer_len(&generic)];
            generic.emit(&mut bytes);
            prop_assert_eq!(Message::parse(&bytes).unwrap(), message);
        }

        #[test]
        fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&bytes);
        }
    }
}
