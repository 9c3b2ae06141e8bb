//! `agentflow prm`: scores of a process reward model, for recorded runs and for scripts.

mod stress;
mod trajectories;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use agentflow_train::prm::{Prm, PrmError};
use anyhow::anyhow;
use serde::Deserialize;
use serde_json::json;

use crate::Failure;
use crate::arguments::{PlacementArgs, PrmCommand, PrmScoreArgs};
use crate::progress::Progress;
use crate::{model, output, placement, runs};

pub(crate) fn run(command: PrmCommand) -> Result<(), Failure> {
    match command {
        PrmCommand::Score(args) => score(&args),
        PrmCommand::Stress(args) => stress::run(&args),
    }
}

fn score(args: &PrmScoreArgs) -> Result<(), Failure> {
    match (&args.run, &args.input) {
        (_, Some(input)) => {
            let input = model::read(input)?;
            let prm = open(&args.model, &args.placement)?;
            if !args.force {
                prm.check_prompt(None).map_err(Failure::usage)?;
            }
            score_lines(&prm, &input)
        }
        (Some(run), None) => {
            let run = runs::find(run, &args.runs)?;
            let out = args.out.clone().unwrap_or_else(|| run.join("trajectories.prm.jsonl"));
            let prm = open(&args.model, &args.placement)?;
            let mut progress: Option<Progress> = None;
            let started = Instant::now();
            let counts = trajectories::score(&prm, &run, &out, args.force, &mut |done, all| {
                let progress = progress.get_or_insert_with(|| Progress::new(all, "trajectories"));
                progress.update(done, String::new());
            })?;
            if let Some(progress) = progress {
                progress.finish();
            }
            let pace = counts.decisions as f64 / started.elapsed().as_secs_f64();
            // Nothing is left to do where stderr is closed.
            let _ = writeln!(
                std::io::stderr(),
                "{} decisions of {} trajectories scored, {pace:.1}/s{}",
                counts.decisions,
                counts.trajectories,
                counts.told()
            );
            output::print(|to| writeln!(to, "{}", out.display()))
        }
        (None, None) => Err(Failure::usage(anyhow!("give a RUN or --input FILE"))),
    }
}

fn open(model: &Path, placement: &PlacementArgs) -> Result<Prm, Failure> {
    let placement = placement::choose(placement)?;
    Prm::open(model, &placement).map_err(Failure::work)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    ids: Option<Vec<u32>>,
    text: Option<String>,
}

/// Lines are read, scored and answered so many at a time.
const LINES: usize = 256;

fn score_lines(prm: &Prm, input: &str) -> Result<(), Failure> {
    let lines: Vec<&str> = input.lines().filter(|line| !line.trim().is_empty()).collect();
    let mut failed = 0;
    let started = Instant::now();
    output::print(|out| {
        for lines in lines.chunks(LINES) {
            let texts: Vec<Result<Vec<u32>, String>> =
                lines.iter().map(|line| tokens(prm, line)).collect();
            for answer in answers(prm, texts) {
                match answer {
                    Ok(score) => writeln!(out, "{}", json!({"score": score}))?,
                    Err(error) => {
                        failed += 1;
                        writeln!(out, "{}", json!({"error": error}))?;
                    }
                }
            }
            out.flush()?;
        }
        Ok(())
    })?;
    let pace = (lines.len() - failed) as f64 / started.elapsed().as_secs_f64();
    // Nothing is left to do where stderr is closed.
    let _ = writeln!(std::io::stderr(), "{} texts scored, {pace:.2}/s", lines.len() - failed);
    match failed {
        0 => Ok(()),
        _ => Err(Failure::work(anyhow!(
            "{failed} of {} lines failed; their answers say why",
            lines.len()
        ))),
    }
}

fn tokens(prm: &Prm, line: &str) -> Result<Vec<u32>, String> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| format!("this line is not what is read here: {error}"))?;
    match (line.ids, line.text) {
        (Some(ids), None) => Ok(prm.shorten(ids).ids),
        (None, Some(text)) => Ok(prm.encode(&text).map_err(|error| error.to_string())?.ids),
        _ => Err("this line is not what is read here: give either `ids` or `text`".to_owned()),
    }
}

/// The scores of texts, all at once; where that fails, one by one, so that each failure is told on its own line.
fn answers(prm: &Prm, texts: Vec<Result<Vec<u32>, String>>) -> Vec<Result<f32, String>> {
    let good: Vec<&[u32]> = texts.iter().flatten().map(Vec::as_slice).collect();
    let one = |ids: &[u32]| -> Result<f32, PrmError> { Ok(prm.scores(&[ids])?[0]) };
    let scored: Vec<Result<f32, String>> = match prm.scores(&good) {
        Ok(scores) => scores.into_iter().map(Ok).collect(),
        Err(_) => good.iter().map(|ids| one(ids).map_err(|error| error.to_string())).collect(),
    };
    let mut scored = scored.into_iter();
    let next = |text: Result<Vec<u32>, String>| match text {
        Ok(_) => scored.next().expect("there is a score for each text"),
        Err(error) => Err(error),
    };
    texts.into_iter().map(next).collect()
}
