//! The two drawings of the page, as SVG that takes its colours from the page.

use std::fmt::Write as _;

use super::{Accuracy, StepScore};

/// The accuracy as a dot on a line from 0 to 1, its interval as a bar.
pub(crate) fn interval(accuracy: &Accuracy) -> String {
    let x = |share: f64| 4.0 + 392.0 * share;
    let mut svg = String::from(
        "<svg class=\"interval\" viewBox=\"0 0 400 34\" role=\"img\" aria-label=\"accuracy with its 95 % interval, on a line from 0 to 100 %\">",
    );
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"12\" y2=\"12\"/>",
        x(0.0),
        x(1.0)
    );
    for (share, label, anchor) in
        [(0.0, "0", "start"), (0.5, "50", "middle"), (1.0, "100 %", "end")]
    {
        let at = x(share);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{at}\" x2=\"{at}\" y1=\"8\" y2=\"16\"/>\
             <text x=\"{at}\" y=\"31\" text-anchor=\"{anchor}\">{label}</text>"
        );
    }
    let (lower, upper) = (x(accuracy.interval.lower), x(accuracy.interval.upper));
    let _ = write!(
        svg,
        "<rect class=\"span\" x=\"{lower:.1}\" y=\"8\" width=\"{:.1}\" height=\"8\" rx=\"4\"/>\
         <circle class=\"dot\" cx=\"{:.1}\" cy=\"12\" r=\"5\"/></svg>",
        (upper - lower).max(0.0),
        x(accuracy.value)
    );
    svg
}

/// How many of the samples that took so many steps were right: dots with 95 % whiskers, as large as samples are many.
pub(crate) fn by_steps(rows: &[StepScore], overall: f64) -> String {
    const TOP: f64 = 14.0;
    const HEIGHT: f64 = 150.0;
    const LEFT: f64 = 40.0;
    let column = (560.0 / rows.len().max(1) as f64).min(72.0);
    let width = LEFT + column * rows.len() as f64 + 10.0;
    let y = |share: f64| TOP + HEIGHT * (1.0 - share);
    let most = rows.iter().map(|row| row.samples).max().unwrap_or(1).max(1) as f64;
    let mut svg = format!(
        "<svg class=\"steps\" viewBox=\"0 0 {width:.0} 214\" style=\"max-width:{width:.0}px\" role=\"img\" \
         aria-label=\"accuracy by number of steps; the table has the figures\">"
    );
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(share);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{width:.0}\" y1=\"{at}\" y2=\"{at}\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{:.0}</text>",
            LEFT - 6.0,
            at + 4.0,
            100.0 * share
        );
    }
    let at = y(overall);
    let _ = write!(
        svg,
        "<line class=\"overall\" x1=\"{LEFT}\" x2=\"{width:.0}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
    );
    for (index, row) in rows.iter().enumerate() {
        let x = LEFT + column * (index as f64 + 0.5);
        let radius = 3.0 + 6.0 * (row.samples as f64 / most).sqrt();
        let _ = write!(
            svg,
            "<g><title>{} steps: {} of {} right</title>\
             <line class=\"whisker\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <circle class=\"dot\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\"/></g>\
             <text x=\"{x:.1}\" y=\"182\" text-anchor=\"middle\">{}</text>\
             <text class=\"faint\" x=\"{x:.1}\" y=\"198\" text-anchor=\"middle\">n {}</text>",
            row.steps,
            row.right,
            row.samples,
            y(row.interval.lower),
            y(row.interval.upper),
            y(row.accuracy),
            row.steps,
            row.samples
        );
    }
    svg.push_str("</svg>");
    svg
}
