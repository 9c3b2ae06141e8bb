//! `report.html`: one file that needs nothing else, opens at once, and shows every attempt.
//!
//! Figures are in the page; attempts are JSON in script elements of a type that no browser runs, one each, and only read
//! when they are looked at. What a model wrote reaches the page as text, never as markup, and the page's own policy
//! forbids it to load or send anything.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::markdown::{percent, range};
use super::{Report, Score, problem_id, svg};
use crate::{Gold, RunDirError, Sample};

/// Attempts beyond this size of the page are listed, and not shown: a browser has to hold it all.
const MOST_BYTES: usize = 96 << 20;
/// A text longer than this loses its middle on the page.
const MOST_CHARS: usize = 40_000;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

impl Report {
    /// Writes the page. `attempts` come with their line in the samples' file; `path` is named in errors.
    ///
    /// # Errors
    /// Those of `attempts`, or if `out` refuses.
    pub fn write_html(
        &self,
        attempts: impl Iterator<Item = Result<(usize, Sample), RunDirError>>,
        out: &mut dyn Write,
        path: &Path,
    ) -> Result<(), RunDirError> {
        let refused = |source| RunDirError::Io { action: "write", path: path.to_owned(), source };
        self.write_head(out).map_err(refused)?;
        let mut index = Vec::new();
        let mut bytes = 0;
        for attempt in attempts {
            let (line, sample) = attempt?;
            let body = embedded(&body(&sample, line));
            let shown = bytes + body.len() <= MOST_BYTES;
            if shown {
                bytes += body.len();
                let id = index.len();
                writeln!(out, "<script type=\"application/json\" id=\"a{id}\">{body}</script>")
                    .map_err(refused)?;
            }
            index.push(entry(&sample, line, shown));
        }
        let index = embedded(&Value::from(index));
        writeln!(out, "<script type=\"application/json\" id=\"index\">{index}</script>")
            .and_then(|()| writeln!(out, "<script>\n{SCRIPT}</script>\n</body>\n</html>"))
            .map_err(refused)
    }

    fn write_head(&self, out: &mut dyn Write) -> io::Result<()> {
        let title = format!("{} · {}", self.run.benchmark, self.run.model_name());
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style>\n\
             </head>\n<body>\n<a class=\"skip\" href=\"#attempts\">Skip to the attempts</a>\n<header>\n",
            escape(&title)
        )?;
        writeln!(
            out,
            "<p class=\"kicker\">agentflow eval</p>\n<h1>{} <span>{}</span></h1>",
            escape(&self.run.benchmark),
            escape(&self.run.model_name())
        )?;
        if self.partial {
            writeln!(
                out,
                "<p class=\"partial\"><strong>Partial.</strong> {} of {} samples are missing; the figures are of the \
                 others.</p>",
                self.counts.missing, self.counts.asked
            )?;
        }
        writeln!(
            out,
            "<div class=\"headline\">\n<p class=\"figure\"><strong>{}</strong> <span>{} of {} right · 95 % interval {}\
             </span></p>\n{}\n<p class=\"plain\">{}</p>\n</div>\n</header>\n<main>",
            percent(self.accuracy.value),
            self.counts.right,
            self.counts.samples,
            range(self.accuracy.interval),
            svg::interval(&self.accuracy),
            escape(&self.plain_words())
        )?;
        self.write_figures(out)?;
        writeln!(out, "{}", ATTEMPTS.trim())
    }

    fn write_figures(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "<section class=\"figures\" aria-label=\"Figures\">")?;
        let counts = &self.counts;
        let rows = [
            ("right", counts.right),
            ("wrong", counts.wrong),
            ("no answer", counts.no_answer),
            ("failed", counts.failed),
            ("missing", counts.missing),
        ];
        let causes =
            counts.failed_by_cause.iter().map(|(cause, n)| (format!("failed: {cause}"), *n));
        let rows = rows.map(|(name, n)| (name.to_owned(), n)).into_iter().chain(causes);
        table(out, "Outcomes", rows.map(|(name, n)| (name, n.to_string())))?;
        table(out, "Per sample", self.facts().into_iter().map(|(name, v)| (name.to_owned(), v)))?;
        if let Some(repeats) = &self.repeats {
            let (fewest, most) = repeats.obtained;
            let k = repeats.asked;
            let mut rows = vec![
                (format!("avg@{k}"), percent(repeats.avg)),
                (format!("maj@{k}"), percent(repeats.majority.value)),
                ("Answers obtained".to_owned(), format!("{fewest} to {most}")),
            ];
            let passes = repeats.pass_at.iter().map(|row| (format!("pass@{}", row.k), row.value));
            let hats = repeats.pass_hat.iter().map(|row| (format!("pass^{}", row.k), row.value));
            rows.extend(passes.chain(hats).map(|(name, value)| (name, percent(value))));
            table(out, "Several answers a question", rows)?;
        }
        table(out, "Stopped", self.stops.iter().map(|(k, n)| (k.clone(), n.to_string())))?;
        table(
            out,
            "How answers were read",
            self.read_by.iter().map(|(k, n)| (k.clone(), n.to_string())),
        )?;
        for (tag, values) in &self.by_tag {
            let row = |(value, score): (&String, &Score)| {
                let text = format!(
                    "{}/{} · {}",
                    score.right,
                    score.samples,
                    range(score.accuracy.interval)
                );
                (value.clone(), text)
            };
            table(out, &format!("By {tag}"), values.iter().map(row))?;
        }
        writeln!(
            out,
            "<figure>\n<h2>Accuracy by number of steps</h2>\n{}\n<figcaption>Percent right of the samples that took so \
             many steps, with 95 % intervals; the dashed line is all of them.</figcaption>\n</figure>",
            svg::by_steps(&self.by_steps, self.accuracy.value)
        )?;
        table(
            out,
            "Origin",
            self.origin().into_iter().map(|(name, value)| (name.to_owned(), value)),
        )?;
        writeln!(out, "</section>")
    }
}

