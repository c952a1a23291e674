//! Binding one vDPA device to one bus driver.
//!
//! Any bus driver takes any device, so the first that was loaded would take it: `driver_override` names the one that
//! shall, for this device alone. Until that is written, the bus' `drivers_autoprobe` has to be off.

use std::fmt;

use crate::host::{self, Host, HostError};

use super::{VdpaName, find};

const AUTOPROBE: &str = "/sys/bus/vdpa/drivers_autoprobe";
const DRIVERS: &str = "/sys/bus/vdpa/drivers";

/// What a vDPA device can be driven by; module and driver have one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusDriver {
    /// Whoever opens `/dev/vhost-vdpa-N`.
    VhostVdpa,
    /// This host's virtio drivers: a netdev, for a network device.
    VirtioVdpa,
}

/// Why a device is not on the driver that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// There is no such device.
    #[error("no vDPA device {0}")]
    Gone(VdpaName),
    /// There is no such driver yet.
    #[error("driver {0} is not loaded (modprobe it, or name it in /etc/modules-load.d)")]
    NotLoaded(BusDriver),
    /// The driver looked at the device and left it.
    #[error("driver {wanted} did not take vDPA device {name}; it is on {now}")]
    NotTaken {
        /// The device.
        name: VdpaName,
        /// The driver asked for.
        wanted: BusDriver,
        /// The driver it ended on.
        now: String,
    },
    /// A sysfs file could not be read or written. For `bind` this is the driver's own refusal.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl BusDriver {
    /// As sysfs and modprobe have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::VhostVdpa => "vhost_vdpa",
            Self::VirtioVdpa => "virtio_vdpa",
        }
    }
}

impl fmt::Display for BusDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Binds the device to `wanted`, taking it off another driver first. Nothing is written where it is there already.
///
/// Taking a device off vhost_vdpa blocks without a bound while somebody holds it open: the caller has made sure that it
/// is free. One that the driver does not take stays unbound, with its override, so that no other driver takes it.
pub fn bind(host: &Host, name: &VdpaName, wanted: BusDriver) -> Result<(), BindError> {
    let device = find(host, name)?.ok_or_else(|| BindError::Gone(name.clone()))?;
    if device.driver.as_deref() == Some(wanted.name()) {
        return Ok(());
    }
    if !host.exists(format!("{DRIVERS}/{wanted}")) {
        return Err(BindError::NotLoaded(wanted));
    }
    host.write_attribute(format!("{}/driver_override", device.folder), wanted.name())?;
    unbind(host, name)?;
    host.write_attribute(format!("{DRIVERS}/{wanted}/bind"), name.as_str())?;
    match find(host, name)?.and_then(|device| device.driver) {
        Some(now) if now == wanted.name() => Ok(()),
        now => {
            let now = now.unwrap_or_else(|| "no driver".to_owned());
            Err(BindError::NotTaken { name: name.clone(), wanted, now })
        }
    }
}

/// Takes the device off its driver. Nothing is written where it has none.
///
/// Blocks without a bound while somebody holds it open, as [`bind`] does.
pub fn unbind(host: &Host, name: &VdpaName) -> Result<(), BindError> {
    let device = find(host, name)?.ok_or_else(|| BindError::Gone(name.clone()))?;
    if let Some(driver) = device.driver {
        host.write_attribute(format!("{DRIVERS}/{driver}/unbind"), name.as_str())?;
    }
    Ok(())
}

/// Whether the kernel binds a new device to a driver at once, whichever comes first.
pub fn autoprobe(host: &Host) -> host::Result<bool> {
    Ok(host.read_text(AUTOPROBE)? != "0")
}

/// Has the kernel bind new devices at once, or leave them. Nothing is written where it is so already.
pub fn set_autoprobe(host: &Host, wanted: bool) -> host::Result<()> {
    if autoprobe(host)? == wanted {
        return Ok(());
    }
    host.write_attribute(AUTOPROBE, if wanted { "1" } else { "0" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vdpa::fixture::Fixture;

    const DEVICE: &str = "/sys/devices/pci0000:00/0000:01:00.1/vdpa0";

    fn fixture(driver: Option<&str>) -> (Fixture, VdpaName) {
        let host = Fixture::new();
        host.device(DEVICE, driver);
        (host, "vdpa0".parse().unwrap())
    }

    #[test]
    fn a_device_that_is_there_already_is_left_alone() {
        let (host, name) = fixture(Some("vhost_vdpa"));
        bind(&host, &name, BusDriver::VhostVdpa).unwrap();
        assert_eq!(host.read_text_if_any(format!("{DEVICE}/driver_override")).unwrap(), None);
    }

    #[test]
    fn a_driver_that_is_not_loaded_is_named_and_nothing_is_written() {
        let (host, name) = fixture(None);
        let refusal = bind(&host, &name, BusDriver::VhostVdpa).unwrap_err();
        assert!(refusal.to_string().starts_with("driver vhost_vdpa is not loaded"), "{refusal}");
        assert_eq!(host.read_text_if_any(format!("{DEVICE}/driver_override")).unwrap(), None);
    }

    #[test]
    fn a_device_is_taken_off_its_driver_and_given_to_the_other() {
        let (host, name) = fixture(Some("virtio_vdpa"));
        host.driver("vhost_vdpa");
        host.replace(format!("{DEVICE}/driver_override"), b"").unwrap();
        // No kernel here that would move it: what was asked of it is what shows.
        let refusal = bind(&host, &name, BusDriver::VhostVdpa).unwrap_err();
        let said = "driver vhost_vdpa did not take vDPA device vdpa0; it is on virtio_vdpa";
        assert_eq!(refusal.to_string(), said);
        let read = |path: &str| host.read_text(path).unwrap();
        assert_eq!(read(&format!("{DEVICE}/driver_override")), "vhost_vdpa");
        assert_eq!(read("/sys/bus/vdpa/drivers/virtio_vdpa/unbind"), "vdpa0");
        assert_eq!(read("/sys/bus/vdpa/drivers/vhost_vdpa/bind"), "vdpa0");
    }

    #[test]
    fn a_device_without_a_driver_is_unbound_already() {
        let (host, name) = fixture(None);
        unbind(&host, &name).unwrap();
        let gone = unbind(&host, &"vdpa1".parse().unwrap()).unwrap_err();
        assert_eq!(gone.to_string(), "no vDPA device vdpa1");
    }

    #[test]
    fn autoprobe_is_on_or_off() {
        let host = Fixture::new();
        host.make_folder("/sys/bus/vdpa").unwrap();
        host.replace(AUTOPROBE, b"1\n").unwrap();
        assert!(autoprobe(&host).unwrap());
        set_autoprobe(&host, true).unwrap();
        assert_eq!(host.read(AUTOPROBE).unwrap(), b"1\n");
        set_autoprobe(&host, false).unwrap();
        assert!(!autoprobe(&host).unwrap());
    }
}
