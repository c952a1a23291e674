# The guest's root as an ext4 image: Debian trixie with containerd 2 of sid, CNI plugins, and a pause image.
# apt: e2fsprogs mmdebstrap
# In: MIRROR, WORK (scratch), OUT (to fill), INPUTS (guest/).

# containerd 2 (CDI on) and the CNI plugins that speak CNI 1.1 are only in sid. Trixie is the default release, so sid
# gives what is named with it. Its Release file is valid for a week only: a mirror that lags or is frozen would be
# refused, so that is not checked (signatures are).
step "download and install the guest's packages"
mmdebstrap --variant=essential --skip=output/dev \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --aptopt='APT::Default-Release "trixie"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/i18n/*' \
    --include=containerd/sid,runc/sid,containernetworking-plugins/sid,iproute2,iptables,nftables \
    --include=busybox-static,ethtool,iputils-ping,kmod,mount,pciutils,procps,strace \
    trixie "$WORK/root" "deb $MIRROR trixie main" "deb [check-valid-until=no] $MIRROR sid main"

# Debian has testpmd in dpdk-dev, which depends on every driver and header there is. So it is unpacked aside with the
# libraries that it links, and the root gets those that it lacks, and the two plugins that testpmd loads by name here:
# virtio's driver and the ring of buffers. Nothing of it is configured, as nothing in it needs that.
step "add dpdk-testpmd"
private_apt trixie
mkdir "$WORK/dpdk-dev"
cd "$WORK/dpdk-dev"
fetch dpdk-dev
dpkg-deb -x dpdk-dev_*.deb .
linked=$(APT_CONFIG="$WORK/apt/conf" apt-cache depends dpdk-dev | sed -n 's/^ *Depends: \(lib.*\)/\1/p' | grep -v dpdk-dev)
mmdebstrap --variant=extract --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --include="$(echo $linked ibverbs-providers librte-net-virtio25 librte-mempool-ring25 | tr ' ' ,)" \
    trixie "$WORK/dpdk" "deb $MIRROR trixie main"
lib=usr/lib/x86_64-linux-gnu
plugins=$lib/dpdk/pmds-25.0
install -D usr/bin/dpdk-testpmd "$WORK/root/usr/bin/dpdk-testpmd"
mkdir -p "$WORK/root/$plugins"
cd "$WORK/dpdk"
cp $plugins/librte_net_virtio.so.25.0 $plugins/librte_mempool_ring.so.25.0 "$WORK/root/$plugins/"
for program in "$WORK/root/usr/bin/dpdk-testpmd" "$WORK/root/$plugins"/*; do
    $lib/ld-linux-x86-64.so.2 --library-path $lib --list "$program"
done | sed -n 's/^\t\([^ /]*\) => .*/\1/p' | sort -u | while read -r library; do
    [ -e "$WORK/root/$lib/$library" ] || cp -L "$lib/$library" "$WORK/root/$lib/"
done

# A docker archive made by hand, so that no registry is asked. /bin/sh as the first process would ignore SIGTERM:
# the trap lets a container of this image stop at once.
step "make the pause image"
mkdir -p "$WORK/pause/layer/bin"
cd "$WORK/pause"
cp "$WORK/root/usr/bin/busybox" layer/bin/busybox
for applet in $("$WORK/root/usr/bin/busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "layer/bin/$applet"
done
tar -C layer --owner=0 --group=0 --numeric-owner --sort=name --mtime=@0 -cf layer.tar .
cat >config.json <<JSON
{"architecture": "amd64", "os": "linux",
 "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/sh", "-c", "trap 'exit 0' TERM INT; sleep infinity & wait"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(sha256sum layer.tar | cut -d' ' -f1)"]}}
JSON
cat >manifest.json <<JSON
[{"Config": "config.json", "RepoTags": ["localhost/pause:1"], "Layers": ["layer.tar"]}]
JSON
tar -cf "$WORK/root/opt/pause.tar" manifest.json config.json layer.tar

# Importing takes two seconds and more in the guest, a tenth of one here. containerd wants its root to be a mount.
# Its CRI plugin is not needed for that and would look for the host's cgroups; in the guest it adopts what it finds.
step "import the pause image into containerd's store"
mount --bind "$WORK/root" "$WORK/root"
cd "$WORK/root"
mount -t proc proc proc
mount -t tmpfs run run
cat >run/config.toml <<TOML
version = 3
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime"]
TOML
chroot . containerd -c /run/config.toml &
tries=0
until chroot . ctr version >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "containerd did not answer within 30 s"; exit 1; }
    sleep 0.1
done
chroot . ctr -n k8s.io images import --snapshotter overlayfs /opt/pause.tar
kill $!
wait $! || true
umount run proc
cd /
umount "$WORK/root"

step "make the image"
cd "$WORK/root"
install -m755 "$INPUTS/guest/init" sbin/doorbell-init
install -m755 "$INPUTS/guest/doorbell-reset" sbin/doorbell-reset
mkdir -p job usr/lib/modules
echo testbed >etc/hostname
: >etc/fstab
rm -rf var/cache/* var/log/* usr/share/doc
truncate -s 2G "$OUT/root.ext4"
mke2fs -q -t ext4 -O ^has_journal -m 0 -d . "$OUT/root.ext4"
