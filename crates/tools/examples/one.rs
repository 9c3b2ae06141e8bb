use agentflow_tools::*;
fn main() {
    let level = std::env::args().nth(1).unwrap_or("auto".into());
    let mut s = Sandbox::new(SandboxConfig { level: level.parse().unwrap(), ..Default::default() })
        .unwrap();
    let code = std::io::read_to_string(std::io::stdin()).unwrap();
    let run = s.run(&code).unwrap();
    println!("{}\n{run:?}", observe(&run).text);
}
