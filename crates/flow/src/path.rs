//! Where in a run something happened: `refund/size/pay/charge`, `grade[17]/one`, `agent[3]/turn`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The place of a node in a run: the key of its events, its trace and its records.
///
/// Segments are names of nodes, arms and calls, joined by `/`. A branch of `each` and a hop of `repeat` carry their
/// number (`grade[17]`, counted from 0); what runs below the second attempt of a group carries that (`group#2/a`), so a
/// place is visited at most once. Cloning is a reference count; the text is made when it is asked for.
#[derive(Clone)]
pub struct Path(Arc<Segment>);

struct Segment {
    parent: Option<Path>,
    name: Arc<str>,
    index: Option<usize>,
    /// Of the node above, where that is not its first attempt.
    parent_attempt: u32,
}

impl Path {
    pub(crate) fn root(name: Arc<str>) -> Self {
        Self(Arc::new(Segment { parent: None, name, index: None, parent_attempt: 1 }))
    }

    /// Whether a node or call may have this name: every path has one reading.
    pub(crate) fn takes(name: &str) -> bool {
        !name.is_empty() && !name.contains(['/', '#', '[', ']'])
    }

    /// The place that a journal names: reads what is displayed.
    pub(crate) fn parse(text: &str) -> Self {
        let (mut parent, mut parent_attempt) = (None, 1);
        let (above, last) = text.rsplit_once('/').unwrap_or(("", text));
        for part in above.split('/').filter(|part| !part.is_empty()) {
            let (part, attempt) = numbered(part, '#', "");
            let (name, index) = numbered(part, '[', "]");
            let name = name.into();
            parent = Some(Self(Arc::new(Segment { parent, name, index, parent_attempt })));
            parent_attempt = attempt.unwrap_or(1);
        }
        let (name, index) = numbered(last, '[', "]");
        Self(Arc::new(Segment { parent, name: name.into(), index, parent_attempt }))
    }

    pub(crate) fn child(&self, attempt: u32, name: Arc<str>) -> Self {
        let parent = Some(self.clone());
        Self(Arc::new(Segment { parent, name, index: None, parent_attempt: attempt }))
    }

    /// The same place, numbered: a branch or hop of a node at `self`.
    pub(crate) fn numbered(&self, index: usize) -> Self {
        let Segment { parent, name, parent_attempt, .. } = &*self.0;
        Self(Arc::new(Segment {
            parent: parent.clone(),
            name: name.clone(),
            index: Some(index),
            parent_attempt: *parent_attempt,
        }))
    }

    /// The name of the last segment.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The number of the last segment, of a branch or hop.
    pub fn index(&self) -> Option<usize> {
        self.0.index
    }

    /// The place above.
    pub fn parent(&self) -> Option<&Path> {
        self.0.parent.as_ref()
    }

    /// How many attempts of groups around it came before.
    pub(crate) fn earlier_attempts(&self) -> u32 {
        let above = self.parent().map_or(0, Path::earlier_attempts);
        above + self.0.parent_attempt - 1
    }

    /// The path without attempts: the same for every attempt of a group that runs again.
    pub(crate) fn without_attempts(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, false).expect("a string takes everything");
        text
    }

    fn write(&self, out: &mut impl fmt::Write, attempts: bool) -> fmt::Result {
        let Segment { parent, name, index, parent_attempt } = &*self.0;
        if let Some(parent) = parent {
            parent.write(out, attempts)?;
            if attempts && *parent_attempt > 1 {
                write!(out, "#{parent_attempt}")?;
            }
            out.write_char('/')?;
        }
        out.write_str(name)?;
        match index {
            Some(index) => write!(out, "[{index}]"),
            None => Ok(()),
        }
    }
}

/// `name[17]` as `name` and 17.
fn numbered<'a, N: FromStr>(part: &'a str, open: char, close: &str) -> (&'a str, Option<N>) {
    let split = part.strip_suffix(close).and_then(|part| part.rsplit_once(open));
    match split.map(|(name, number)| (name, number.parse())) {
        Some((name, Ok(number))) => (name, Some(number)),
        _ => (part, None),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.to_string() == other.to_string()
    }
}

impl Eq for Path {}

impl PartialEq<&str> for Path {
    fn eq(&self, other: &&str) -> bool {
        self.to_string().as_str() == *other
    }
}

impl serde::Serialize for Path {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
