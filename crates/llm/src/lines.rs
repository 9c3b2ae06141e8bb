//! Lines out of a byte stream whose chunks end anywhere, also inside a UTF-8 character.

/// No line of a reply is longer; a server that sends more is not a model server.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Collects bytes, gives out whole lines.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Bytes of `buffer` already given out.
    taken: usize,
    /// Bytes of `buffer` known to hold no line end.
    searched: usize,
}

/// A line that grew past every bound.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        self.buffer.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() > MAX_LINE_BYTES { Err(TooLong) } else { Ok(()) }
    }

    /// The next whole line, without its end.
    pub(crate) fn next_line(&mut self) -> Option<&[u8]> {
        let start = self.taken;
        let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n')
        else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + length;
        self.taken = end + 1;
        self.searched = self.taken;
        let line = &self.buffer[start..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// What is left when the stream has ended: a last line without its end.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        /// However a text is cut into chunks, the same lines come out.
        #[test]
        fn lines_do_not_depend_on_chunks(lines in vec("[^\r\n]{0,12}", 0..8), cuts in vec(1usize..9, 1..80)) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let mut bytes = text.as_bytes();
            let (mut reader, mut seen) = (Lines::default(), Vec::new());
            for cut in cuts.iter().cycle() {
                if bytes.is_empty() { break; }
                let (chunk, rest) = bytes.split_at((*cut).min(bytes.len()));
                bytes = rest;
                reader.push(chunk).unwrap();
                while let Some(line) = reader.next_line() {
                    seen.push(String::from_utf8(line.to_vec()).unwrap());
                }
            }
            prop_assert_eq!(seen, lines);
            prop_assert!(reader.rest().is_empty());
        }
    }

    #[test]
    fn the_rest_is_a_line_without_end() {
        let mut lines = Lines::default();
        lines.push(b"a\r\nb").unwrap();
        assert_eq!(lines.next_line(), Some(&b"a"[..]));
        assert_eq!(lines.next_line(), None);
        assert_eq!(lines.rest(), b"b");
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; MAX_LINE_BYTES + 1]), Err(TooLong));
    }
}
