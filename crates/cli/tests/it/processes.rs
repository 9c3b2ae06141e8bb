//! Processes, by `/proc`: who descends from whom, and who is still there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::agentflow::soon;

/// One process, told apart from a later one with the same number by its time of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    id: u32,
    /// In clock ticks after boot.
    born: u64,
}

/// Notes every process that descends from one, for as long as it lives.
pub(crate) struct Descendants {
    stop: Arc<AtomicBool>,
    seen: JoinHandle<BTreeSet<Process>>,
}

impl Descendants {
    pub(crate) fn of(ancestor: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // Those of now are noted when this returns.
        let mut seen = BTreeSet::from_iter(descendants(ancestor));
        let seen = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                seen.extend(descendants(ancestor));
                std::thread::sleep(Duration::from_millis(10));
            }
            seen
        });
        Self { stop, seen }
    }

    /// Waits until none of them is left, and gives how many there were.
    #[track_caller]
    pub(crate) fn all_gone(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.seen.join().expect("reading /proc does not panic");
        let left = || seen.iter().filter(|process| process.is_alive()).collect::<Vec<_>>();
        assert!(soon(|| left().is_empty()), "left over: {:?}", left());
        seen.len()
    }
}

/// All that descend from `ancestor` now. Orphans in a sandbox belong to its first process, so none gets lost.
pub(crate) fn descendants(ancestor: u32) -> Vec<Process> {
    let all: Vec<_> = std::fs::read_dir("/proc")
        .expect("Linux has /proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for stat in all.iter().filter(|stat| stat.parent == parent) {
            parents.push(stat.process.id);
            found.push(stat.process);
        }
    }
    found
}

impl Process {
    /// Whether it can still do anything: a zombie cannot.
    fn is_alive(self) -> bool {
        stat(self.id).is_some_and(|stat| stat.process == self && !matches!(stat.state, 'Z' | 'X'))
    }

    /// Processor time so far, in clock ticks.
    pub(crate) fn processor_ticks(self) -> u64 {
        stat(self.id).map_or(0, |stat| stat.ticks)
    }
}

struct Stat {
    process: Process,
    parent: u32,
    state: char,
    ticks: u64,
}

/// See proc_pid_stat(5); the name in parentheses can hold anything, so fields are counted from its end.
fn stat(id: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        process: Process { id, born: number(19)? },
        parent: number(1)? as u32,
        state: fields.first()?.chars().next()?,
        ticks: number(11)? + number(12)?,
    })
}
