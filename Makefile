# Doorbell's commands. They run as root on Debian 12 with a Rust toolchain, install what else they need and say so.
.DEFAULT_GOAL := help
.PHONY: help demo demo-kata test test-kata soak fuzz bench check testbed image shell linker packaging tracers

# One profile for all that is tested or demonstrated, so that nothing is compiled twice.
PROFILE := --profile testbed

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: linker ## the main job: two containers ring the doorbells of their own VFs, in a VM with real VFs
	cargo build --workspace --all-targets $(PROFILE)
	$${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/testbed/doorbell-demo

demo-kata: linker ## the same for Kata: VMs of two pods ring the doorbells of their VFs without an exit
	cargo build --workspace --all-targets $(PROFILE)
	$${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/testbed/doorbell-demo kata

test: linker packaging ## every test; those that need VFs boot the testbed
	cargo test --workspace --all-targets $(PROFILE)
	cargo test --workspace --doc $(PROFILE)

test-kata: linker ## of these those about Kata
	cargo build --workspace --all-targets $(PROFILE)
	cargo test --workspace $(PROFILE) --test kata --test kata_dan --test doctor --test left
	cargo test --workspace $(PROFILE) --lib --test testbed -- kata vm::

soak: linker ## sequences of faults that chance makes, in VMs: N=100 of them, from SEED=<now> on
	cargo build --workspace --all-targets $(PROFILE)
	N=$(N) SEED=$(SEED) $${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/testbed/doorbell-soak

fuzz: linker ## the property tests of every parser, each with CASES=200000 inputs; what fails is kept and tested from then on
	cargo build --workspace --all-targets $(PROFILE)
	PROPTEST_CASES=$(or $(CASES),200000) cargo test --workspace --lib $(PROFILE)

bench: linker tracers ## what the shipped programs cost beside what the work itself costs: RUNS=5 of each, target/bench/results.json
	cargo build --workspace --all-targets $(PROFILE)
	cargo build --release --locked --package doorbell-device-plugin --package doorbell-cni --package e2e-probe --package e2e-bench
	mkdir -p $${CARGO_TARGET_DIR:-target}/bench
	$${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/testbed/doorbell-figures $${CARGO_TARGET_DIR:-target}/bench/testbed.json
	$${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/release/doorbell-bench $${CARGO_TARGET_DIR:-target}/bench/results.json $(or $(RUNS),5)

check: linker ## formatting, lints, licences and sources of dependencies, documentation
	cargo fmt --all --check
	cargo clippy --workspace --all-targets $(PROFILE) -- --deny warnings
	@command -v cargo-deny >/dev/null || { echo "installing by cargo: cargo-deny"; cargo install --locked cargo-deny@0.20.2; }
	cargo deny check bans licenses sources
	RUSTDOCFLAGS="--deny warnings --allow rustdoc::private-intra-doc-links" cargo doc --workspace --no-deps --document-private-items $(PROFILE)

testbed: linker ## build the testbed (QEMU, kernel, guest root) and cache it
	cargo run $(PROFILE) --package e2e-testbed -- build

image: linker packaging ## the image that nodes run, built for release and without a registry: doorbell.tar
	cargo build --release --locked --package doorbell-device-plugin --package doorbell-cni
	cargo run $(PROFILE) --package e2e-install -- $${CARGO_TARGET_DIR:-target}/$$(rustc --print host-tuple)/release doorbell.tar

shell: linker ## a shell in the testbed, for a person; leaving it powers off
	cargo run $(PROFILE) --package e2e-testbed -- shell

# Helm's own engine, by which the chart is tested, comes with a package of PyPI's in an environment of its own; buildah
# makes the image.
packaging:
	@command -v buildah >/dev/null || { echo "installing by apt: buildah"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends buildah; }
	@python3 -c 'import ensurepip, venv' 2>/dev/null || { echo "installing by apt: python3-venv"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends python3-venv; }

# What counts system calls and instructions.
tracers:
	@command -v strace >/dev/null && command -v valgrind >/dev/null || { echo "installing by apt: strace valgrind"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends strace valgrind; }

linker:
	@command -v cc >/dev/null && test -e "$$(cc -print-file-name=libc.a)" || { echo "installing by apt: gcc libc6-dev"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o DPkg::Lock::Timeout=300 --no-install-recommends gcc libc6-dev; }
