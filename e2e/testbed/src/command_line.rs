//! QEMU's command line for a machine: a pure function, with what was learnt about QEMU 11.1 noted where it is used.

use std::fmt;
use std::path::Path;

use crate::accel::Accel;
use crate::machine::{Iommu, Kind, Machine, Pf};

/// The files of the host that the command line names.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    /// Folder of QEMU, with its firmware.
    pub(crate) qemu: &'a Path,
    /// Folder of the kernel, with its modules.
    pub(crate) kernel: &'a Path,
    pub(crate) root: &'a Path,
    /// Shared with the guest as /job.
    pub(crate) share: &'a Path,
    /// Where ttyS1 goes, the kernel's console.
    pub(crate) console: &'a Path,
}

/// What follows the program's name.
pub(crate) fn arguments(machine: &Machine, files: &Files<'_>, accel: Accel) -> Vec<String> {
    let mut line = Line::default();
    line.flag("-nodefaults").flag("-no-user-config");
    if machine.resets == 0 {
        line.flag("-no-reboot");
    }
    line.option("-L", files.qemu.join("firmware").display());
    line.option("-machine", "q35").option("-accel", accel.option()).option("-cpu", "max").option("-smp", 2);
    line.option("-m", machine.memory_mib).option("-display", "none");
    let kernel = files.kernel.join("bzImage");
    line.option("-kernel", kernel.display()).option("-append", kernel_command_line(machine));

    // ttyS0 is the job's, ttyS1 the kernel's: no kernel message lands in the middle of a job's line.
    line.option("-chardev", "stdio,id=job,signal=off").option("-serial", "chardev:job");
    line.option("-chardev", format!("file,id=machine,append=on,path={}", value(files.console)));
    line.option("-serial", "chardev:machine");

    let remapping = match machine.iommu {
        Iommu::On => Some("on"),
        Iommu::NoInterruptRemapping => Some("off"),
        Iommu::Off => None,
    };
    if let Some(remapping) = remapping {
        line.device(format!("intel-iommu,intremap={remapping},caching-mode=on,device-iotlb=on"));
    }
    // The addresses decide the guest's names: the root is vda, the modules are vdb.
    let drive = "if=none,format=raw,cache=unsafe";
    line.option("-drive", format!("{drive},id=root,snapshot=on,file={}", value(files.root)));
    line.device("virtio-blk-pci,drive=root,addr=1c.0");
    line.option(
        "-drive",
        format!("{drive},id=modules,readonly=on,file={}", value(&files.kernel.join("modules.ext4"))),
    );
    line.device("virtio-blk-pci,drive=modules,addr=1d.0");
    // Programs are a share of their own, because the guest may cache what can't change: uncached, each page of a
    // program is asked for anew. Results are not cached, so they are on the host at once.
    let share = "local,security_model=none,multidevs=remap";
    line.option("-fsdev", format!("{share},id=job,path={}", value(files.share)));
    line.device("virtio-9p-pci,fsdev=job,mount_tag=job,addr=1e.0");
    line.option("-fsdev", format!("{share},id=bin,readonly=on,path={}", value(&files.share.join("bin"))));
    line.device("virtio-9p-pci,fsdev=bin,mount_tag=bin,addr=1b.0");

    if machine.vmm {
        for (tag, folder, address) in [("vmm", files.qemu, "1a.0"), ("kernel", files.kernel, "19.0")] {
            line.option("-fsdev", format!("{share},id={tag},readonly=on,path={}", value(folder)));
            line.device(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag},addr={address}"));
        }
    }

    // A hub stalls the sender while no other port takes frames: the sink always does.
    line.option("-netdev", "user,id=sink,restrict=on,ipv6=off");
    line.option("-netdev", "hubport,id=hub-sink,hubid=0,netdev=sink");
    for (pf, number) in machine.pfs.iter().zip(1..) {
        add_pf(&mut line, *pf, number, machine.iommu);
    }
    line.0
}

/// `number` is also the PF's bus: root ports are numbered in the order of their addresses.
fn add_pf(line: &mut Line, pf: Pf, number: u8, iommu: Iommu) {
    // 16 VFs of 8 MiB (page-per-vq) take 128 MiB of the window.
    line.device(format!(
        "pcie-root-port,id=rp{number},bus=pcie.0,chassis={number},slot={number},addr={:x}.0,pref64-reserve=256M",
        number + 1
    ));
    let (vfs, page_per_vq) = match pf.0 {
        Kind::Igb => {
            let port = line.hub_port(&format!("igb{number}"));
            // Without an id its VFs can't name it.
            line.device(format!("igb,id=igb{number},bus=rp{number},netdev={port},{}", mac(number, 0)));
            return;
        }
        Kind::Virtio { vfs, page_per_vq } => (vfs, page_per_vq),
    };
    // DMA by guest addresses is only translated for devices that ask for it.
    let common = match iommu {
        Iommu::Off => "romfile=",
        Iommu::On | Iommu::NoInterruptRemapping => "romfile=,iommu_platform=on,ats=on",
    };
    for vf in 1..=vfs {
        let port = line.hub_port(&format!("pf{number}vf{vf}"));
        let stride = if page_per_vq { ",page-per-vq=on" } else { "" };
        line.device(format!(
            "virtio-net-pci,id=pf{number}vf{vf},bus=rp{number},addr={:x}.{:x},sriov-pf=pf{number},netdev={port},{},{common}{stride}",
            vf / 8,
            vf % 8,
            mac(number, vf)
        ));
    }
    // The PF comes after its VFs: it collects those that name it when it is made.
    let port = line.hub_port(&format!("pf{number}"));
    line.device(format!(
        "virtio-net-pci,id=pf{number},bus=rp{number},addr=0.0,netdev={port},{},{common}",
        mac(number, 0)
    ));
}

