//! What the planner reads after running code: one table, through `run` and `run_batch`, which must agree.

mod support;

use agentflow_tools::{End, Observation, Sandbox, SandboxConfig, Toolbox, observe};
use serde_json::json;
use support::{has, sandbox};

/// Code, whether it succeeds, and the whole text of the observation.
const TABLE: &[(&str, bool, &str)] = &[
    ("print(1)", true, "1"),
    ("6 * 7", true, "42"),
    ("x = 6\nx * 7", true, "42"),
    ("print('a')\n'b'", true, "a\n'b'"),
    ("print('once')", true, "once"),
    ("None", true, "(no output; print the result, or end with an expression)"),
    ("x = 1", true, "(no output; print the result, or end with an expression)"),
    ("", true, "(no output; print the result, or end with an expression)"),
    ("# only a comment", true, "(no output; print the result, or end with an expression)"),
    ("def f(n):\n    return n * 2\nf(21)", true, "42"),
    ("for n in range(3): n", true, "(no output; print the result, or end with an expression)"),
    ("1; 2; 3", true, "3"),
    ("sorted({'b', 'a', 'c'})", true, "['a', 'b', 'c']"),
    ("'Größe 漢字 🎲'", true, "'Größe 漢字 🎲'"),
    ("print('\\ud800')", true, "\\ud800"),
    ("print('\\x1b[31mred\\x1b[0m')", true, "red"),
    ("len(str(2 ** 20000))", true, "6021"),
    ("import sys\nprint('seen', file=sys.stderr)", true, "seen"),
    ("__name__", true, "'__main__'"),
    ("x: int = 3\nassert x == 3\nx", true, "3"),
    ("import math\nmath.gcd(12, 18)", true, "6"),
    ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nP(3)", true, "P(x=3)"),
    ("exit()", true, "(no output; print the result, or end with an expression)"),
    // Stray indentation, fences, line ends
    ("    x = 1\n    x + 1", true, "2"),
    ("\tx = 1\n\tx + 1", true, "2"),
    ("x = 1\n    y = 2\n    print(x + y)", true, "3"),
    ("\n\n  for n in range(2):\n      print(n)\n", true, "0\n1"),
    ("```python\n1 + 1\n```", true, "2"),
    ("```\n  1 + 1\n```\n", true, "2"),
    ("Here is the code:\n```python\nprint(5)\n```\nIt prints 5.", true, "5"),
    ("s = '''\n```\nnot a fence\n```\n'''\nlen(s)", true, "21"),
    ("x = 1\r\nx + 1\r\n", true, "2"),
    ("\u{feff}3", true, "3"),
    // Errors: last line first, then the lines of the code
    ("1 / 0", false, "ZeroDivisionError: division by zero\n  line 1: 1 / 0"),
    (
        "def half(n):\n    return 1 / n\n\nprint('start')\nhalf(0)",
        false,
        "ZeroDivisionError: division by zero\n  line 5: half(0)\n  line 2, in half: return 1 / n\noutput before that:\nstart",
    ),
    ("undefined", false, "NameError: name 'undefined' is not defined\n  line 1: undefined"),
    (
        "import json\njson.loads('{')",
        false,
        "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n  line 2: json.loads('{')",
    ),
    ("class Odd(Exception): pass\nraise Odd('why')", false, "Odd: why\n  line 2: raise Odd('why')"),
    ("raise ValueError", false, "ValueError\n  line 1: raise ValueError"),
    ("raise SystemExit('stop')", false, "SystemExit: stop"),
    ("import sys\nsys.exit(3)", false, "SystemExit: 3"),
    ("raise KeyboardInterrupt", false, "KeyboardInterrupt\n  line 1: raise KeyboardInterrupt"),
    ("input()", false, "EOFError: EOF when reading a line\n  line 1: input()"),
    ("x = 1\nx = = 2", false, "SyntaxError: invalid syntax (line 2)\n  x = = 2\n      ^"),
    (
        "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E",
        false,
        "E: <a E that cannot be printed>\n  line 3: raise E",
    ),
    (
        "def f(n):\n    return f(n + 1)\nf(0)",
        false,
        "RecursionError: maximum recursion depth exceeded\n  line 3: f(0)\n  line 2, in f: return f(n + 1)\n  \
         line 2, in f: return f(n + 1)\n  line 2, in f: return f(n + 1)\n  ... 988 more calls ...\n  \
         line 2, in f: return f(n + 1)\n  line 2, in f: return f(n + 1)\n  line 2, in f: return f(n + 1)\n  \
         line 2, in f: return f(n + 1)",
    ),
];

#[test]
fn the_table_holds_in_runs_of_their_own() {
    let mut sandbox = sandbox();
    for (code, ok, text) in TABLE {
        let observation = observe(&sandbox.run(code).expect("the sandbox works"));
        assert_eq!((observation.ok, same(&observation.text)), (*ok, same(text)), "{code}");
    }
}

#[test]
fn the_table_holds_in_one_batch() {
    let codes: Vec<&str> = TABLE.iter().map(|(code, _, _)| *code).collect();
    let runs = sandbox().run_batch(&codes).expect("the sandbox works");
    for ((code, ok, text), run) in TABLE.iter().zip(runs) {
        let observation = observe(&run);
        assert_eq!((observation.ok, same(&observation.text)), (*ok, same(text)), "{code}");
    }
}

