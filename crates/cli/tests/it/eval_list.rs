//! `agentflow eval list`: what there is, and what of it is here.

use std::fs;

use agentflow_eval::benchmark::{Benchmark, Dataset};
use serde_json::Value;

use crate::agentflow::agentflow;

#[test]
fn every_benchmark_is_listed_with_source_size_and_licence() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let home = home.path().to_str().expect("a plain path");
    let ran = agentflow(&["eval", "list"]).env("HF_HOME", home).run();
    assert_eq!((ran.code(), ran.stderr.as_str()), (Some(0), ""), "{ran}");
    let lines: Vec<&str> = ran.stdout.lines().map(str::trim_end).collect();
    for expected in [
        "arith        test   1000 problems          built in           Arithmetic word problems, 5 levels",
        "aime24       test     30 problems   82 kB  not cached         AIME 2024",
        "             from HuggingFaceH4/aime_2024 at 2fe88a2f1091",
        "aime_train   train   918 problems  343 kB  not cached         AIME 1983 to 2023",
        "gpqa         test    198 problems          gated, not cached  GPQA Diamond",
        "             licence: CC BY 4.0; gated, and its authors ask not to publish examples",
    ] {
        assert!(lines.contains(&expected), "no `{expected}` in\n{}", ran.stdout);
    }
}

#[test]
fn what_is_in_the_cache_is_told() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let aime25 = Benchmark::named("aime25").expect("it is built in");
    let Dataset::Hub { revision, files, .. } = &aime25.dataset else { panic!("it is on the Hub") };
    let snapshot = home.path().join("hub/datasets--math-ai--aime25/snapshots").join(revision);
    fs::create_dir_all(&snapshot).expect("a directory");
    fs::write(snapshot.join(&files[0].path), "").expect("writes");
    let home = home.path().to_str().expect("a plain path");
    let ran = agentflow(&["eval", "list", "--json"]).env("HF_HOME", home).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    let listed: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(listed.len(), Benchmark::list().len());
    let cached: Vec<&Value> = listed.iter().filter(|one| one["cached"] == true).collect();
    assert_eq!(cached.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["aime25", "arith"]);
    assert_eq!(cached[0]["revision"], revision.as_str());
    assert_eq!(cached[0]["source"], "https://huggingface.co/datasets/math-ai/aime25");
    let gated: Vec<&Value> = listed.iter().filter(|one| one["gated"] == true).collect();
    assert_eq!(gated.iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["gpqa"]);
}
