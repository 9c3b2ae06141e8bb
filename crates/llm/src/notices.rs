//! Things worth saying once.

use std::{collections::HashSet, sync::Mutex};

/// Collects sentences for the next reply's warnings; each kind is said once for every model object.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kinds_said: HashSet<String>,
    waiting: Vec<String>,
}

impl Notices {
    pub(crate) fn once(&self, kind: &str, sentence: String) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.kinds_said.insert(kind.to_owned()) {
            tracing::warn!(kind, "{sentence}");
            state.waiting.push(sentence);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut state.waiting)
    }
}
