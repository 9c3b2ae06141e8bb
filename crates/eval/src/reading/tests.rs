use proptest::prelude::*;

use super::{read_answer, read_choice, read_gold};

fn read(text: &str) -> Option<(String, &'static str)> {
    read_answer(text).map(|answer| (answer.text, answer.how))
}

fn text(said: &str) -> Option<String> {
    read(said).map(|(text, _)| text)
}

#[test]
fn boxes() {
    for (said, wanted) in [
        ("so \\boxed{25}.", "25"),
        ("\\boxed {25}", "25"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\fbox{7} and later", "7"),
        ("\\framebox[3cm]{7}", "7"),
        ("$\\boxed{25$ is it", "25"),
        ("\\boxed{115}, no wait. \\boxed{116}", "116"),
        ("\\boxed{1}, \\boxed{2} and \\boxed{3}", "1, 2, 3"),
        ("\\boxed{5}. Let me check: \\boxed{5}", "5"),
        ("\\boxed{12}\\%", "12\\%"),
        ("\\boxed 9", "9"),
        ("\\boxed{}", ""),
    ] {
        assert_eq!(text(said).unwrap_or_default(), wanted, "{said}");
    }
}

#[test]
fn anchors() {
    for (said, wanted) in [
        ("The final answer is $\\frac{1}{2}$. I hope it is correct.", "\\frac{1}{2}"),
        ("**Final Answer:** 25", "25"),
        ("**Final Answer**\n\n25", "25"),
        ("Final Answer: The largest $n$ is 34.", "34"),
        ("Answer: 24\n\nConfidence: 80%", "24"),
        ("The answer is 25 because 5 times 5 is 25 and 3 is odd.", "25"),
        ("The answer is not 25. The answer is 26.", "26"),
        ("The answer is 26. The answer is not 25.", "26"),
        ("7 * 6\n#### 42", "42"),
        ("<answer>25</answer>", "25"),
        ("<answer>$x = 25$</answer>", "x = 25"),
        ("{\"reasoning\": \"3 + 4\", \"answer\": \"7\"}", "7"),
        ("{\"answer\": 7.5}", "7.5"),
        ("We get 12 + 13, so it is **25**.", "25"),
        ("The answer is 12,000,023. I hope it is correct.", "12,000,023"),
        ("\\boxed{200} is a start. Final Answer: The final answer is $10455$.", "10455"),
    ] {
        assert_eq!(text(said).unwrap_or_default(), wanted, "{said}");
    }
}

#[test]
fn guesses_are_marked() {
    let (found, how) = read("Therefore there are 12 ways to seat them.").expect("a number");
    assert_eq!((&found[..], how), ("12", "guess: last expression"));
    assert_eq!(text("so the price is 1,000.99m²").as_deref(), Some("1,000.99"));
    assert_eq!(text("the plate said AZYUK2A"), Some("the plate said AZYUK2A".into()));
    assert_eq!(
        read(
            "I do not know how this could possibly be done by anybody who has as little time as me"
        ),
        None
    );
    assert_eq!(read(""), None);
}

#[test]
fn thinking_does_not_answer() {
    assert_eq!(text("<think>It is \\boxed{3}</think>\\boxed{4}").as_deref(), Some("4"));
    assert_eq!(text("perhaps \\boxed{3}</think>Answer: 4").as_deref(), Some("4"));
    assert_eq!(text("<think>a <think> b</think>It is 7."), Some("7".to_owned()));
    let (found, how) = read("<think>surely \\boxed{3}").expect("a box");
    assert_eq!((&found[..], how), ("3", "boxed in unclosed thinking"));
    assert_eq!(read("<think>perhaps 3, or 4 of them"), None);
}

#[test]
fn gold_answers_of_data_sets() {
    let gold = |text: &str| read_gold(text).into_iter().map(|g| g.text).collect::<Vec<String>>();
    assert_eq!(gold("080 or 081 (both were accepted)"), ["080", "081"]);
    assert_eq!(gold("$\\frac43$"), ["\\frac43"]);
    assert_eq!(gold("\\text{east}"), ["\\text{east}"]);
    assert_eq!(gold("We find $x=2$, so the answer is $\\boxed{7}$."), ["7"]);
    assert!(gold("").is_empty());
}

#[test]
fn letters_in_every_decoration() {
    for said in [
        "B",
        "(B)",
        "B.",
        "**B**",
        "$B$",
        "Answer: B",
        "Answer: $B$",
        "answer: **(B)**",
        "ANSWER: [B]",
        "Answer: \"B\"",
        "The correct answer is option B.",
        "The answer is \\boxed{\\text{B}}",
        "\\boxed{B}",
        "<answer>B</answer>",
        "{\"answer\": \"B\"}",
        "I would choose B.",
        "So (B) is correct.",
        "Answer: B) the second",
        "The answer is b.",
        "It is not A. The answer is B",
        "Answer: B\n\nConfidence: 80%",
        "Answer:\n\nB",
    ] {
        assert_eq!(read_choice(said, &[], 4).map(|(letter, _)| letter), Some('B'), "{said}");
    }
    for said in [
        "",
        "Answer: B, C",
        "Answer: BC",
        "Answer: A change of state",
        "Answer: E",
        "so option B is out",
        "Answer: B-cells",
    ] {
        assert_eq!(read_choice(said, &[], 4), None, "{said}");
    }
}

#[test]
fn the_text_of_a_choice_counts_when_it_is_one() {
    let shown = ["5 cm", "6 cm", "a decrease"].map(String::from);
    assert_eq!(read_choice("Answer: 6 cm", &shown, 3).map(|(letter, _)| letter), Some('B'));
    assert_eq!(read_choice("a decrease", &shown, 3).map(|(letter, _)| letter), Some('C'));
    let twice = ["5 cm", "5 cm"].map(String::from);
    assert_eq!(read_choice("Answer: 5 cm", &twice, 2), None);
}

proptest! {
    #[test]
    fn a_box_is_read_back(content in "[xyz]?[0-9+*/=^ ]{1,30}") {
        prop_assume!(!content.trim().is_empty());
        let said = format!("Some words before. \\boxed{{{content}}}");
        prop_assert_eq!(text(&said), Some(content.trim().to_owned()));
    }

    #[test]
    fn any_text_is_read(said in ".{0,300}") {
        let _ = read_answer(&said);
        let _ = read_choice(&said, &[], 4);
    }

    #[test]
    fn broken_answers_are_read(parts in proptest::collection::vec(prop::sample::select(PARTS), 0..30)) {
        let said = parts.concat();
        let _ = read_answer(&said);
        let _ = read_choice(&said, &[], 4);
        let _ = read_gold(&said);
    }
}

/// Pieces of answers, whole and broken.
const PARTS: &[&str] = &[
    "\\boxed{",
    "}",
    "{",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "The answer is ",
    "Final Answer: ",
    "final answer",
    "####",
    "<answer>",
    "</answer>",
    "<think>",
    "</think>",
    "**",
    "\"answer\": ",
    "\"",
    "25",
    "x = 3",
    " and ",
    ", ",
    ". ",
    "\n",
    "\n\n",
    "not ",
    "é",
    "答案",
    "\\frac12",
    "option B",
    "(C)",
    " is correct",
    "$B$",
    "½",
];
