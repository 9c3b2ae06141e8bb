//! `--device` and `--dtype`, by a binary without CUDA and by one with it where there is no card.

use insta::assert_snapshot;
use serde_json::Value;

use crate::agentflow::agentflow;

const QUESTION: &str = "What is 15% of 240, then doubled?";

#[cfg(not(feature = "cuda"))]
#[test]
fn a_card_is_refused_by_a_binary_without_cuda() {
    let ran = agentflow(&["solve", QUESTION, "--device", "cuda"]).run();
    assert_snapshot!(ran, @r"
    exit code: 2
    ----- stderr -----
    error: this binary was built without CUDA: build with scripts/cuda-build.sh, or leave --device out
    ");
    for command in [
        &["model", "generate"][..],
        &["model", "logprobs"],
        &["model", "inspect"],
        &["bench", "engine"],
        &["serve", "--port", "0"],
        &["eval", "--limit", "1"],
    ] {
        let other = agentflow(&[command, &["--device", "cuda:1"]].concat()).run();
        assert_eq!((other.code(), &other.stderr), (Some(2), &ran.stderr), "{command:?}");
    }
}

#[test]
fn devices_and_dtypes_that_are_none_are_named() {
    assert_snapshot!(agentflow(&["solve", "?", "--device", "gpu"]).run(), @r"
    exit code: 2
    ----- stderr -----
    error: invalid value 'gpu' for '--device <DEVICE>': a device is `auto`, `cpu`, `cuda`, or `cuda:1` and so on

    For more information, try '--help'.
    ");
    assert_snapshot!(agentflow(&["solve", "?", "--dtype", "int8"]).run(), @r"
    exit code: 2
    ----- stderr -----
    error: invalid value 'int8' for '--dtype <DTYPE>': a dtype is `auto`, `f32`, `bf16` or `f16`

    For more information, try '--help'.
    ");
}

#[test]
fn a_device_is_for_models_in_this_process() {
    let ran = agentflow(&["solve", "?", "--backend", "ollama", "--device", "cpu"]).run();
    assert_snapshot!(ran, @r"
    exit code: 2
    ----- stderr -----
    error: --device and --dtype are for models in this process; leave them out, or use --backend local
    ");
}

#[test]
fn the_planner_answers_in_half_precision_too() {
    for dtype in ["f32", "bf16"] {
        let ran =
            agentflow(&["solve", QUESTION, "--device", "cpu", "--dtype", dtype, "--quiet"]).run();
        assert_eq!((ran.code(), ran.stdout.as_str()), (Some(0), "72\n"), "{dtype}: {ran}");
    }
}

#[test]
fn inspect_and_records_say_where_a_model_computes() {
    let inspect = agentflow(&["model", "inspect", "--json", "--device", "cpu", "--dtype", "bf16"]);
    let said: Value = serde_json::from_str(&inspect.run().stdout).expect("JSON");
    assert_eq!((&said["device"], &said["dtype"]), (&"cpu".into(), &"bf16".into()));

    let dir = tempfile::tempdir().expect("a temporary directory");
    let eval = ["eval", "--limit", "1", "--backend", "local", "--device", "cpu", "--dtype", "bf16"];
    let ran = agentflow(&eval).inside(dir.path()).run();
    assert_eq!(ran.code(), Some(0), "{ran}");
    let run = std::fs::read_dir(dir.path().join("runs")).expect("runs").next().expect("one run");
    let record = std::fs::read_to_string(run.expect("a run").path().join("run.toml"));
    let record = record.expect("a record");
    for line in ["device = \"cpu\"", "dtype = \"bf16\""] {
        assert!(record.lines().any(|it| it == line), "{line} in:\n{record}");
    }
}
