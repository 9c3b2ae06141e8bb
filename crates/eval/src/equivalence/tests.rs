//! Families of forms: each row is a form and what must, or must not, be the same as it.

use proptest::prelude::*;

use super::{Candidate, compare};

fn same(a: &str, b: &str) -> bool {
    let candidate = |text| Candidate { text, math: true };
    let (there, back) = (compare(candidate(a), candidate(b)), compare(candidate(b), candidate(a)));
    assert_eq!(
        there.is_some(),
        back.is_some(),
        "not symmetric: `{a}` and `{b}`: {there:?}, {back:?}"
    );
    there.is_some()
}

/// Prints every row that fails before it fails.
fn check(rows: &[(&str, &str, bool)]) {
    let failed: Vec<_> = rows.iter().filter(|(a, b, wanted)| same(a, b) != *wanted).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn numbers_in_all_notations() {
    check(&[
        ("1,000", "1000", true),
        ("1{,}000", "1000", true),
        ("1\\,000", "1000", true),
        ("1 000", "1000", true),
        ("12\\!345", "12345", true),
        ("11,\\! 111,\\! 100", "11111100", true),
        ("32, 349", "32349", false),
        ("073", "73", true),
        ("73.0", "73", true),
        ("80", "8", false),
        (".5", "\\frac12", true),
        ("3e5", "300000", true),
        ("3\\times10^5", "300000", true),
        ("1.5\\cdot 10^{-3}", "0.0015", true),
        ("0.\\overline{36}", "\\frac{4}{11}", true),
        ("0.1\\overline{6}", "1/6", true),
        ("0.333\\ldots", "1/3", true),
        ("1½", "3/2", true),
        ("1 1/2", "1.5", true),
        ("137 \\frac{1}{2}", "137.5", true),
        ("2\\frac{x}{3}", "\\frac{2x}{3}", true),
        ("-1\\frac{1}{2}", "-1.5", true),
        ("−5", "-5", true),
        ("５", "5", true),
        ("\\frac{-1}{2}", "-\\frac12", true),
        ("2516_8", "1358", true),
        ("2516_8", "2516", false),
        ("\\frac59", "\\frac{5}{9}", true),
        ("\\frac{270}7", "270/7", true),
        ("10^{20}", "10^{20}+1", false),
        ("2^{-99}", "2^{-98}", false),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}", false),
        ("2^{2025}", "3^{2025}", false),
        ("\\tan(0.523^{-2025})", "\\tan((\\frac{1000}{523})^{2025})", true),
        ("\\tan(0.523^{-2025})", "\\tan(0.523^{-2024})", false),
        ("\\sin\\frac13", "\\sin\\frac15", false),
        ("\\sin\\frac13", "\\sin\\frac26", true),
        ("10^{10^{10}}", "10^{10000000000}", true),
        ("10^{10^{10}}", "10^{10^{11}}", false),
        ("2\\cdot 2^{1000000}", "2^{1000001}", true),
        ("0.333333", "1/3", true),
        ("0.3333", "1/3", false),
        ("0.30000000000000004", "0.3", true),
        ("16386.20", "16386.21", false),
        ("3.14159265", "\\pi", true),
        ("3.14", "\\pi", false),
    ]);
}

#[test]
fn roots_and_powers() {
    check(&[
        ("\\sqrt{12}", "2\\sqrt3", true),
        ("\\frac{1}{\\sqrt2}", "\\frac{\\sqrt2}{2}", true),
        ("\\frac{1}{1+\\sqrt2}", "\\sqrt2-1", true),
        ("\\sqrt{3+2\\sqrt2}", "1+\\sqrt2", true),
        ("\\sqrt{5-2\\sqrt6}", "\\sqrt3-\\sqrt2", true),
        ("\\sqrt[3]{16}", "2\\sqrt[3]{2}", true),
        ("\\sqrt[3]{-8}", "-2", true),
        ("8^{2/3}", "4", true),
        ("\\sqrt{-4}", "2i", true),
        ("i", "\\sqrt{-1}", true),
        ("\\sqrt{x^2}", "|x|", true),
        ("|x|", "x", false),
        ("\\sqrt{x^3}", "x\\sqrt{x}", true),
        ("2^{x+1}", "2\\cdot 2^x", true),
        ("4^x", "2^{2x}", true),
        ("4^x", "2^x", false),
        ("\\sqrt2+\\sqrt3", "\\sqrt5", false),
        ("\\sqrt{2+\\sqrt{3}}", "\\frac{\\sqrt6+\\sqrt2}{2}", true),
        ("\\sqrt[3]{2+\\sqrt5}", "\\frac{1+\\sqrt5}{2}", true),
        ("\\sqrt{10^{40}+1}", "10^{20}", false),
    ]);
}

