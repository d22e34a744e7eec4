//! The `.proto` files of `envoy-types`, and ours of what it lacks, compiled.

use std::path::{Path, PathBuf};
use std::process::Command;

use prost_reflect::prost_types::FileDescriptorSet;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

/// All `.proto` files that `envoy-types` carries, and those in the folder `proto` here.
pub fn compile() -> FileDescriptorSet {
    // Some of the repositories have their files in a folder `proto`.
    let nested =
        |include: PathBuf| Some(include.join("proto")).filter(|path| path.is_dir()).unwrap_or(include);
    let theirs = subdirectories(&envoy_types()).into_iter().map(nested);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let includes: Vec<PathBuf> = theirs.chain([ours]).collect();
    let mut files = Vec::new();
    includes.iter().for_each(|include| collect(include, &mut files));
    files.sort();
    let mut all = compiler(&includes);
    // A relative name may mean something else where unrelated packages are in sight: such files are compiled alone.
    let odd: Vec<PathBuf> = files.into_iter().filter(|file| all.open_file(file).is_err()).collect();
    let mut set = all.file_descriptor_set();
    for file in odd {
        for file in compiler(&includes).open_file(file).unwrap().file_descriptor_set().file {
            if set.file.iter().all(|known| known.name != file.name) {
                set.file.push(file);
            }
        }
    }
    set
}

fn compiler(includes: &[PathBuf]) -> protox::Compiler {
    let mut resolver = ChainFileResolver::new();
    for include in includes {
        resolver.add(Plain(IncludeFileResolver::new(include.clone())));
    }
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true);
    compiler
}

/// Files in which no relative name is hidden by a package that the file does not import; `protoc` does not see such packages, `protox` does.
struct Plain(IncludeFileResolver);

impl FileResolver for Plain {
    fn resolve_path(&self, path: &Path) -> Option<String> {
        self.0.resolve_path(path)
    }

    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let file = self.0.open_file(name)?;
        match (name, file.source()) {
            ("envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.proto", Some(source)) => {
                let relative = " common.dynamic_forward_proxy.v3.";
                let full = " .envoy.extensions.common.dynamic_forward_proxy.v3.";
                File::from_source(name, &source.replace(relative, full))
            }
            _ => Ok(file),
        }
    }
}

fn subdirectories(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for path in subdirectories(directory) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
}

/// Where the sources of `envoy-types` are.
fn envoy_types() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Packages of other platforms need not be there.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "envoy-types").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().join("proto")
}
