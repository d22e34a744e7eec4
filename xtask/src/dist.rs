//! `cargo xtask dist`: what people who do not build get: static programs, and an archive of them.
//!
//! The result is `target/dist/` (from which `packaging/build-image.sh` makes a container image) and
//! `target/ostro-VERSION-ARCH-linux.tar.gz` with its sha256 beside it. Envoy is in the former only: the archive says
//! where it comes from.

use crate::shell::{self, Done, Failure, at, cargo, run};
use crate::{setup, tools};
use std::fs;
use std::path::Path;
use std::process::Command;

const PROGRAMS: [&str; 2] = ["ostro", "ostro-sample"];
const ENVOY_NOTE: &str = "\
Ostro's proxy is in `ostro`. Stock Envoys can take its place (`ostro up --proxy envoy`); this archive does not bring one.
`ostro doctor --proxy envoy` says which version and how to get it; OSTRO_ENVOY names the program if it is not in PATH.
";

/// Builds, checks that the programs are static, and packs.
pub fn dist() -> Done {
    let arch = std::env::consts::ARCH;
    setup::mesh()?;
    let libc = Libc::of_this_machine(arch);
    let target = libc.target(arch);
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--target",
        &target,
        "--package",
        "ostro",
        "--package",
        "ostro-samples",
    ]);
    // Function names stay, for a panic's trace.
    build.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    if libc == Libc::Gnu {
        eprintln!(
            "xtask: Rust's {} is not installed (`rustup target add` gets it): linking glibc statically instead",
            Libc::Musl.target(arch)
        );
        build.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    run(build.arg("--bins"))?;

    let (dist, built) = (shell::target().join("dist"), shell::target().join(&target).join("release"));
    let bin = dist.join("bin");
    if dist.exists() {
        at(&dist, fs::remove_dir_all(&dist))?;
    }
    at(&bin, fs::create_dir_all(&bin))?;
    for program in PROGRAMS {
        let from = built.join(program);
        check_static(&from)?;
        at(&from, fs::copy(&from, bin.join(program)))?;
    }
    for file in ["README.md", "LICENSE", "samples/images.yaml"] {
        let from = shell::root().join(file);
        let name = from.file_name().ok_or_else(|| Failure::new(format!("{file} has no name")))?;
        at(&from, fs::copy(&from, dist.join(name)))?;
    }
    let note = dist.join("ENVOY.txt");
    at(&note, fs::write(&note, ENVOY_NOTE))?;
    pack(&dist, &format!("ostro-{}-{arch}-linux.tar.gz", env!("CARGO_PKG_VERSION")))?;
    // After packing: the archive does not have it, an image does.
    let envoy = tools::ENVOY.path();
    at(&envoy, fs::copy(&envoy, bin.join("envoy"))).map(|_| ())
}

/// The C library that goes into the programs. Both are whole in them: from glibc 2.34 on, looking names up needs no
/// file of it either.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Libc {
    Musl,
    Gnu,
}

impl Libc {
    fn of_this_machine(arch: &str) -> Libc {
        let target = Libc::Musl.target(arch);
        let library = Command::new("rustc").args(["--print", "target-libdir", "--target", &target]).output();
        let there =
            library.is_ok_and(|told| Path::new(String::from_utf8_lossy(&told.stdout).trim()).is_dir());
        if there { Libc::Musl } else { Libc::Gnu }
    }

    fn target(self, arch: &str) -> String {
        format!("{arch}-unknown-linux-{}", if self == Libc::Musl { "musl" } else { "gnu" })
    }
}

fn pack(dist: &Path, name: &str) -> Done {
    let archive = shell::target().join(name);
    let mut tar = Command::new("tar");
    // The same content gives the same bytes.
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "-czf"])
        .arg(&archive);
    run(tar.arg("-C").arg(dist).arg("."))?;
    let mut sum = Command::new("sha256sum");
    let output = at(&archive, sum.arg(name).current_dir(shell::target()).output())?;
    if !output.status.success() {
        return Err(Failure::new(format!("sha256sum ended with {}", output.status)));
    }
    let beside = shell::target().join(format!("{name}.sha256"));
    at(&beside, fs::write(&beside, &output.stdout))?;
    println!("{}", archive.display());
    Ok(())
}

fn check_static(program: &Path) -> Done {
    let bytes = at(program, fs::read(program))?;
    match needs_interpreter(&bytes) {
        Some(false) => Ok(()),
        Some(true) => Err(Failure::new(format!("{} is not static", program.display()))),
        None => Err(Failure::new(format!("{} is no 64-bit ELF program", program.display()))),
    }
}

/// Whether an ELF file names a dynamic linker (a `PT_INTERP` header); `None` if it is no ELF file of 64 bits, little
/// end first. Offsets are those of `Elf64_Ehdr` and `Elf64_Phdr`.
fn needs_interpreter(bytes: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let field = |offset: usize, size: usize| -> Option<u64> {
        let bytes = bytes.get(offset..offset.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
    for index in 0..count {
        let offset = usize::try_from(table + index * size).ok()?;
        if field(offset, 4)? == u64::from(PT_INTERP) {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::needs_interpreter;

    #[test]
    fn this_very_test_is_not_static_and_text_is_no_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(needs_interpreter(&own), Some(true));
        assert_eq!(needs_interpreter(b"#!/bin/sh"), None);
        assert_eq!(needs_interpreter(b"\x7fELF\x02\x01"), None);
    }
}