#[test]
fn polynomials_and_fractions() {
    check(&[
        ("(a+5)(b+2)", "ab+2a+5b+10", true),
        ("(x-1)^2", "x^2-1", false),
        ("\\frac{x^2-1}{x-1}", "x+1", true),
        ("\\frac{1}{x}+\\frac{1}{y}", "\\frac{x+y}{xy}", true),
        ("\\frac{x+2}{7}", "\\frac{x}{7}+\\frac27", true),
        ("x_1+x_2", "x_2+x_1", true),
        ("x^{10}", "x^10", true),
        ("2k+2", "2(k+1)", true),
        ("p-q", "q-p", false),
        ("(x+1)^{100}", "(x+1)^{50}(x+1)^{50}", true),
        ("\\binom{n}{2}", "\\frac{n(n-1)}{2}", true),
        ("\\binom{10}{3}", "120", true),
        ("5!", "120", true),
        ("\\Gamma(5)", "24", true),
        ("\\Gamma\\left(\\frac12\\right)", "\\sqrt\\pi", true),
        ("{1 \\over 2}", "0.5", true),
        ("\\sum_{k=1}^{10} k", "55", true),
        ("\\lfloor 2.7 \\rfloor", "2", true),
        ("\\gcd(12, 18)", "6", true),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("\\sin^2 x+\\cos^2 x", "1", true),
        ("\\tan^2(y)+1", "\\sec^2(y)", true),
        ("\\csc^2 x", "1+\\cot^2 x", true),
        ("\\sin 2x", "2\\sin x\\cos x", true),
        ("\\sin 2x", "2\\sin x", false),
        ("\\cos\\frac{\\pi}{5}", "\\frac{1+\\sqrt5}{4}", true),
        ("\\sin 15^\\circ", "\\frac{\\sqrt6-\\sqrt2}{4}", true),
        ("\\tan\\frac{\\pi}{8}", "\\sqrt2-1", true),
        ("\\log_2 8", "3", true),
        ("\\log_4 8", "\\frac32", true),
        ("\\ln 8", "3\\ln 2", true),
        ("\\ln e^3", "3", true),
        ("\\ln\\frac{a}{b}", "\\ln a-\\ln b", true),
        ("\\log_{10} 100", "2", true),
        ("\\arctan 1", "\\frac{\\pi}{4}", true),
        ("\\sin^{-1} \\frac12", "30^\\circ", true),
        ("e^{i\\pi}", "-1", true),
        ("e^{\\ln 5}", "5", true),
        ("\\mathrm{e}^2", "e^2", true),
        ("e^{100}", "e^{100}+1", false),
        ("\\sin x", "\\sin y", false),
        ("\\frac{e^x-e^{-x}}{2}", "\\sinh x", true),
        ("|3-4i|", "5", true),
    ]);
}

