//! Virtio devices that the kernel drives: what they and their driver say of their state.

use crate::host::{self, Host};

/// `VIRTIO_CONFIG_S_NEEDS_RESET` (virtio 1.3, section 2.1): the device has an error that it can't recover from.
const NEEDS_RESET: u32 = 0x40;
/// `VIRTIO_CONFIG_S_FAILED`: the driver has given up on the device.
const FAILED: u32 = 0x80;

/// What is wrong with the virtio device that is, or hangs directly below, a device's folder, by its status register.
/// `None` where nothing is, or no such device is there.
pub fn trouble(host: &Host, device: &str) -> host::Result<Option<&'static str>> {
    let children = host.list(device)?;
    let virtio = children.iter().filter(|name| name.starts_with("virtio"));
    let below = virtio.map(|child| format!("{device}/{child}/status"));
    for file in std::iter::once(format!("{device}/status")).chain(below) {
        let Some(text) = host.read_text_if_any(file)? else { continue };
        // A file of that name with something else in it is another driver's.
        let Some(status) = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok())
        else {
            continue;
        };
        if status & FAILED != 0 {
            return Ok(Some("it has failed: its driver gave up on it"));
        }
        if status & NEEDS_RESET != 0 {
            return Ok(Some("it needs a reset: it has an error that it can't recover from"));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_of_an_error_of_the_device_or_of_its_driver() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        host.make_folder("/vf/virtio3").unwrap();
        assert_eq!(trouble(&host, "/vf").unwrap(), None);
        for (status, told) in
            [("0x0000000f", None), ("0x0000004f", Some("needs a reset")), ("0x000000cf", Some("has failed"))]
        {
            host.replace("/vf/virtio3/status", format!("{status}\n").as_bytes()).unwrap();
            for device in ["/vf", "/vf/virtio3"] {
                let trouble = trouble(&host, device).unwrap();
                assert_eq!(trouble.is_some(), told.is_some());
                assert!(told.is_none_or(|told| trouble.unwrap().contains(told)), "{trouble:?}");
            }
        }
    }
}
