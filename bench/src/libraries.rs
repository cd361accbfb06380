//! Compression libraries in C, built for WebAssembly when the bench runs.
//!
//! Their sources are those that cargo has unpacked for the `-sys` crates this crate depends on under the feature
//! `libraries`; nothing of them is in this repository but a driver each, in `bench/libraries`. Building takes clang with
//! its WebAssembly linker and wasi-libc. The modules are kept in `target/bench` until a driver or a crate's version
//! changes.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Options;
use crate::child::answers;
use crate::engine::{Failure, NativeSource, Program, Result};
use crate::kernels::{is_fresh, output_directory, root};

/// A library, and which of its files make it.
struct Library {
    name: &'static str,
    /// The crate whose package contains the sources.
    package: &'static str,
    /// Directories below the package with headers; the first one is where `sources` start.
    directory: &'static str,
    /// Files, or directories whose C files are all meant.
    sources: &'static [&'static str],
    define: &'static str,
    /// The bytes of text that one call compresses and restores.
    n: i32,
    /// Whether building and compiling it takes longer than a quick run should.
    slow: bool,
}

const LIBRARIES: &[Library] = &[
    Library {
        name: "bzip2",
        package: "bzip2-sys",
        directory: "bzip2-1.0.8",
        sources: &[
            "blocksort.c",
            "bzlib.c",
            "compress.c",
            "crctable.c",
            "decompress.c",
            "huffman.c",
            "randtable.c",
        ],
        define: "-DBZ_NO_STDIO",
        n: 120_000,
        slow: false,
    },
    Library {
        name: "lz4",
        package: "lz4-sys",
        directory: "liblz4/lib",
        sources: &["lz4.c", "lz4hc.c"],
        define: "-DNDEBUG",
        n: 500_000,
        slow: false,
    },
    Library {
        name: "zlib",
        package: "libz-sys",
        directory: "src/zlib",
        sources: &[
            "adler32.c",
            "compress.c",
            "crc32.c",
            "deflate.c",
            "inffast.c",
            "inflate.c",
            "inftrees.c",
            "trees.c",
            "uncompr.c",
            "zutil.c",
        ],
        define: "-DNDEBUG",
        n: 160_000,
        slow: false,
    },
    Library {
        name: "zstd",
        package: "zstd-sys",
        directory: "zstd/lib",
        sources: &["common", "compress", "decompress"],
        define: "-DZSTD_DISABLE_ASM",
        n: 300_000,
        slow: true,
    },
];

/// The names of all libraries, also of those that cannot be built here.
pub(crate) fn names() -> impl Iterator<Item = String> {
    LIBRARIES.iter().map(|library| library.name.to_owned())
}

/// The libraries that the options ask for, built; the error says what is missing on this machine. A quick run leaves out
/// the slow ones unless `--only` names them.
pub(crate) fn programs(options: &Options) -> Result<Vec<Program>> {
    let asked = |library: &&Library| {
        let in_time = !(library.slow && options.quick && options.only.is_empty());
        in_time && options.selects(library.name)
    };
    let chosen: Vec<&Library> = LIBRARIES.iter().filter(asked).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let clang = ["clang-19", "clang"].into_iter().find(|clang| answers(clang, &["--version"]));
    let clang = clang.ok_or_else(|| Failure("neither clang-19 nor clang is installed".into()))?;
    let packages = packages()?;
    chosen.into_iter().map(|library| program(library, clang, &packages)).collect()
}

/// The directories of all packages that the bench depends on, as cargo names them.
fn packages() -> Result<Vec<PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--offline", "--manifest-path"]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    command.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = command.output().map_err(|error| Failure::because("cargo metadata", error))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::because("cargo metadata", messages.lines().next().unwrap_or("no message")));
    }
    let metadata = String::from_utf8_lossy(&output.stdout);
    let manifests = metadata.split("\"manifest_path\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    Ok(manifests.filter_map(|manifest| Path::new(manifest).parent()).map(Path::to_path_buf).collect())
}

/// The directory of `package`, whose name is the package's followed by its version.
fn package_directory<'p>(package: &str, packages: &'p [PathBuf]) -> Result<&'p Path> {
    let is_package = |directory: &&PathBuf| {
        let name = directory.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let version = name.strip_prefix(package).and_then(|rest| rest.strip_prefix('-'));
        version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
    };
    let found = packages.iter().find(is_package);
    found.map(PathBuf::as_path).ok_or_else(|| Failure(format!("cargo does not know the package {package}")))
}

fn program(library: &Library, clang: &str, packages: &[PathBuf]) -> Result<Program> {
    let package = package_directory(library.package, packages)?;
    let version = package.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let directory = package.join(library.directory);
    let mut arguments = vec![library.define.to_owned(), format!("-I{}", directory.display())];
    for source in library.sources {
        for file in c_files(&directory.join(source))? {
            arguments.push(file.display().to_string());
        }
    }

    let bench = root().join("bench");
    let driver = bench.join("libraries").join(format!("{}.c", library.name));
    let inputs = vec![driver.clone(), bench.join("libraries/library.h"), bench.join("kernels/kernel.h")];
    let module = output_directory()?.join(format!("{version}.wasm"));
    if !is_fresh(&module, &inputs) {
        let mut command = Command::new(clang);
        command.args(["--target=wasm32-wasi", "-mexec-model=reactor", "-std=gnu11", "-O2", "-w"]);
        command.args(["-mbulk-memory", "-mnontrapping-fptoint", "-Wl,--strip-debug"]);
        command.arg("-o").arg(&module).arg(&driver).args(&arguments);
        let output = command.output().map_err(|error| Failure::because(clang, error))?;
        if !output.status.success() {
            let messages = String::from_utf8_lossy(&output.stderr);
            let first = messages.lines().find(|line| line.contains("error")).unwrap_or("no message");
            return Err(Failure::because(format!("{clang} cannot build {}", library.name), first));
        }
    }
    let wasm = fs::read(&module).map_err(|error| Failure::because(module.display(), error))?;
    arguments.push(format!("-DKERNEL=\"{}\"", driver.display()));
    Ok(Program {
        name: library.name.to_owned(),
        code: wasm,
        native: Some(NativeSource { main: bench.join("kernels/native.c"), arguments, inputs }),
        n: Some(library.n),
        memory64: false,
    })
}

/// `path` itself if it is a file, else the C files in it, sorted.
fn c_files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = fs::read_dir(path).map_err(|error| Failure::because(path.display(), error))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension() == Some(OsStr::new("c")));
    files.sort();
    Ok(files)
}
