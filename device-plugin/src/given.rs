//! The command `given`, of a container: which devices it was given, and whether it can open what it is to open.

use std::fmt::Write;
use std::fs::File;

use anyhow::{Context, Result, bail};
use doorbell_common::formats::descriptor::{self, Device};
use doorbell_common::host::Host;
use doorbell_common::subdevice::DeviceId;

/// What a container was given.
#[derive(Debug)]
pub struct Given {
    /// A line a device, and below it one a node.
    pub text: String,
    /// Whether every node opens.
    pub ok: bool,
}

/// Looks at what is described below `folder`, which the container's variable [`descriptor::ENV`] names.
pub fn given(host: &Host, folder: Option<&str>) -> Result<Given> {
    let Some(folder) = folder else {
        bail!("{} is not set: this container was given no device", descriptor::ENV)
    };
    let mut given = Given { text: String::new(), ok: true };
    for pool in host.list(folder)? {
        for id in host.list(format!("{folder}/{pool}"))? {
            let id: DeviceId = id.parse().with_context(|| format!("a device of pool {pool}"))?;
            let device = descriptor::read_in_container(host, folder, &pool, &id)?;
            given.add(host, &device.with_context(|| format!("device {id} is not described"))?);
        }
    }
    if given.text.is_empty() {
        bail!("{folder} describes no device");
    }
    Ok(given)
}

impl Given {
    fn add(&mut self, host: &Host, device: &Device) {
        let Device { resource, id, access, isolation, doorbell, .. } = device;
        let (class, effective) = (isolation.class, doorbell.effective);
        let _ = writeln!(self.text, "{resource} {id}: {access}, isolated by {class}, doorbell {effective}");
        for node in device.nodes.paths() {
            let opened = File::options().read(true).write(true).open(host.path(node));
            self.ok &= opened.is_ok();
            let outcome =
                opened.map_or_else(|error| format!("does not open: {error}"), |_| "opens".to_owned());
            let _ = writeln!(self.text, "  {node} {outcome}");
        }
    }
}
