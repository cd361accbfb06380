//! Who may know whom: reads the manifests and fails on an edge that the architecture forbids.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each crate, its folder, and the crates of ours it may depend on.
const LAYERS: &[(&str, &str, &[&str])] = &[
    ("dagwood-il", "il", &[]),
    ("dagwood-opt", "opt", &["il"]),
    ("dagwood-codegen", "codegen", &["il"]),
    ("dagwood-codespace", "runtime/codespace", &[]),
    ("dagwood-runtime", "runtime", &["il", "opt", "codegen", "codespace"]),
    ("dagwood-wasm", "frontends/wasm", &["il", "runtime"]),
    ("dagwood-olive", "frontends/olive", &["il", "runtime"]),
    ("dagwood", ".", &["il", "opt", "codegen", "runtime", "wasm"]),
    ("dagwood-cli", "cli", &["il", "opt", "codegen", "runtime", "wasm", "olive"]),
    ("dagwood-fuzz", "fuzz", &["il", "opt", "codegen", "runtime", "wasm", "olive"]),
    (
        "dagwood-tests",
        "tests",
        &["il", "opt", "codegen", "runtime", "codespace", "wasm", "olive", "fuzz", "cli"],
    ),
    ("dagwood-bench-codespace", "bench/codespace", &["codespace"]),
    (
        "dagwood-bench",
        "bench",
        &["il", "opt", "codegen", "runtime", "codespace", "wasm", "olive", "fuzz", "bench-codespace"],
    ),
];

/// Crates that may contain `unsafe`: executable memory, what enters it, and the experiments that run machine code of their own
/// and map memory as peers do.
const MAY_BE_UNSAFE: &[&str] = &["runtime/codespace", "runtime", "bench/codespace"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The names of all that a manifest's crate is built with: those in sections of dependencies, for some targets or for all,
/// and those that have a section of their own. What only its tests use is free.
fn dependencies(manifest: &str) -> Vec<String> {
    let (mut names, mut is_inside) = (Vec::new(), false);
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            let (before, own) = match header.rsplit_once("dependencies") {
                Some((before, own)) => (before, own.strip_prefix('.')),
                None => ("dev-", None),
            };
            let is_built_with = !before.ends_with("dev-") && before != "workspace.";
            is_inside = is_built_with && own.is_none();
            names.extend(own.filter(|_| is_built_with).map(str::to_owned));
        } else if is_inside && !line.is_empty() && !line.starts_with('#') {
            names.extend(line.split(['=', '.', ' ']).next().map(str::to_owned));
        }
    }
    names
}

#[test]
fn dependencies_are_found_in_every_section() {
    let manifest = "[workspace.dependencies]\nz = \"1\"\n[package]\nname = \"x\"\n[dependencies]\n# one\na.workspace = true\nb = \"1\"\n\n\
                    [target.'cfg(unix)'.dependencies]\nc = { path = \"c\" }\n[dependencies.d]\npath = \"d\"\n\
                    [build-dependencies]\ne = \"1\"\n[dev-dependencies]\nf = \"1\"\n[dev-dependencies.g]\nh = \"1\"\n\
                    [lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest), ["a", "b", "c", "d", "e"]);
}

#[test]
fn no_crate_knows_one_it_must_not() {
    let by_short: BTreeMap<&str, &str> =
        LAYERS.iter().map(|(name, ..)| (name.strip_prefix("dagwood-").unwrap_or("facade"), *name)).collect();
    for (name, folder, allowed) in LAYERS {
        let path = root().join(folder).join("Cargo.toml");
        let manifest =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let allowed: Vec<&str> = allowed.iter().map(|short| by_short[short]).collect();
        for dependency in dependencies(&manifest).iter().filter(|name| name.starts_with("dagwood")) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn only_codegen_names_cranelift() {
    for (name, folder, _) in
        LAYERS.iter().filter(|(name, ..)| *name != "dagwood-codegen" && !name.starts_with("dagwood-bench"))
    {
        let manifest =
            fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("every layer has a manifest");
        let named =
            dependencies(&manifest).into_iter().find(|dependency| dependency.starts_with("cranelift"));
        assert_eq!(named, None, "{name} must not know Cranelift");
    }
}

#[test]
fn unsafe_is_forbidden_outside_the_runtime() {
    for (name, folder, _) in LAYERS.iter().filter(|(_, folder, _)| !MAY_BE_UNSAFE.contains(folder)) {
        let source = root().join(folder).join("src");
        let roots: Vec<_> = ["lib.rs", "main.rs"]
            .map(|file| source.join(file))
            .into_iter()
            .filter(|path| path.exists())
            .collect();
        assert!(!roots.is_empty(), "{name} has a root");
        for file in &roots {
            let text = fs::read_to_string(file).expect("the crate root can be read");
            assert!(
                text.contains("#![forbid(unsafe_code)]"),
                "{name}: {} must forbid unsafe code",
                file.display()
            );
        }
    }
}

#[test]
fn lowering_of_a_frontend_knows_only_the_il() {
    let mut files = Vec::new();
    for (_, frontend, _) in LAYERS.iter().filter(|(_, folder, _)| folder.starts_with("frontends/")) {
        let source = root().join(frontend).join("src");
        files.push(source.join("lower.rs"));
        let folder = fs::read_dir(source.join("lower")).expect("the lowering has a folder");
        files.extend(folder.map(|entry| entry.expect("the folder can be listed").path()));
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("the lowering can be read");
        assert!(
            !text.contains("dagwood_runtime"),
            "{} lowers; the binding knows the runtime",
            file.display()
        );
    }
}

#[test]
fn every_member_is_in_the_table() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let members =
        manifest.lines().find(|line| line.starts_with("members")).expect("the workspace lists its members");
    for member in members.split('"').skip(1).step_by(2) {
        assert!(LAYERS.iter().any(|(_, folder, _)| *folder == member), "{member} has no layer");
    }
}
