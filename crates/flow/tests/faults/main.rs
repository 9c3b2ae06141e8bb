//! The 24 faults that were seen in Orchflow, StepFlow Agent, PenguiFlow and Microflow, and that this engine must not have:
//! a test or more for each, named by its number. Each states which library fails it, and how.

mod calls;
mod endings;
mod events;
mod journal;
mod limits;
mod pauses;
mod probe;
mod traces;