const ATTEMPTS: &str = r#"
<section id="attempts" aria-label="Attempts">
<h2>Attempts</h2>
<noscript><p>The attempts are shown by a script in this file, which needs to be allowed; the figures above are whole.</p></noscript>
<div class="tools" role="search">
<input id="search" type="search" placeholder="Search questions, steps, outputs" aria-label="Search attempts" autocomplete="off">
<span id="outcomes" role="group" aria-label="Outcome"></span>
<select id="tag" aria-label="Tag"><option value="">all tags</option></select>
<output id="count"></output>
</div>
<div class="panes">
<ol id="list" aria-label="Attempts"></ol>
<article id="detail" tabindex="-1" aria-live="polite"></article>
</div>
<p class="keys"><kbd>/</kbd> search <kbd>j</kbd> <kbd>k</kbd> next, previous <kbd>Esc</kbd> clear</p>
</section>
</main>
"#;

fn table(
    out: &mut dyn Write,
    title: &str,
    rows: impl IntoIterator<Item = (String, String)>,
) -> io::Result<()> {
    writeln!(out, "<table>\n<caption>{}</caption>\n<tbody>", escape(title))?;
    for (name, value) in rows {
        let (name, value) = (escape(&name), escape(&value));
        writeln!(out, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>")?;
    }
    writeln!(out, "</tbody>\n</table>")
}

/// What the list shows and filters by.
fn entry(sample: &Sample, line: usize, shown: bool) -> Value {
    let Sample { trajectory, eval } = sample;
    json!({
        "problem": problem_id(trajectory),
        "repeat": eval.repeat,
        "outcome": eval.verdict.outcome,
        "question": trajectory.question.chars().take(160).collect::<String>(),
        "steps": trajectory.steps.len(),
        "tags": eval.tags,
        "line": line,
        "shown": shown,
    })
}

/// What is shown of an attempt: no token ids, no log-probs, and no prompts, which repeat what stands here.
fn body(sample: &Sample, line: usize) -> Value {
    let Sample { trajectory, eval } = sample;
    let text = |text: &str| Value::from(shortened(text));
    let optional = |value: &Option<String>| value.as_deref().map(shortened);
    let steps: Vec<Value> = trajectory
        .steps
        .iter()
        .map(|step| {
            json!({
                "thought": step.reply.as_ref().map(|reply| text(&reply.thought)),
                "action": step.reply.as_ref().map(|reply| &reply.action),
                "input": step.reply.as_ref().map(|reply| text(&reply.action_input)),
                "raw": step.reply.is_none().then(|| text(&step.raw)),
                "thinking": optional(&step.thinking),
                "ok": step.observation.ok,
                "output": text(&step.observation.text),
                "cut": step.observation.truncated,
                "sufficient": step.verdict.sufficient,
                "reason": text(&step.verdict.reason),
                "tokens": step.usage.completion_tokens,
                "wall_ms": step.wall_ms,
                "prm_score": step.prm_score,
            })
        })
        .collect();
    json!({
        "question": text(&trajectory.question),
        "gold": text(&eval.gold.text()),
        "choices": match &eval.gold {
            Gold::Choice { shown, .. } => Some(shown),
            Gold::Math { .. } => None,
        },
        "gold_read": text(&eval.verdict.gold_read),
        "pred_read": optional(&eval.verdict.pred_read),
        "how": text(&eval.verdict.how),
        "answer": optional(&trajectory.answer),
        "stop": trajectory.stop,
        "error": optional(&trajectory.error),
        "prompt_tokens": trajectory.usage.prompt_tokens,
        "completion_tokens": trajectory.usage.completion_tokens,
        "wall_s": trajectory.wall_s,
        "line": line,
        "steps": steps,
    })
}

fn shortened(text: &str) -> String {
    let chars = text.chars().count();
    if chars <= MOST_CHARS {
        return text.to_owned();
    }
    let head: String = text.chars().take(MOST_CHARS / 2).collect();
    let tail: String = text.chars().skip(chars - MOST_CHARS / 2).collect();
    format!(
        "{head}\n\n… {} characters are only in the run's own file …\n\n{tail}",
        chars - MOST_CHARS
    )
}

/// JSON that can stand in a script element: nothing in it ends the element, starts a comment, or ends a line of script.
fn embedded(value: &Value) -> String {
    let json = value.to_string();
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            c => safe.push(c),
        }
    }
    safe
}

/// Text as HTML, also within quotes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_embedded_json_is_markup() {
        let hostile = json!({"q": "</script><script>alert(1)</script><!--\u{2028}\u{2029}&amp;"});
        let safe = embedded(&hostile);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{safe}");
        assert_eq!(serde_json::from_str::<Value>(&safe).expect("still JSON"), hostile);
    }

    #[test]
    fn a_long_text_keeps_both_ends() {
        let text = format!("start{}end", "ä".repeat(2 * MOST_CHARS));
        let short = shortened(&text);
        assert!(short.starts_with("start") && short.ends_with("end"));
        assert!(
            short.contains("40008 characters are only in the run's own file"),
            "{}",
            short.len()
        );
        assert_eq!(shortened("short"), "short");
    }
}
