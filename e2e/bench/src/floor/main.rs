//! The floors: each does the work of one figure and nothing else.

mod allocate;
mod memory;
mod published;

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use e2e_bench::attributes;
use e2e_bench::load::Load;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["start", how, vfs, pfs, pools] => {
            let load = Load { vfs: vfs.parse()?, pfs: pfs.parse()?, pools: pools.parse()? };
            start(load, *how == "again")
        }
        ["allocate", socket, vfs, pfs, pools] => {
            let load = Load { vfs: vfs.parse()?, pfs: pfs.parse()?, pools: pools.parse()? };
            allocate::serve(load, Path::new(socket))
        }
        ["memory", program, arguments @ ..] => memory::of(program, arguments),
        _ => bail!(
            "usage: doorbell-bench-floor start first|again VFS PFS POOLS | allocate SOCKET VFS PFS POOLS | memory PROGRAM …"
        ),
    }
}

/// The bare loop: looks at what has to be looked at of each VF, and at what was published of it, or publishes that.
fn start(load: Load, again: bool) -> Result<()> {
    for vf in load.vfs() {
        for attribute in attributes::of_vf(vf) {
            attribute.look().with_context(|| format!("{attribute:?}"))?;
        }
        for attribute in attributes::published(vf, &load.resource(vf)) {
            let done = if again { attribute.look() } else { published::write(&attribute.path) };
            done.with_context(|| format!("{attribute:?}"))?;
        }
    }
    io::stdout().write_all(b"done\n").context("say so")
}
