use crate::{Gold, Outcome, Verdict};
pub fn judge(gold: &Gold, text: &str) -> Verdict {
    let right = gold.text() == text;
    Verdict {
        outcome: if right { Outcome::Right } else { Outcome::Wrong },
        gold_read: gold.text(),
        pred_read: Some(text.to_owned()),
        how: "x".into(),
    }
}
