//! How the program is linked, statically and to any address: its relocations packed (`DT_RELR`), a tenth of them otherwise
//! and all read at its start; and functions of the same code once, where the linker is LLVM's, as Rust's own is on x86-64.

use std::env;

fn main() {
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
    println!("cargo::rerun-if-changed=build.rs");
}
