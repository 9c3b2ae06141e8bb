use agentflow_tools::*;
fn main() {
    let level = std::env::args().nth(1).unwrap_or("auto".into());
    let mut s =
        match Sandbox::new(SandboxConfig { level: level.parse().unwrap(), ..Default::default() }) {
            Ok(s) => s,
            Err(e) => {
                println!("{e} {e:?}");
                return;
            }
        };
    print!("{}", s.report());
    for code in [
        "print(1)",
        "6*7",
        "1/0",
        "def f(n):\n  return f(n+1)\nf(0)",
        "  x = 1\n  x + 1",
        "import sympy\nsympy.factor('x**2-1')",
        "import requests",
        "while True: pass",
        "x = (",
        "import numpy as np\nnp.arange(3)",
        "import os, posix",
    ] {
        println!("{:?}", s.run(code));
    }
    let t = std::time::Instant::now();
    let n = 30;
    for _ in 0..n {
        s.run("print(1)").unwrap();
    }
    println!("{:?} per run", t.elapsed() / n);
    let t = std::time::Instant::now();
    let v = s.run_batch(&vec!["print(1)\nx = 3\nx * 2"; 2000]).unwrap();
    println!("{:?} per snippet {:?}", t.elapsed() / 2000, v[1999]);
}
