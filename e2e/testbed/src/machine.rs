//! What a machine has: its physical functions, its IOMMU, its memory.

/// QEMU takes more, but one device number of eight functions more than the PF's is what the root port was tried with.
const MAX_VFS: u8 = 16;

/// A parameter that no machine can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadMachine {
    /// Too few or too many virtual functions.
    #[error("a virtio PF has 1 to {MAX_VFS} VFs, not {0}")]
    Vfs(u8),
    /// The words of a `--pf`.
    #[error("`{0}` is no PF: expected <VFs>, <VFs>,page-per-vq or igb")]
    Pf(String),
    /// The word of an `--iommu`.
    #[error("`{0}` is no IOMMU: expected on, no-intremap or off")]
    Iommu(String),
}

/// A physical function. The n-th of a machine is at `0000:0n:00.0`, with no VFs enabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pf(pub(crate) Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Virtio { vfs: u8, page_per_vq: bool },
    Igb,
}

impl Pf {
    /// A virtio-net PF with so many virtio-net VFs, 1 to 16; their notify capability has multiplier 4.
    pub fn virtio(vfs: u8) -> Result<Self, BadMachine> {
        if !(1..=MAX_VFS).contains(&vfs) {
            return Err(BadMachine::Vfs(vfs));
        }
        Ok(Self(Kind::Virtio { vfs, page_per_vq: false }))
    }

    /// The same, whose VFs have a page for each queue's doorbell (multiplier 0x1000).
    ///
    /// All VFs of a PF are alike in this: their BARs are of one size (SR-IOV 1.1, 3.3.14), and QEMU refuses a mix
    /// ("inconsistent SR-IOV BARs"). A machine with both kinds has two PFs.
    pub fn virtio_page_per_vq(vfs: u8) -> Result<Self, BadMachine> {
        Self::virtio(vfs).map(|_| Self(Kind::Virtio { vfs, page_per_vq: true }))
    }

    /// An Intel igb PF, whose up to 7 VFs speak no virtio.
    pub fn igb() -> Self {
        Self(Kind::Igb)
    }
}

impl std::str::FromStr for Pf {
    type Err = BadMachine;

    fn from_str(text: &str) -> Result<Self, BadMachine> {
        if text == "igb" {
            return Ok(Self::igb());
        }
        let (vfs, page_per_vq) = text.strip_suffix(",page-per-vq").map_or((text, false), |vfs| (vfs, true));
        let vfs = vfs.parse().map_err(|_| BadMachine::Pf(text.to_owned()))?;
        if page_per_vq { Self::virtio_page_per_vq(vfs) } else { Self::virtio(vfs) }
    }
}

/// The emulated Intel IOMMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iommu {
    /// With interrupt remapping.
    On,
    /// Without: vfio then refuses to attach a device (EPERM).
    NoInterruptRemapping,
    /// None: no IOMMU groups.
    Off,
}

impl std::str::FromStr for Iommu {
    type Err = BadMachine;

    fn from_str(text: &str) -> Result<Self, BadMachine> {
        match text {
            "on" => Ok(Self::On),
            "no-intremap" => Ok(Self::NoInterruptRemapping),
            "off" => Ok(Self::Off),
            _ => Err(BadMachine::Iommu(text.to_owned())),
        }
    }
}

/// The VM that a job runs in. All its network ports are on one segment.
#[derive(Debug, Clone)]
pub struct Machine {
    pub(crate) pfs: Vec<Pf>,
    pub(crate) iommu: Iommu,
    pub(crate) memory_mib: u32,
    pub(crate) kernel_args: Vec<String>,
    pub(crate) resets: u32,
    pub(crate) vmm: bool,
}

impl Machine {
    /// A machine with these PFs, an IOMMU with interrupt remapping, and 1 GiB of memory.
    pub fn new(pfs: impl IntoIterator<Item = Pf>) -> Self {
        let pfs = pfs.into_iter().collect();
        Self { pfs, iommu: Iommu::On, memory_mib: 1024, kernel_args: Vec::new(), resets: 0, vmm: false }
    }

    /// With this IOMMU.
    #[must_use]
    pub fn iommu(mut self, iommu: Iommu) -> Self {
        self.iommu = iommu;
        self
    }

    /// With so much memory.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// With so many resets: after each the job begins anew, and finds its disk, /job and all, as it left it, the rest as
    /// after any power cycle. `DOORBELL_BOOT` tells it which boot it is, from 1, and `doorbell-reset` is the guest's
    /// command to make one. A machine that no resets are granted to ends at the first, as an error.
    #[must_use]
    pub fn resets(mut self, resets: u32) -> Self {
        self.resets = resets;
        self
    }

    /// With what a machine is made of, for one in it: `mount -t 9p` finds `vmm`, a folder with QEMU, its libraries and
    /// firmware, and `kernel`, one with `bzImage`.
    #[must_use]
    pub fn vmm(mut self) -> Self {
        self.vmm = true;
        self
    }

    /// With one more argument on the kernel's command line.
    #[must_use]
    pub fn kernel_arg(mut self, argument: impl Into<String>) -> Self {
        self.kernel_args.push(argument.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_vfs_than_16_are_refused() {
        assert_eq!(Pf::virtio(0), Err(BadMachine::Vfs(0)));
        assert_eq!(Pf::virtio_page_per_vq(17), Err(BadMachine::Vfs(17)));
        assert_eq!(Pf::virtio(17).unwrap_err().to_string(), "a virtio PF has 1 to 16 VFs, not 17");
    }

    #[test]
    fn pf_parses_as_the_command_line_writes_it() {
        assert_eq!("16".parse(), Pf::virtio(16));
        assert_eq!("2,page-per-vq".parse(), Pf::virtio_page_per_vq(2));
        assert_eq!("igb".parse(), Ok(Pf::igb()));
        assert_eq!("17".parse::<Pf>(), Err(BadMachine::Vfs(17)));
        for bad in ["", "x", "4,", "4,page", "igb,page-per-vq"] {
            assert_eq!(bad.parse::<Pf>(), Err(BadMachine::Pf(bad.to_owned())));
        }
    }
}
