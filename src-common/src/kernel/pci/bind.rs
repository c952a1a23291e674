//! Binding one function to one driver.
//!
//! `driver_override` + `drivers_probe` names the driver for this function alone; `new_id` would catch every function
//! of that vendor and device, in a race with other drivers.

use crate::host::{Host, HostError};

use super::{PciAddress, driver, folder};

const PROBE: &str = "/sys/bus/pci/drivers_probe";
const DRIVERS: &str = "/sys/bus/pci/drivers";

/// Why a function is not on the driver that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel would bind nothing, silently.
    #[error("driver {0} is not loaded (modprobe it, or name it in /etc/modules-load.d)")]
    NotLoaded(String),
    /// The driver looked at the function and left it.
    #[error("driver {wanted} did not take the function; it is on {now}")]
    NotTaken {
        /// The driver asked for.
        wanted: String,
        /// The driver it ended on.
        now: String,
    },
    /// It is without a driver.
    #[error("no driver that is loaded takes the function by itself")]
    Untaken,
    /// A sysfs file could not be read or written.
    #[error(transparent)]
    Host(#[from] HostError),
}

/// Whether a driver is there to bind to.
pub fn is_loaded(host: &Host, driver: &str) -> Result<(), BindError> {
    if host.exists(format!("{DRIVERS}/{driver}")) {
        Ok(())
    } else {
        Err(BindError::NotLoaded(driver.to_owned()))
    }
}

/// Leaves the function to the driver that the kernel chooses, taking it off another first.
///
/// Where a PF is told to have no drivers for its VFs, the kernel binds one to none that is not named
/// (`pci_device_can_probe`), whoever asks: so the PF is told otherwise for that moment.
///
/// Blocks without a bound where somebody holds it open, as [`bind`] does.
pub fn unbind_to_default(host: &Host, address: PciAddress) -> Result<(), BindError> {
    let folder = folder(address);
    host.write_attribute(format!("{folder}/driver_override"), "\n")?;
    if driver(host, address)?.is_some() {
        host.write_attribute(format!("{folder}/driver/unbind"), &address.to_string())?;
    }
    let autoprobe = format!("{folder}/physfn/sriov_drivers_autoprobe");
    let is_off = host.read_text_if_any(&autoprobe)?.is_some_and(|on| on == "0");
    if is_off {
        host.write_attribute(&autoprobe, "1")?;
    }
    let probed = host.write_attribute(PROBE, &address.to_string());
    if is_off {
        host.write_attribute(&autoprobe, "0")?;
    }
    probed?;
    if driver(host, address)?.is_some() { Ok(()) } else { Err(BindError::Untaken) }
}

/// Puts the function back on the driver that it was found on, or on none, and leaves no override behind.
///
/// Blocks without a bound where somebody holds it open, as [`bind`] does.
pub fn give_back(host: &Host, address: PciAddress, was: Option<&str>) -> Result<(), BindError> {
    let folder = folder(address);
    match was {
        Some(was) => bind(host, address, was)?,
        None if driver(host, address)?.is_some() => {
            host.write_attribute(format!("{folder}/driver/unbind"), &address.to_string())?;
        }
        None => {}
    }
    Ok(host.write_attribute(format!("{folder}/driver_override"), "\n")?)
}

/// Binds the function to `wanted`, taking it off another driver first. Nothing is written where it is there already.
///
/// Unbinding a function that somebody holds open blocks without a bound: the caller has made sure that it is free.
pub fn bind(host: &Host, address: PciAddress, wanted: &str) -> Result<(), BindError> {
    let now = driver(host, address)?;
    if now.as_deref() == Some(wanted) {
        return Ok(());
    }
    is_loaded(host, wanted)?;
    let folder = folder(address);
    host.write_attribute(format!("{folder}/driver_override"), wanted)?;
    if now.is_some() {
        host.write_attribute(format!("{folder}/driver/unbind"), &address.to_string())?;
    }
    host.write_attribute(PROBE, &address.to_string())?;
    match driver(host, address)? {
        Some(now) if now == wanted => Ok(()),
        _ => {
            // Its own driver takes it back.
            host.write_attribute(format!("{folder}/driver_override"), "\n")?;
            host.write_attribute(PROBE, &address.to_string())?;
            let now = driver(host, address)?.unwrap_or_else(|| "no driver".to_owned());
            Err(BindError::NotTaken { wanted: wanted.to_owned(), now })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const PF: &str = "0000:01:00.0";
    const VF: &str = "0000:01:00.1";

    /// A VF on a driver, of a PF that is told to have none for its VFs. No kernel is here that would bind it anew.
    fn vf(on: &str) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        let folders = [PF, VF].map(|address| folder(address.parse().unwrap()));
        for path in folders.iter().map(String::as_str).chain(["/sys/bus/pci/drivers/virtio-pci"]) {
            host.make_folder(path).unwrap();
        }
        let [pf, vf] = &folders;
        for file in [&format!("{pf}/sriov_drivers_autoprobe"), &format!("{vf}/driver_override"), PROBE] {
            host.replace(file, b"0").unwrap();
        }
        host.replace("/sys/bus/pci/drivers/virtio-pci/unbind", b"").unwrap();
        symlink(format!("../{PF}"), host.path(format!("{vf}/physfn"))).unwrap();
        symlink(format!("../../drivers/{on}"), host.path(format!("{vf}/driver"))).unwrap();
        (root, host)
    }

    #[test]
    fn the_pf_is_left_as_it_was_told_to_be() {
        let (_root, host) = vf("virtio-pci");
        unbind_to_default(&host, VF.parse().unwrap()).unwrap();
        let read = |path: &str| host.read_text(path).unwrap();
        assert_eq!(read(&format!("{}/sriov_drivers_autoprobe", folder(PF.parse().unwrap()))), "0");
        assert_eq!(read("/sys/bus/pci/drivers/virtio-pci/unbind"), VF);
        assert_eq!(read(PROBE), VF);
    }

    #[test]
    fn a_function_that_no_driver_takes_is_told_of() {
        let (_root, host) = vf("virtio-pci");
        let address: PciAddress = VF.parse().unwrap();
        std::fs::remove_file(host.path(format!("{}/driver", folder(address)))).unwrap();
        assert!(matches!(unbind_to_default(&host, address), Err(BindError::Untaken)));
    }
}
