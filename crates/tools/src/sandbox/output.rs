use std::collections::VecDeque;

/// Output of which only head and tail are kept: memory stays flat however much is written.
#[derive(Debug)]
pub(super) struct Output {
    cap: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    total: u64,
}

/// Room for the line that stands for what was left out, so that the text never exceeds the cap.
const MARK_BYTES: usize = 64;

impl Output {
    /// Keeps at most `cap` bytes.
    pub(super) fn new(cap: usize) -> Self {
        Self { cap, head: Vec::new(), tail: VecDeque::new(), total: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.cap.saturating_sub(self.head.len());
        // All goes to the head until the cap; `text` cuts it to a half once there is more.
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        let keep = self.half();
        let rest = &rest[rest.len().saturating_sub(keep)..];
        let surplus = (self.tail.len() + rest.len()).saturating_sub(keep);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// Bytes written so far, kept or not.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The text, at most `cap` bytes of it, and whether the middle was left out. What is not UTF-8 becomes U+FFFD.
    pub(super) fn text(&self) -> (String, bool) {
        let whole = String::from_utf8_lossy(&self.head);
        // Replacement characters are longer than the bytes they stand for, so the text is measured, not the bytes.
        if self.total as usize <= self.cap && whole.len() <= self.cap {
            return (whole.into_owned(), false);
        }
        let half = self.half();
        let head = String::from_utf8_lossy(&self.head[..half.min(self.head.len())]).into_owned();
        let head = &head[..boundary_at_most(&head, half)];
        let end: Vec<u8> = self.head.iter().chain(&self.tail).copied().collect();
        let end = String::from_utf8_lossy(&end[end.len().saturating_sub(half)..]).into_owned();
        let tail = &end[boundary_at_least(&end, end.len().saturating_sub(half))..];
        // A character cut in two by the edge is no character of the output.
        let (head, tail) = (head.trim_end_matches('\u{fffd}'), tail.trim_start_matches('\u{fffd}'));
        let dropped = self.total.saturating_sub((head.len() + tail.len()) as u64);
        (format!("{head}\n... [{dropped} bytes left out] ...\n{tail}"), true)
    }

    fn half(&self) -> usize {
        self.cap.saturating_sub(MARK_BYTES) / 2
    }
}

fn boundary_at_most(text: &str, index: usize) -> usize {
    let index = index.min(text.len());
    (0..=index).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn boundary_at_least(text: &str, index: usize) -> usize {
    (index..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::Output;

    #[test]
    fn short_output_is_kept_as_it_is() {
        let mut output = Output::new(100);
        output.push(b"two\n");
        output.push("lines ∑\n".as_bytes());
        assert_eq!(output.text(), ("two\nlines ∑\n".to_owned(), false));
    }

    #[test]
    fn head_and_tail_of_a_long_output_are_kept_and_the_rest_is_counted() {
        let mut output = Output::new(164);
        for number in 0..10_000 {
            output.push(format!("{number}\n").as_bytes());
        }
        let (text, truncated) = output.text();
        assert!(truncated && text.len() <= 164, "{} bytes", text.len());
        assert!(text.starts_with("0\n1\n2\n") && text.ends_with("9998\n9999\n"), "{text}");
        let total = output.total();
        assert_eq!(total, 48_890);
        assert!(text.contains(&format!("[{} bytes left out]", total - 100)), "{text}");
        assert!(output.tail.capacity() < 1024, "the memory of the parent stays flat");
    }

    #[test]
    fn characters_are_never_cut_in_two() {
        for cap in 70..90 {
            let mut output = Output::new(cap);
            output.push("∑".repeat(500).as_bytes());
            let (text, truncated) = output.text();
            assert!(truncated && !text.contains('\u{fffd}') && text.len() <= cap, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay_within_the_cap() {
        let mut output = Output::new(300);
        output.push(&[0xff; 250]);
        let (text, truncated) = output.text();
        assert!(truncated && text.len() <= 300, "{} bytes", text.len());
    }
}