#[test]
fn collections() {
    check(&[
        ("1,-2", "-2,1", true),
        ("\\{1,2\\}", "\\{1,2,2\\}", true),
        ("(2,3)", "(3,2)", false),
        ("(2,3)", "\\{2,3\\}", false),
        ("(1,3)", "1,3", true),
        ("(1,3)", "3,1", false),
        ("1 \\pm \\sqrt{19}", "1-\\sqrt{19}, 1+\\sqrt{19}", true),
        ("\\pm 2021", "2021", false),
        ("x=\\pm 2", "x=2 \\text{ or } x=-2", true),
        ("\\{1\\pm\\sqrt{5},-2\\}", "\\{-2,1-\\sqrt5,1+\\sqrt5\\}", true),
        ("6 \\text{ and } 8", "\\{8, 6\\}", true),
        ("x=1, y=2", "(1,2)", true),
        ("x=1, y=2", "y=2, x=1", true),
        ("x=1, y=2", "x=2, y=1", false),
        ("p=5,q=2;p=7,q=2", "(5,2),(7,2)", true),
        ("\\emptyset", "\\{\\}", true),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "(1,2)", true),
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}",
            true,
        ),
        (
            "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}",
            "\\begin{pmatrix}1&3\\\\2&4\\end{pmatrix}",
            false,
        ),
        (
            "2\\begin{pmatrix}1&0\\\\0&1\\end{pmatrix}",
            "\\begin{pmatrix}2&0\\\\0&2\\end{pmatrix}",
            true,
        ),
        ("\\begin{vmatrix}1&2\\\\3&4\\end{vmatrix}", "-2", true),
        ("3:2", "6:4", true),
        ("3:2", "2:3", false),
        ("3:2", "\\frac32", true),
    ]);
}

#[test]
fn intervals_and_relations() {
    check(&[
        ("(2,\\infty)", "x>2", true),
        ("[0,1)", "[0,1[", true),
        ("(0,1)", "]0,1[", true),
        ("[0,1)", "(0,1)", false),
        ("[0,1)", "0 \\le x < 1", true),
        ("x \\ge 5", "5 \\le x", true),
        ("x \\ge 5", "x > 5", false),
        ("x>2", "y>2", false),
        ("2x > 4", "x > 2", true),
        ("x \\in [-2,7]", "-2 \\le x \\le 7", true),
        ("x<-2 \\text{ or } x>3", "(-\\infty,-2)\\cup(3,\\infty)", true),
        ("x \\ne 3", "(-\\infty,3)\\cup(3,\\infty)", true),
        ("\\mathbb{R}\\setminus\\{3\\}", "x \\neq 3", true),
        ("\\{-1\\}\\cup[0,7)", "[0,7)\\cup\\{-1\\}", true),
        ("[1,2]\\cup[2,3]", "[1,3]", true),
        ("(0,9) \\cup (9,36)", "(0,36)", false),
        ("(-\\infty,\\infty)", "\\mathbb{R}", true),
        ("\\{x \\mid x > 2\\}", "(2,\\infty)", true),
        ("f(2) < f(1) < f(4)", "f(4) > f(1) > f(2)", true),
        ("f(2) < f(1)", "f(1) < f(2)", false),
        ("5x-7y+11z+4=0", "7y-5x-11z=4", true),
        ("y=2x+3", "2x-y+3=0", true),
        ("y=2x+3", "y=2x-3", false),
        ("x=5", "5", true),
        ("x=5", "y=5", false),
        ("f(x)=x^2", "x^2", true),
        ("x+y=5", "2x+2y=10", true),
    ]);
}

#[test]
fn units_percent_and_degrees() {
    check(&[
        ("5\\text{ cm}", "5\\text{ kg}", false),
        ("5\\text{ cm}", "50\\text{ mm}", true),
        ("5\\text{ cm}", "5", true),
        ("15\\mbox{ cm}^2", "15\\text{ square centimeters}", true),
        ("10\\text{ cm}^2", "10\\text{ cm}", false),
        ("60\\text{ km/h}", "60\\text{ kilometers per hour}", true),
        ("1\\text{ hour}", "60\\text{ minutes}", true),
        ("50\\%", "0.5", true),
        ("50\\%", "50", true),
        ("50\\%", "5", false),
        ("28", "0.28", false),
        ("90^\\circ", "90", true),
        ("90^\\circ", "\\frac{\\pi}{2}", true),
        ("90^{\\circ}", "90\\text{ degrees}", true),
        ("\\$18.90", "18.9", true),
        ("\\$32,\\!348", "32348", true),
        ("\\$5", "5\\text{ dollars}", true),
        ("\\$5", "€5", false),
        ("\\$0.05", "5\\text{ cents}", true),
        ("12\\text{ apples}", "12", true),
    ]);
}

