//! What LaTeX's commands and the words of plain text mean.

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Sign(char),
    Letter(&'static str),
    /// A function, or a command with arguments that the parser knows.
    Command(&'static str),
    Space,
    Ignored,
    IgnoredWithArgument,
    /// `\left`, `\bigr`: the delimiter follows.
    Size,
    /// `\text` and the like: words follow.
    Upright,
    Environment,
}

use Meaning::{Command, Ignored, IgnoredWithArgument, Letter, Sign, Size, Space, Upright};

/// The meaning of a LaTeX command, given without its backslash.
pub(crate) fn meaning(name: &str) -> Option<Meaning> {
    Some(match name {
        "le" | "leq" | "leqslant" | "leqq" => Sign('≤'),
        "ge" | "geq" | "geqslant" | "geqq" => Sign('≥'),
        "lt" => Sign('<'),
        "gt" => Sign('>'),
        "ne" | "neq" => Sign('≠'),
        "approx" | "sim" | "simeq" | "cong" | "thickapprox" | "doteq" => Sign('≈'),
        "equiv" => Sign('≡'),
        "in" => Sign('∈'),
        "notin" => Sign('∉'),
        "cup" | "bigcup" => Sign('∪'),
        "cap" | "bigcap" => Sign('∩'),
        "setminus" | "backslash" | "smallsetminus" => Sign('∖'),
        "emptyset" | "varnothing" => Sign('∅'),
        "pm" => Sign('±'),
        "mp" => Sign('∓'),
        "cdot" | "times" | "ast" | "cdotp" | "bullet" => Sign('*'),
        "div" => Sign('/'),
        "over" => Sign(super::token::OVER),
        "choose" => Sign(super::token::CHOOSE),
        "infty" | "infin" => Sign('∞'),
        "circ" | "degree" => Sign('°'),
        "prime" => Sign('\''),
        "to" | "rightarrow" | "implies" | "Rightarrow" | "longrightarrow" | "iff" => Sign('→'),
        "land" | "wedge" => Sign('∧'),
        "lor" | "vee" => Sign('∨'),
        "mid" | "vert" | "lvert" | "rvert" => Sign('|'),
        "Vert" | "lVert" | "rVert" => Sign('‖'),
        "lbrace" => Sign(super::token::SET_OPEN),
        "rbrace" => Sign(super::token::SET_CLOSE),
        "lbrack" => Sign('['),
        "rbrack" => Sign(']'),
        "lparen" => Sign('('),
        "rparen" => Sign(')'),
        "lfloor" => Sign('⌊'),
        "rfloor" => Sign('⌋'),
        "lceil" => Sign('⌈'),
        "rceil" => Sign('⌉'),
        "langle" => Sign('⟨'),
        "rangle" => Sign('⟩'),
        "colon" => Sign(':'),
        "ldots" | "dots" | "cdots" | "dotsc" | "dotsb" => Sign('…'),
        "percent" | "pct" => Sign('%'),
        "dollar" | "textdollar" => Sign('$'),
        "pounds" => Sign('£'),
        "euro" => Sign('€'),
        "yen" => Sign('¥'),
        "newline" | "cr" => Sign(super::token::ROW),

        "frac" | "dfrac" | "tfrac" | "cfrac" | "sfrac" | "nicefrac" => Command("frac"),
        "sqrt" => Command("sqrt"),
        "binom" | "dbinom" | "tbinom" => Command("binom"),
        "sum" => Command("sum"),
        "prod" => Command("prod"),
        "overline" | "bar" | "underline" | "widehat" | "hat" | "tilde" | "dot" | "vec"
        | "overrightarrow" | "mathbf" | "boldsymbol" | "bm" | "mathit" | "mathcal" | "mathsf"
        | "mathfrak" | "mathscr" | "boxed" | "fbox" | "framebox" | "overleftrightarrow"
        | "ensuremath" | "displaystyle" | "textstyle" | "scriptstyle" | "limits" | "nolimits"
        | "large" | "Large" | "bf" | "it" | "rm" | "tt" | "hline" | "angle" | "triangle"
        | "therefore" | "because" | "bold" | "normalsize" | "small" | "mathstrut" => Ignored,
        "mathbb" | "Bbb" => Command("mathbb"),
        "R" => Letter("ℝ"),
        "Z" => Letter("ℤ"),
        "N" => Letter("ℕ"),
        "Q" => Letter("ℚ"),
        "C" => Letter("ℂ"),
        "ell" => Letter("l"),
        "imath" | "i" => Letter("i"),
        "hbar" => Letter("ħ"),
        "partial" => Letter("∂"),

        "quad" | "qquad" | "thinspace" | "enspace" | "enskip" | "medspace" | "thickspace"
        | "negthinspace" | "space" | "nobreakspace" | "hfill" | "hfil" | "allowbreak" | "par"
        | "noindent" | "smallskip" | "medskip" | "bigskip" => Space,
        "left" | "right" | "middle" | "big" | "Big" | "bigg" | "Bigg" | "bigl" | "bigr"
        | "Bigl" | "Bigr" | "biggl" | "biggr" | "Biggl" | "Biggr" => Size,
        "text" | "textbf" | "textit" | "textrm" | "textsf" | "texttt" | "mathrm" | "mbox"
        | "hbox" | "operatorname" | "textnormal" | "emph" | "mathord" | "unit" | "textup" => {
            Upright
        }
        "hspace" | "vspace" | "phantom" | "hphantom" | "vphantom" | "tag" | "label" | "color"
        | "textcolor" | "kern" | "hskip" | "mspace" => IgnoredWithArgument,
        "begin" | "end" => Meaning::Environment,
        _ => return function(name).or_else(|| greek_name(name)),
    })
}

/// The meaning of a word of plain text that is not just letters.
pub(crate) fn word(word: &str) -> Option<Meaning> {
    let lower = word.to_ascii_lowercase();
    Some(match &lower[..] {
        "and" => Sign('∧'),
        "or" => Sign('∨'),
        "percent" | "percentage" | "pct" => Sign('%'),
        "degree" | "degrees" => Sign('°'),
        "infinity" | "infty" | "oo" => Sign('∞'),
        "union" => Sign('∪'),
        "intersect" => Sign('∩'),
        "sqrt" => Command("sqrt"),
        "cbrt" => Command("cbrt"),
        "frac" => Command("frac"),
        "binom" | "comb" => Command("binom"),
        "pi" => Letter("π"),
        "theta" => Letter("θ"),
        "alpha" => Letter("α"),
        "beta" => Letter("β"),
        "lambda" => Letter("λ"),
        _ => return function(&lower).filter(|_| word.len() > 1),
    })
}

fn function(name: &str) -> Option<Meaning> {
    Some(Command(match name {
        "sin" => "sin",
        "cos" => "cos",
        "tan" | "tg" => "tan",
        "cot" | "ctg" | "cotg" => "cot",
        "sec" => "sec",
        "csc" | "cosec" => "csc",
        "arcsin" | "asin" => "arcsin",
        "arccos" | "acos" => "arccos",
        "arctan" | "atan" | "arctg" => "arctan",
        "sinh" => "sinh",
        "cosh" => "cosh",
        "tanh" => "tanh",
        "ln" => "ln",
        "log" => "log",
        "lg" => "lg",
        "exp" => "exp",
        "abs" => "abs",
        "floor" => "floor",
        "ceil" => "ceil",
        "gcd" => "gcd",
        "lcm" => "lcm",
        "max" => "max",
        "min" => "min",
        "det" => "det",
        "factorial" => "factorial",
        _ => return None,
    }))
}

/// One form for a Greek letter and its variants.
pub(crate) fn greek(letter: char) -> char {
    match letter {
        'ϕ' => 'φ',
        'ϵ' => 'ε',
        'ϑ' => 'θ',
        other => other,
    }
}

fn greek_name(name: &str) -> Option<Meaning> {
    Some(Letter(match name {
        "alpha" => "α",
        "beta" => "β",
        "gamma" => "γ",
        "delta" => "δ",
        "epsilon" | "varepsilon" => "ε",
        "zeta" => "ζ",
        "eta" => "η",
        "theta" | "vartheta" => "θ",
        "iota" => "ι",
        "kappa" => "κ",
        "lambda" => "λ",
        "mu" => "μ",
        "nu" => "ν",
        "xi" => "ξ",
        "pi" | "varpi" => "π",
        "rho" | "varrho" => "ρ",
        "sigma" | "varsigma" => "σ",
        "tau" => "τ",
        "upsilon" => "υ",
        "phi" | "varphi" => "φ",
        "chi" => "χ",
        "psi" => "ψ",
        "omega" => "ω",
        "Gamma" => "Γ",
        "Delta" => "Δ",
        "Theta" => "Θ",
        "Lambda" => "Λ",
        "Xi" => "Ξ",
        "Pi" => "Π",
        "Sigma" => "Σ",
        "Phi" => "Φ",
        "Psi" => "Ψ",
        "Omega" => "Ω",
        _ => return None,
    }))
}
