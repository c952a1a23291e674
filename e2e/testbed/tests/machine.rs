//! Machines as a test sees them: what is in the guest, how a job ends, and that nothing stays behind.
//!
//! They build the testbed if it is not cached yet, and fail where it can't be built.

use std::error::Error;
use std::time::Duration;

use e2e_testbed::{Iommu, Job, Machine, Outcome, Pf, RunError, Testbed};

fn testbed() -> Testbed {
    Testbed::open(&|line| println!("{line}")).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

fn try_run(machine: &Machine, job: &Job) -> Result<Outcome, RunError> {
    testbed().run(machine, job, &mut |line| println!("{line}"))
}

fn run(machine: &Machine, job: &Job) -> Outcome {
    try_run(machine, job).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

fn sh(script: &str) -> Job {
    Job::new(["sh", "-euc", script])
}

fn virtio(vfs: u8) -> Pf {
    Pf::virtio(vfs).expect("1 to 16 VFs")
}

#[test]
fn vfs_are_there_once_enabled_each_in_its_group() {
    let machine = Machine::new([virtio(16), Pf::virtio_page_per_vq(16).unwrap(), Pf::igb()]);
    let script = "
        cd /sys/bus/pci/devices
        echo before $(ls -d */physfn 2>/dev/null | wc -l)
        echo 16 >0000:01:00.0/sriov_numvfs
        echo 16 >0000:02:00.0/sriov_numvfs
        echo 7 >0000:03:00.0/sriov_numvfs
        for pf in 1 2 3; do
            echo pf $pf vfs $(ls -d 0000:0$pf:*/physfn | wc -l) groups $(ls -d 0000:0$pf:*/physfn/../iommu_group | wc -l)
        done
        for vf in 0000:01:00.1 0000:01:02.0 0000:02:00.1 0000:02:02.0; do
            sed -n 5p $vf/resource | while read -r start end flags; do echo $vf bar4 $((end - start + 1)); done
        done
        basename $(readlink 0000:03:00.0/driver)";
    let outcome = run(&machine, &sh(script));
    let expected = "before 0\n\
                    pf 1 vfs 16 groups 16\npf 2 vfs 16 groups 16\npf 3 vfs 7 groups 7\n\
                    0000:01:00.1 bar4 16384\n0000:01:02.0 bar4 16384\n\
                    0000:02:00.1 bar4 8388608\n0000:02:02.0 bar4 8388608\nigb\n";
    assert_eq!(outcome.output, expected);
}

#[test]
fn vfio_and_vdpa_take_vfs() {
    let script = "
        cd /sys/bus/pci/devices
        modprobe vfio-pci && modprobe -a vp_vdpa vhost_vdpa
        echo 0 >0000:01:00.0/sriov_drivers_autoprobe
        echo 2 >0000:01:00.0/sriov_numvfs
        echo vfio-pci >0000:01:00.1/driver_override
        echo vp-vdpa >0000:01:00.2/driver_override
        for vf in 0000:01:00.1 0000:01:00.2; do echo $vf >../drivers_probe; done
        vdpa dev add name vdpa0 mgmtdev pci/0000:01:00.2
        ls /dev/vfio/$(basename $(readlink 0000:01:00.1/iommu_group)) /dev/vfio/devices/vfio0 /dev/iommu /dev/vhost-vdpa-0 |
            grep -c /dev/";
    assert_eq!(run(&Machine::new([virtio(2)]), &sh(script)).output, "4\n");
}

#[test]
fn testpmd_answers_pings_through_a_vf() {
    let script = "
        cd /sys/bus/pci/devices
        modprobe vfio-pci
        echo 0 >0000:01:00.0/sriov_drivers_autoprobe
        echo 2 >0000:01:00.0/sriov_numvfs
        echo vfio-pci >0000:01:00.1/driver_override
        echo virtio-pci >0000:01:00.2/driver_override
        for vf in 0000:01:00.1 0000:01:00.2; do echo $vf >../drivers_probe; done
        netdev=$(ls 0000:01:00.2/virtio*/net)
        ip addr add 10.9.0.3/24 dev $netdev
        ip link set $netdev up
        mkdir /dev/hugepages
        mount -t hugetlbfs hugetlbfs /dev/hugepages
        echo 64 >/proc/sys/vm/nr_hugepages
        # Without -i it ends at a key or the end of its input.
        mkfifo /tmp/input
        sleep 1000 >/tmp/input &
        dpdk-testpmd -l 0,1 -n 1 -m 64 --no-telemetry -a 0000:01:00.1 -- --forward-mode=icmpecho --auto-start \
            --total-num-mbufs=2048 </tmp/input >/tmp/testpmd 2>&1 &
        until grep -q 'Checking link' /tmp/testpmd; do
            kill -0 $! || { cat /tmp/testpmd; exit 1; }
            sleep 0.1
        done
        # It answers ARP as well, for whatever address.
        ping -c 3 -i 0.2 -W 5 10.9.0.77 | grep -c 'bytes from'";
    assert_eq!(run(&Machine::new([virtio(2)]), &sh(script)).output, "3\n");
}

#[test]
fn iommu_off_means_no_groups() {
    let machine = Machine::new([virtio(1)]).iommu(Iommu::Off);
    let script = "echo 1 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs
        ls /sys/kernel/iommu_groups | wc -l
        ls -d /sys/bus/pci/devices/*/physfn | wc -l";
    assert_eq!(run(&machine, &sh(script)).output, "0\n1\n");
}

#[test]
fn interrupts_are_remapped_only_with_remapping() {
    let script = "grep -c IR-PCI-MSI /proc/interrupts || true; ls /sys/kernel/iommu_groups | grep -c .";
    let with = run(&Machine::new([virtio(1)]), &sh(script)).output;
    let without = run(&Machine::new([virtio(1)]).iommu(Iommu::NoInterruptRemapping), &sh(script)).output;
    assert!(!with.starts_with("0\n"), "{with}");
    assert!(without.starts_with("0\n") && !without.ends_with("\n0\n"), "{without}");
}

#[test]
fn job_has_its_files_environment_arguments_and_results() {
    let host = tempfile::tempdir().unwrap();
    let program = host.path().join("program");
    // A long line survives the console, and the exit code and the results come back.
    let script = "#!/bin/sh\n\
        echo \"$0 $1 $WORD $(cat /job/bin/data)\"; pwd; echo complaint >&2\n\
        echo result >out/file\n\
        printf '{\"long\":\"%0200000d\"}\\n' 0\n\
        exit 42\n";
    std::fs::write(&program, script).unwrap();
    std::process::Command::new("chmod").arg("+x").arg(&program).status().unwrap();
    std::fs::write(host.path().join("data"), "data").unwrap();
    let job = Job::program(&program, ["it's"]).file(host.path().join("data")).env("WORD", "a  b");
    let outcome = run(&Machine::new([]), &job);
    assert_eq!(outcome.exit_code, 42);
    let long = format!("{{\"long\":\"{}\"}}", "0".repeat(200_000));
    assert_eq!(outcome.output, format!("/job/bin/program it's a  b data\n/job\ncomplaint\n{long}\n"));
    let out = outcome.out();
    assert_eq!(std::fs::read_to_string(out.join("file")).unwrap(), "result\n");
    drop(outcome);
    assert!(!out.exists());
}

#[test]
fn time_limit_ends_the_machine_and_shows_the_log() {
    let limit = Duration::from_secs(20);
    let job = sh("echo told; sleep 1000").time_limit(limit);
    let error = try_run(&Machine::new([]), &job).unwrap_err();
    assert!(matches!(&error, RunError::TimeLimit { tail, .. } if tail.contains("told")), "{error}");
}

#[test]
fn panic_of_the_kernel_is_an_error_with_its_log() {
    let job = sh("echo told; sleep 0.2; echo c >/proc/sysrq-trigger");
    let error = try_run(&Machine::new([]), &job).unwrap_err();
    assert!(matches!(&error, RunError::Panic { tail } if tail.contains("sysrq")), "{error}");
}

#[test]
fn power_cycle_keeps_the_disk_and_loses_the_rest() {
    let machine = Machine::new([virtio(2)]).resets(1);
    let script = "
        echo boot $DOORBELL_BOOT disk $(cat /var/lib/kept 2>/dev/null) run $(cat /run/lost 2>/dev/null)
        cd /sys/bus/pci/devices/0000:01:00.0
        cat sriov_numvfs
        cat /proc/sys/kernel/random/boot_id >>/job/out/boots
        [ $DOORBELL_BOOT = 1 ] || exit 7
        echo yes >/var/lib/kept
        echo yes >/run/lost
        echo 2 >sriov_numvfs
        doorbell-reset";
    let outcome = run(&machine, &sh(script));
    assert_eq!(outcome.output, "boot 1 disk run\n0\nboot 2 disk yes run\n0\n");
    assert_eq!(outcome.exit_code, 7);
    let boots = std::fs::read_to_string(outcome.out().join("boots")).unwrap();
    let boots: Vec<_> = boots.lines().collect();
    assert_eq!(boots.len(), 2);
    assert_ne!(boots[0], boots[1]);
}

#[test]
fn more_resets_than_granted_are_an_error() {
    let job = sh("echo boot $DOORBELL_BOOT; doorbell-reset");
    let error = try_run(&Machine::new([]).resets(1), &job).unwrap_err();
    assert!(matches!(&error, RunError::Resets { allowed: 1, tail } if tail.contains("boot 2")), "{error}");
    let error = try_run(&Machine::new([]), &job).unwrap_err();
    assert!(matches!(&error, RunError::Ended { tail, .. } if tail.contains("boot 1")), "{error}");
}

#[test]
fn panic_is_an_error_where_resets_are_granted_too() {
    let job = sh("echo told; sleep 0.2; echo c >/proc/sysrq-trigger");
    let error = try_run(&Machine::new([]).resets(5), &job).unwrap_err();
    assert!(matches!(&error, RunError::Panic { tail } if tail.contains("sysrq")), "{error}");
}

#[test]
fn first_command_runs_within_8_seconds() {
    let outcome = run(&Machine::new([virtio(4)]), &Job::new(["true"]));
    println!("{:?}", outcome.times);
    // Zero would be: the guest never said so.
    assert!(!outcome.times.ready.is_zero());
    assert!(outcome.times.ready < Duration::from_secs(8), "{:?}", outcome.times);
}
