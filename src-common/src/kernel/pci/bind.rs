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
/// Blocks without a bound where somebody holds it open, as [`bind`] does.
pub fn unbind_to_default(host: &Host, address: PciAddress) -> Result<(), BindError> {
    let folder = folder(address);
    host.write_attribute(format!("{folder}/driver_override"), "\n")?;
    if driver(host, address)?.is_some() {
        host.write_attribute(format!("{folder}/driver/unbind"), &address.to_string())?;
    }
    Ok(host.write_attribute(PROBE, &address.to_string())?)
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
