//! Tells the binary which commit it was built from, which `run.toml` records, and where CUDA's libraries may be.

use std::process::Command;

fn main() {
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo::rustc-env=AGENTFLOW_COMMIT={commit}");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() && cfg!(unix) {
        // Carried beside the binary, or a toolkit's; LD_LIBRARY_PATH comes before both.
        for folder in ["$ORIGIN/lib", "/usr/local/cuda/lib64"] {
            println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{folder}");
        }
    }
    for path in ["../../.git/HEAD", "../../.git/refs/heads"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
