//! Reading what a judge wrote. What is not a rating of the step on the scale is none at all.

use agentflow_agent::prompt::shorten;
use agentflow_llm::{ChatReply, Finish};
use serde_json::Value;

use super::rubric::{BEST, Criterion, Grades};

/// A rating as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rating {
    pub(super) reason: String,
    pub(super) grades: Grades,
}

/// Why a reply rates nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    #[error("the judge refused: `{0}`")]
    Refused(String),
    #[error("the reply was cut off after {0} tokens")]
    Cut(u64),
    #[error("{0}")]
    TooLong(String),
    #[error("the judge only thought, and wrote no reply")]
    OnlyThought,
    #[error("the reply is no JSON object, but `{0}`")]
    Prose(String),
    #[error("the reply cannot be read: {0}")]
    Unreadable(String),
    #[error("it rates step {found}, and step {wanted} was to be rated")]
    WrongStep { wanted: usize, found: String },
    #[error("`{name}` is {found}, and grades are whole numbers from 0 to {BEST}")]
    OffScale { name: &'static str, found: String },
}

/// The rating in `reply` of step `wanted`, counted from 1.
pub(super) fn read(reply: &ChatReply, wanted: usize) -> Result<Rating, Unusable> {
    let shown = || shorten(reply.text.trim(), 120);
    match reply.finish {
        Finish::Refused => return Err(Unusable::Refused(shown())),
        Finish::Length => return Err(Unusable::Cut(reply.usage.completion_tokens)),
        Finish::Stop => {}
    }
    let text = object(&reply.text).ok_or_else(|| Unusable::Prose(shown()))?;
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Unusable::Unreadable(format!("{error}, in `{}`", shorten(text, 120))))?;
    let field = |name: &str| {
        value.get(name).ok_or_else(|| Unusable::Unreadable(format!("it has no `{name}`")))
    };
    let step = field("step")?;
    if whole(step) != Some(wanted as u64) {
        return Err(Unusable::WrongStep { wanted, found: shorten(&step.to_string(), 40) });
    }
    let mut grades = [0; 5];
    for (grade, criterion) in grades.iter_mut().zip(Criterion::ALL) {
        let (name, found) = (criterion.name(), field(criterion.name())?);
        let on_scale = whole(found).and_then(|grade| u8::try_from(grade).ok());
        *grade = on_scale
            .filter(|grade| *grade <= BEST)
            .ok_or_else(|| Unusable::OffScale { name, found: shorten(&found.to_string(), 40) })?;
    }
    let reason = field("reason")?.as_str().unwrap_or_default().to_owned();
    Ok(Rating { reason, grades })
}

/// Also `3.0`, which JSON does not tell from `3`.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_f64().filter(|number| *number >= 0.0 && number.fract() == 0.0)?;
    (number < 1e9).then_some(number as u64)
}

/// The object in `text`: servers that do not constrain the reply let models put fences and words around it.
fn object(text: &str) -> Option<&str> {
    let (first, last) = (text.find('{')?, text.rfind('}')?);
    (first < last).then(|| &text[first..=last])
}

#[cfg(test)]
mod tests {
    use agentflow_llm::Usage;

    use super::*;

    const GOOD: &str = r#"{"step": 2, "reason": "Right.", "progress": 3, "correctness": 4, "tool": 4.0, "input": 2, "novelty": 0}"#;

    fn reply(text: &str, finish: Finish) -> ChatReply {
        ChatReply {
            text: text.to_owned(),
            thinking: None,
            finish,
            usage: Usage { prompt_tokens: 9, completion_tokens: 512 },
            token_ids: None,
            logprobs: None,
            warnings: Vec::new(),
        }
    }

    fn problem(text: &str) -> String {
        read(&reply(text, Finish::Stop), 2).expect_err("it rates nothing").to_string()
    }

    #[test]
    fn grades_are_read_whatever_stands_around_them() {
        let rating = Rating { reason: "Right.".to_owned(), grades: [3, 4, 4, 2, 0] };
        for text in [GOOD.to_owned(), format!("```json\n{GOOD}\n```"), format!("Sure! {GOOD}")] {
            assert_eq!(read(&reply(&text, Finish::Stop), 2), Ok(rating.clone()));
        }
    }

    #[test]
    fn what_is_no_rating_has_its_cause() {
        let swap = |from: &str, to: &str| GOOD.replace(from, to);
        assert_eq!(
            problem("I would give it 7 out of 10."),
            "the reply is no JSON object, but `I would give it 7 out of 10.`"
        );
        let off = "and grades are whole numbers from 0 to 4";
        for (grade, found) in
            [("7", "7"), ("-1", "-1"), ("2.5", "2.5"), ("\"7/10\"", "\"7/10\""), ("null", "null")]
        {
            let grade = format!("\"progress\": {grade}");
            assert_eq!(
                problem(&swap("\"progress\": 3", &grade)),
                format!("`progress` is {found}, {off}")
            );
        }
        assert_eq!(
            problem(&swap("\"step\": 2", "\"step\": 1")),
            "it rates step 1, and step 2 was to be rated"
        );
        assert_eq!(
            problem(&swap("\"step\": 2, ", "")),
            "the reply cannot be read: it has no `step`"
        );
        assert_eq!(
            problem(&swap(", \"novelty\": 0", "")),
            "the reply cannot be read: it has no `novelty`"
        );
        assert!(
            problem("{\"step\": 2, oops}").starts_with("the reply cannot be read: key must be")
        );
        assert_eq!(problem(""), "the reply is no JSON object, but ``");
    }

    /// A filter may cut what would have been a good reply, and a cut reply may end in a brace by chance.
    #[test]
    fn refused_and_cut_replies_are_never_read() {
        let refused = read(&reply(GOOD, Finish::Refused), 2);
        assert!(matches!(refused, Err(Unusable::Refused(_))));
        assert_eq!(read(&reply(GOOD, Finish::Length), 2), Err(Unusable::Cut(512)));
    }
}
