//! How the program is linked, statically and to any address: its relocations packed (`DT_RELR`), a tenth of them otherwise
//! and all read at its start; and, where the linker is LLVM's, as Rust's own is on x86-64, functions of the same code once,
//! and what is rarely run apart (`cold.ld`).

use std::env;

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        // From the workspace's root, where cargo has its members linked: another checkout may share what is built.
        println!("cargo::rustc-link-arg-bins=-Wl,--script=device-plugin/cold.ld");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cold.ld");
}