#[test]
fn run_and_run_batch_agree_on_everything_but_the_time() {
    let codes: Vec<String> = TABLE
        .iter()
        .map(|(code, _, _)| (*code).to_owned())
        .chain(["for n in range(9999): print(n)".into(), "raise ValueError('x' * 99999)".into()])
        .collect();
    let mut sandbox = sandbox();
    let batch = sandbox.run_batch(&codes).expect("the sandbox works");
    assert_eq!(batch.len(), codes.len());
    for (code, mut batched) in codes.iter().zip(batch) {
        let mut alone = sandbox.run(code).expect("the sandbox works");
        (alone.wall_ms, batched.wall_ms) = (0, 0);
        for run in [&mut alone, &mut batched] {
            run.error = run.error.as_deref().map(same);
        }
        assert_eq!(alone, batched, "{code}");
    }
}

/// How deep the stack was differs by a frame or two, between versions of Python too.
fn same(text: &str) -> String {
    match (text.split_once("  ... "), text.split_once(" more calls ...")) {
        (Some((head, _)), Some((_, tail))) => {
            format!("{}{tail}", head.replace(" while calling a Python object", ""))
        }
        _ => text.to_owned(),
    }
}

#[test]
fn a_batch_survives_what_ends_the_interpreter() {
    let limits = support::quick();
    let mut sandbox =
        Sandbox::new(SandboxConfig { limits, ..SandboxConfig::default() }).expect("a sandbox");
    let codes = ["1", "while True: pass", "2", "import sys\nsys.modules['posix']._exit(9)", "3"];
    let runs = sandbox.run_batch(&codes).expect("the sandbox works");
    let ends: Vec<&End> = runs.iter().map(|run| &run.end).collect();
    assert_eq!(ends, [&End::Exit(0), &End::Timeout, &End::Exit(0), &End::Exit(9), &End::Exit(0)]);
    assert_eq!(runs[2].stdout, "2\n");
    assert_eq!(runs[4].stdout, "3\n");
    assert!(!runs[3].ok);
    assert_eq!(sandbox.run_batch(&[] as &[&str]).expect("nothing to do"), []);
}

#[test]
fn snippets_of_a_batch_have_names_of_their_own() {
    let runs = sandbox().run_batch(&["x = 1", "x", "import math", "math.pi"]).expect("a batch");
    assert_eq!(runs.iter().map(|run| run.ok).collect::<Vec<_>>(), [true, false, true, false]);
}

#[test]
fn the_same_code_prints_the_same_in_every_run() {
    let mut sandbox = sandbox();
    let code = "print({str(n) for n in range(50)})";
    let first = sandbox.run(code).expect("the sandbox works").stdout;
    assert_eq!(sandbox.run(code).expect("the sandbox works").stdout, first);
}

#[test]
fn the_import_guard_names_what_may_be_imported() {
    let mut sandbox = sandbox();
    for module in ["requests", "os", "subprocess", "os.path"] {
        let run = sandbox.run(&format!("import {module}")).expect("the sandbox works");
        let top = module.split('.').next().expect("a name");
        let error = run.error.expect("not importable");
        assert!(
            error
                .starts_with(&format!("ImportError: `{top}` cannot be imported here; these can: ")),
            "{error}"
        );
        assert!(error.contains(" math,") && error.contains(" fractions,"), "{error}");
    }
}

#[test]
fn installed_packages_can_be_imported() {
    let mut sandbox = sandbox();
    for (package, code, text) in [
        ("sympy", "from sympy import *\nx = symbols('x')\nsolve(x**2 - 5*x + 6, x)", "[2, 3]"),
        ("numpy", "import numpy as np\nint(np.linalg.det(np.eye(3)) + np.arange(4).sum())", "7"),
        ("mpmath", "import mpmath\nmpmath.mp.dps = 20\nprint(mpmath.pi)", "3.1415926535897932385"),
    ] {
        if has(&sandbox, package) {
            assert_eq!(
                observe(&sandbox.run(code).expect("the sandbox works")).text,
                text,
                "{package}"
            );
        }
    }
}

#[test]
fn the_environment_is_ours_alone() {
    let mut sandbox =
        Sandbox::new(SandboxConfig { import_guard: false, ..SandboxConfig::default() })
            .expect("a sandbox");
    let run = sandbox.run("import os\nprint(*sorted(os.environ))").expect("the sandbox works");
    assert_eq!(
        run.stdout,
        "HOME LANG LC_ALL MKL_NUM_THREADS OMP_NUM_THREADS OPENBLAS_NUM_THREADS TMPDIR TZ\n"
    );
}

#[test]
fn tools_are_called_by_name_with_a_plain_string() {
    let toolbox = Toolbox::built_in();
    let mut sandbox = sandbox();
    let mut call = |name: &str, input| -> Observation {
        toolbox.call(name, &input, &mut sandbox).expect("the sandbox works")
    };
    let observation = call("code", json!("print(240 * 15 / 100)"));
    assert_eq!((observation.ok, observation.text.as_str()), (true, "36.0"));
    assert_eq!(call("code", json!({ "code": "1 + 1" })).text, "2");
    assert_eq!(call("think", json!("first, double it")).text, "first, double it");
    assert_eq!(call("answer", json!("72")).text, "72");
    let search = call("search", json!("weather"));
    assert!(!search.ok && search.text.contains("TAVILY_API_KEY"), "{}", search.text);
    assert_eq!(call("code", json!(7)).text, "`code` needs `code`, a string");
    assert_eq!(call("code", json!({ "code": 7 })).text, "`code` needs a string as `code`");
    assert_eq!(
        call("fly", json!("away")).text,
        "there is no tool `fly`; choose one of `think`, `search`, `code`, `answer`"
    );
}