fn kernel_command_line(machine: &Machine) -> String {
    // no_timer_check and nowatchdog: under emulation timers are late. clocksource=hpet: the TSC's rate is measured at
    // boot, against timers that are late. panic=-1 with -no-reboot ends QEMU at a panic; where a machine may reset, the
    // panicked kernel stays, for the runner to see it and kill QEMU.
    let mut words = vec![
        "console=ttyS1",
        "loglevel=4",
        if machine.resets == 0 { "panic=-1" } else { "panic=0" },
        "no_timer_check",
        "nowatchdog",
        "clocksource=hpet",
        "root=/dev/vda",
        "rw",
        "rootfstype=ext4",
        "init=/sbin/doorbell-init",
        if machine.iommu == Iommu::Off { "intel_iommu=off" } else { "intel_iommu=on" },
    ];
    words.extend(machine.kernel_args.iter().map(String::as_str));
    words.join(" ")
}

/// Locally administered, one for each function.
fn mac(pf: u8, vf: u8) -> String {
    format!("mac=52:54:00:aa:{pf:02x}:{vf:02x}")
}

/// A path as the value of an option: a comma would end it.
fn value(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: impl fmt::Display) -> &mut Self {
        self.0.extend([name.to_owned(), format!("{value}")]);
        self
    }

    fn device(&mut self, value: impl fmt::Display) {
        self.option("-device", value);
    }

    /// A port of the one segment, and its name.
    fn hub_port(&mut self, owner: &str) -> String {
        let name = format!("hub-{owner}");
        self.option("-netdev", format!("hubport,id={name},hubid=0"));
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(machine: &Machine) -> Vec<String> {
        let path = Path::new("/a,b");
        let files = Files { qemu: path, kernel: path, root: path, share: path, console: path };
        arguments(machine, &files, Accel::Tcg)
    }

    fn values<'a>(line: &'a [String], option: &str) -> Vec<&'a str> {
        line.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
    }

    fn devices(machine: &Machine) -> Vec<String> {
        values(&line(machine), "-device").into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn pf_comes_after_its_vfs() {
        let devices = devices(&Machine::new([Pf::virtio(9).unwrap()]));
        let nets: Vec<_> = devices.iter().filter(|device| device.starts_with("virtio-net-pci")).collect();
        assert_eq!(nets.len(), 10);
        assert!(nets[0].contains("addr=0.1,sriov-pf=pf1,"), "{}", nets[0]);
        assert!(nets[7].contains("addr=1.0,sriov-pf=pf1,"), "{}", nets[7]);
        assert!(nets[9].starts_with("virtio-net-pci,id=pf1,"), "{}", nets[9]);
    }

    #[test]
    fn page_per_vq_is_of_the_vfs_of_one_pf() {
        let pfs = [Pf::virtio(1).unwrap(), Pf::virtio_page_per_vq(2).unwrap()];
        let with: Vec<_> = devices(&Machine::new(pfs))
            .into_iter()
            .filter(|device| device.contains("page-per-vq=on"))
            .collect();
        assert_eq!(with.len(), 2);
        assert!(with.iter().all(|device| device.contains("sriov-pf=pf2,")), "{with:?}");
    }

    #[test]
    fn iommu_is_a_device_and_a_word() {
        let cases = [
            (Iommu::On, Some("intremap=on"), "intel_iommu=on"),
            (Iommu::NoInterruptRemapping, Some("intremap=off"), "intel_iommu=on"),
            (Iommu::Off, None, "intel_iommu=off"),
        ];
        for (iommu, remapping, word) in cases {
            let machine = Machine::new([Pf::virtio(1).unwrap()]).iommu(iommu);
            let devices = devices(&machine);
            let device = devices.iter().find(|device| device.starts_with("intel-iommu"));
            assert_eq!(device.is_some(), remapping.is_some(), "{iommu:?}");
            assert!(device.is_none_or(|device| device.contains(remapping.unwrap())), "{iommu:?}");
            assert!(values(&line(&machine), "-append")[0].contains(word), "{iommu:?}");
        }
    }

    #[test]
    fn each_function_has_its_own_hub_port_beside_the_sink() {
        let line = line(&Machine::new([Pf::virtio(2).unwrap(), Pf::igb()]));
        let ports = values(&line, "-netdev").into_iter().filter(|value| value.starts_with("hubport,"));
        assert_eq!(ports.count(), 5);
    }

    #[test]
    fn memory_and_kernel_arguments_are_passed() {
        let line = line(&Machine::new([]).memory_mib(512).kernel_arg("a=1").kernel_arg("b"));
        assert_eq!(values(&line, "-m"), ["512"]);
        assert!(values(&line, "-append")[0].ends_with(" a=1 b"));
    }

    #[test]
    fn only_a_machine_that_may_reset_goes_on_after_a_reset() {
        for (resets, ends, panic) in [(0, true, "panic=-1"), (1, false, "panic=0")] {
            let line = line(&Machine::new([]).resets(resets));
            assert_eq!(line.iter().any(|flag| flag == "-no-reboot"), ends);
            assert!(values(&line, "-append")[0].split(' ').any(|word| word == panic), "{resets}");
        }
    }

    #[test]
    fn comma_of_a_path_does_not_end_an_option() {
        assert!(values(&line(&Machine::new([])), "-fsdev")[0].ends_with("path=/a,,b"));
    }
}
