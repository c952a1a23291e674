# QEMU of trixie-backports (SR-IOV for virtio-net came with 10.1), with every library it needs, in a root of its own:
# it runs through that root's ld.so, so neither the host's libc nor a chroot matters.
# apt: mmdebstrap
# In: MIRROR, WORK (scratch), OUT (to fill).

# Backports are never picked by themselves: each package that must be of QEMU's version is named with its suite.
# Their Release file is valid for a week only, and a frozen mirror would be refused: signatures are checked, dates not.
step "download and unpack qemu"
suite=trixie-backports
mmdebstrap --variant=extract --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --include="qemu-system-x86/$suite,qemu-system-common/$suite,qemu-system-data/$suite,seabios/$suite" \
    trixie "$WORK/root" "deb $MIRROR trixie main" "deb [check-valid-until=no] $MIRROR $suite main"

# Only what runs is kept: the emulator, its libraries, the firmware that q35 with -kernel reads.
step "keep what runs"
cd "$WORK/root"
mkdir -p "$OUT/bin" "$OUT/firmware"
mv usr/bin/qemu-system-x86_64 "$OUT/bin/"
mv usr/lib/x86_64-linux-gnu "$OUT/lib"
rm -rf "$OUT/lib/gconv" "$OUT/lib/perl-base" "$OUT/lib/security" "$OUT/lib/systemd"
for file in bios-256k.bin kvmvapic.bin linuxboot_dma.bin; do
    find usr/share/qemu/ usr/share/seabios/ -name $file -exec cp -L {} "$OUT/firmware/" \; -quit
done

step "check"
"$OUT/lib/ld-linux-x86-64.so.2" --library-path "$OUT/lib" "$OUT/bin/qemu-system-x86_64" --version
