//! A refund is checked, routed by its size, and paid, the large one only after approval: StepFlow's branching refund and
//! persistent approval workflows in one. Who asks and who decides are different processes.
//!
//! ```text
//! cargo run -p agentflow-flow --example refund -- request 25 --dir /tmp/refunds
//! cargo run -p agentflow-flow --example refund -- request 250 --dir /tmp/refunds > pause.json
//! cargo run -p agentflow-flow --example refund -- decide /tmp/refunds pause.json --approve --by ann
//! cargo run -p agentflow-flow --example refund -- graph
//! ```
//!
//! To see: the second request prints what it waits for, as JSON, and its process ends; a later one takes the run up,
//! pays, and does not do the check again. The same decision a second time is refused; `resume` goes on where a
//! process was killed. `payments.jsonl` has each payment once. `request 5000` asks for more than was paid: that is its
//! end, without anybody being asked.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agentflow_flow::{
    Context, Decision, End, Flow, JsonlStore, Pause, Retry, Run, StepError, approve, blocking,
    step, switch,
};
use serde::{Deserialize, Serialize};

const USAGE: &str = "usage: refund request AMOUNT --dir DIR [--order ORDER]
       refund decide DIR PAUSE.json --approve|--deny --by NAME [--note TEXT]
       refund resume DIR PAUSE.json
       refund graph

orders: A-1 (400 paid), A-2 (30 paid), A-3 (900 paid with a stolen card)";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Request {
    order: String,
    amount: u32,
}

/// A request, and what our books say about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claim {
    order: String,
    amount: u32,
    paid: u32,
    refunded: u32,
    stolen: bool,
}

/// A line of `payments.jsonl`.
#[derive(Debug, Serialize, Deserialize)]
struct Payment {
    key: String,
    order: String,
    amount: u32,
}

/// What the run is provided with: the file of payments.
struct Ledger(PathBuf);

fn refund() -> Flow<Request, String> {
    let pay = blocking("pay", pay).retry(Retry::default()).describe("once for each run");
    let large = Flow::new("large").then(approve("manager", Claim::clone)).then(pay.clone());
    let reject = |claim: Claim| format!("rejected: order {} was not paid like that", claim.order);
    Flow::new("refund").then(step("check", check)).then(
        switch("route")
            .end("fraud", Claim::is_fraud, reject)
            .when("small", |claim: &Claim| claim.amount <= 50, pay)
            .when("large", |claim: &Claim| claim.amount > 50, large)
            .strict(),
    )
}

async fn check(cx: Context, Request { order, amount }: Request) -> Result<Claim, StepError> {
    let (paid, stolen) = match order.as_str() {
        "A-1" => (400, false),
        "A-2" => (30, false),
        "A-3" => (900, true),
        _ => return Err(StepError::fatal(format!("there is no order `{order}`"))),
    };
    let refunded = cx.need::<Ledger>()?.refunded(&order)?;
    Ok(Claim { order, amount, paid, refunded, stolen })
}

impl Claim {
    fn is_fraud(&self) -> bool {
        self.stolen || self.refunded.saturating_add(self.amount) > self.paid
    }
}

/// Pays, unless an earlier attempt did: the key is the same for all of them, also in later processes.
fn pay(cx: &Context, claim: Claim) -> Result<String, StepError> {
    let ledger = cx.need::<Ledger>()?;
    let Claim { order, amount, paid, .. } = claim;
    let key = cx.key();
    let _alone = ledger.lock()?;
    if !ledger.payments()?.iter().any(|payment| payment.key == key) {
        // Days may lie between check and approval.
        if ledger.refunded(&order)?.saturating_add(amount) > paid {
            return Err(StepError::fatal(format!("order {order} was paid back in the meantime")));
        }
        ledger.add(&Payment { key, order: order.clone(), amount })?;
    }
    Ok(format!("paid back {amount} for order {order}"))
}

impl Ledger {
    fn payments(&self) -> std::io::Result<Vec<Payment>> {
        match fs::read_to_string(&self.0) {
            Ok(text) => Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn refunded(&self, order: &str) -> std::io::Result<u32> {
        Ok(self.payments()?.iter().filter(|p| p.order == order).map(|p| p.amount).sum())
    }

    /// Whoever looks and then pays does it alone: two processes would both find that something is left.
    fn lock(&self) -> std::io::Result<File> {
        let file = File::create(self.0.with_extension("lock"))?;
        file.lock()?;
        Ok(file)
    }

    fn add(&self, payment: &Payment) -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.0)?;
        file.write_all(format!("{}\n", serde_json::to_string(payment)?).as_bytes())?;
        file.sync_all()
    }
}

enum Command {
    Request { request: Request, dir: PathBuf },
    Resume { dir: PathBuf, pause: PathBuf, decision: Option<Decision> },
    Graph,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(command) = Command::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match execute(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Command) -> Result<(), Box<dyn Error>> {
    let run = match command {
        Command::Request { request, dir } => {
            with_ledger(refund().run(request).store(store(&dir)), &dir)
        }
        Command::Resume { dir, pause, decision } => {
            let text = fs::read_to_string(&pause)
                .map_err(|error| format!("cannot read `{}`: {error}", pause.display()))?;
            let pause: Pause = serde_json::from_str(&text)
                .map_err(|error| format!("`{}` holds no pause: {error}", pause.display()))?;
            let run = with_ledger(refund().resume(store(&dir), pause.run.clone()), &dir);
            match decision {
                Some(decision) => run.decide(&pause, decision),
                None => run,
            }
        }
        Command::Graph => {
            print!("{}", refund().graph().to_mermaid());
            return Ok(());
        }
    };
    match run.await.end {
        End::Done(text) => println!("{text}"),
        End::Paused(pauses) => {
            for pause in pauses {
                println!("{}", serde_json::to_string_pretty(&pause)?);
            }
            eprintln!("paused; whoever has this can answer it with `refund decide`");
        }
        End::Failed(error) => return Err(error.into()),
    }
    Ok(())
}

fn store(dir: &Path) -> Arc<JsonlStore> {
    Arc::new(JsonlStore::new(dir.join("runs")))
}

/// What every process gives its run: nothing of that is in the journal.
fn with_ledger(run: Run<String>, dir: &Path) -> Run<String> {
    run.provide(Arc::new(Ledger(dir.join("payments.jsonl"))))
}

impl Command {
    fn parse(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut words = Vec::new();
        let (mut order, mut dir, mut approved, mut by, mut note) = (None, None, None, None, None);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--order" => order = Some(args.next()?),
                "--dir" => dir = Some(PathBuf::from(args.next()?)),
                "--approve" => approved = Some(true),
                "--deny" => approved = Some(false),
                "--by" => by = Some(args.next()?),
                "--note" => note = Some(args.next()?),
                _ if arg.starts_with("--") => return None,
                _ => words.push(arg),
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["request", amount] => {
                let order = order.unwrap_or_else(|| "A-1".to_owned());
                let request = Request { order, amount: amount.parse().ok()? };
                Some(Self::Request { request, dir: dir? })
            }
            ["decide", dir, pause] => {
                let decision = Some(Decision { approved: approved?, by: Some(by?), note });
                Some(Self::Resume { dir: dir.into(), pause: pause.into(), decision })
            }
            ["resume", dir, pause] if approved.is_none() => {
                Some(Self::Resume { dir: dir.into(), pause: pause.into(), decision: None })
            }
            ["graph"] => Some(Self::Graph),
            _ => None,
        }
    }
}