#[test]
fn words() {
    check(&[
        ("\\text{Evelyn}", "evelyn", true),
        ("\\text{(C)}", "C", true),
        ("\\text{yes}", "no", false),
        ("\\text{east}", "east", true),
        ("\\text{even}", "odd", false),
        ("\\text{E}", "E", true),
        ("d", "\\text{E}", false),
        ("\\frac{1}{23}", "\\frac{12}{3}", false),
        ("1 1/2", "11/2", false),
        ("5!", "5", false),
        ("2*3", "23", false),
        ("x^{1}0", "x^{10}", false),
    ]);
}

#[test]
fn hostile_input_ends() {
    let nested = format!("{}1{}", "{".repeat(10_000), "}".repeat(10_000));
    let brackets = "(".repeat(2_000);
    let signs = "-".repeat(3_000);
    let marks = format!("5{}", "!".repeat(1_000));
    let powers = "2^".repeat(1_000);
    let long = "1+".repeat(500_000);
    let fractions = "\\frac".repeat(700);
    let sums = "(x+y+z+w+a+b+c+d)^9 (a+b+c+d+e+f+g)^9";
    for text in [
        &nested[..],
        &brackets,
        &signs,
        &marks,
        &powers,
        &long,
        &fractions,
        sums,
        "10**10**10",
        "9!!!!",
    ] {
        let _ = same(text, "1");
        let _ = same(text, "(x+y+z)^{24}");
    }
}

proptest! {
    #[test]
    fn integers_are_equal_to_themselves_only(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000) {
        let (plain, other) = (a.to_string(), b.to_string());
        let decimal = format!("{a}.0");
        prop_assert!(same(&plain, &decimal));
        prop_assert_eq!(same(&plain, &other), a == b);
    }

    #[test]
    fn fractions_reduce(n in -500i64..500, d in 1i64..500, k in 1i64..50) {
        let reduced = format!("\\frac{{{n}}}{{{d}}}");
        let expanded = format!("{}/{}", n * k, d * k);
        prop_assert!(same(&reduced, &expanded));
        let off = format!("{}/{}", n * k + 1, d * k);
        prop_assert!(!same(&reduced, &off));
    }

    #[test]
    fn roots_rationalise(a in 1i64..50, n in 2i64..60) {
        let quotient = format!("\\frac{{{a}}}{{\\sqrt{{{n}}}}}");
        let rational = format!("\\frac{{{a}\\sqrt{{{n}}}}}{{{n}}}");
        prop_assert!(same(&quotient, &rational));
    }

    #[test]
    fn any_two_strings_compare(a in ".{0,80}", b in ".{0,80}") {
        let _ = same(&a, &b);
    }

    #[test]
    fn mutated_latex_compares(parts in proptest::collection::vec(prop::sample::select(PARTS), 0..24)) {
        let text = parts.concat();
        let _ = same(&text, "\\frac{x+1}{\\sqrt{2}}");
        prop_assert!(text.trim().is_empty() || same(&text, &text));
    }
}

/// Pieces of LaTeX, whole and broken.
const PARTS: &[&str] = &[
    "\\frac",
    "{",
    "}",
    "1",
    "2",
    "x",
    "\\sqrt",
    "[3]",
    "(",
    ")",
    "[",
    "]",
    ",",
    "^",
    "_",
    "\\left",
    "\\right",
    "\\pi",
    "\\sin",
    "\\log",
    "+",
    "-",
    "=",
    "<",
    "\\le",
    "\\cup",
    "\\infty",
    "\\pm",
    "!",
    "%",
    "^\\circ",
    "\\text{ cm}",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\{",
    "\\}",
    "|",
    "\\binom",
    "10^{9}",
    "0.5",
    "\\overline{3}",
    "e",
    "i",
    " and ",
    "\\text{or}",
    ":",
    "/",
    "*",
    "½",
    "√",
    "1,000",
    "\\$",
    "\\!",
    "\\,",
];
