# The guest's kernel: bzImage, and its modules as an ext4 image of their own, so that neither rebuilds the root.
# apt: bc bison cpio e2fsprogs flex gcc kmod libc6-dev libelf-dev libssl-dev lz4 make xz-utils
# In: MIRROR, WORK (scratch), OUT (to fill), INPUTS (kernel.config), JOBS.

step "download linux-source-6.12"
private_apt trixie
cd "$WORK"
fetch linux-source-6.12

step "unpack the source"
dpkg-deb --fsys-tarfile linux-source-6.12_*.deb | tar -xO ./usr/src/linux-source-6.12.tar.xz | xz -dc -T0 |
    tar -x --strip-components=1 --one-top-level=src --exclude='*/amd/include/asic_reg' --exclude='*/tools/testing'
rm linux-source-6.12_*.deb

# Not merge_config over tinyconfig: olddefconfig would bring back the default of every symbol made visible.
step "configure"
make -C src O="$WORK/build" KCONFIG_ALLCONFIG="$INPUTS/kernel.config" allnoconfig

# A symbol whose dependencies are missing is dropped in silence: say so here, not in a test that finds no driver.
grep -E '^CONFIG_[A-Z0-9_]+=[my"0-9-]' "$INPUTS/kernel.config" | while read -r line; do
    grep -qxF "$line" build/.config || echo "$line"
done >missing
if [ -s missing ]; then
    echo "these lines of kernel.config did not take effect:"
    cat missing
    exit 1
fi

step "compile (some 6 minutes on 2 cores)"
make -C src O="$WORK/build" -j"$JOBS" bzImage modules

step "install"
mkdir modules
make -C src O="$WORK/build" INSTALL_MOD_PATH="$WORK/staging" INSTALL_MOD_STRIP=1 modules_install
mv staging/lib/modules/* modules/
rm -f modules/*/build modules/*/source
cp build/arch/x86/boot/bzImage "$OUT/bzImage"
truncate -s 32M "$OUT/modules.ext4"
mke2fs -q -t ext4 -O ^has_journal -d modules "$OUT/modules.ext4"
