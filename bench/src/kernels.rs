//! The programs in the tree: kernels with the `n` that keeps one call near ten milliseconds, and modules that are only
//! compiled.

use std::fs;
use std::path::{Path, PathBuf};

use crate::engine::{Failure, NativeSource, Program, Result};

/// A C file of `bench/kernels`.
struct Kernel {
    name: &'static str,
    n: i32,
    /// Whether there is also a build with 64-bit memory indexes.
    memory64: bool,
}

const fn kernel(name: &'static str, n: i32) -> Kernel {
    Kernel { name, n, memory64: false }
}

const fn kernel_twice(name: &'static str, n: i32) -> Kernel {
    Kernel { name, n, memory64: true }
}

const KERNELS: &[Kernel] = &[
    kernel_twice("matmul", 320),
    kernel("jacobi", 180),
    kernel("sieve", 2_000_000),
    kernel("mandelbrot", 320),
    kernel("nbody", 100_000),
    kernel("fir", 50_000),
    kernel("sha256", 2_000_000),
    kernel("hash64", 600_000),
    kernel_twice("sort", 50_000),
    kernel("search", 200_000),
    kernel("interp_switch", 40),
    kernel("interp_table", 40),
    kernel("bignum", 5_000),
    kernel_twice("links", 30_000),
    kernel("recursion", 12),
];

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where the bench keeps what it builds and writes.
pub(crate) fn output_directory() -> Result<PathBuf> {
    let directory = root().join("target").join("bench");
    fs::create_dir_all(&directory).map_err(|error| Failure::because(directory.display(), error))?;
    Ok(directory)
}

/// Whether `output` exists and none of `inputs` was changed after it was made.
pub(crate) fn is_fresh(output: &Path, inputs: &[PathBuf]) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    changed(output)
        .is_some_and(|made| inputs.iter().all(|input| changed(input).is_some_and(|changed| changed <= made)))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Failure::because(path.display(), error))
}

/// All programs in the tree, in the order of the table.
pub(crate) fn programs() -> Result<Vec<Program>> {
    let directory = root().join("bench").join("kernels");
    let mut programs = Vec::new();
    for kernel in KERNELS {
        for memory64 in [false, true] {
            if memory64 && !kernel.memory64 {
                continue;
            }
            let name = if memory64 { format!("{}-memory64", kernel.name) } else { kernel.name.to_owned() };
            programs.push(Program {
                code: read(&directory.join(format!("{name}.wasm")))?,
                name,
                native: Some(NativeSource {
                    main: directory.join("native.c"),
                    arguments: vec![format!("-DKERNEL=\"{}.c\"", kernel.name)],
                    inputs: ["kernel.h", "interp.h", &format!("{}.c", kernel.name)]
                        .map(|file| directory.join(file))
                        .to_vec(),
                }),
                n: Some(kernel.n),
                memory64,
            });
        }
    }
    programs.push(Program {
        name: "wordcount".into(),
        code: read(&root().join("examples").join("wordcount.wasm"))?,
        native: None,
        n: None,
        memory64: false,
    });
    Ok(programs)
}
