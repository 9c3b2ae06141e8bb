//! For tests of your own flows: scripted steps and answers, steps that fail, panic or take their time, a recorder of
//! events, and a store that breaks where you say.
//!
//! All waiting of a run (timeouts, deadlines, backoff, [`slow`]) is done on tokio's clock. A test that starts it paused
//! waits for nothing, and takes the same time in every run; that wants tokio's feature `test-util` among the
//! dev-dependencies.
//!
//! ```
//! use std::time::Duration;
//! use agentflow_flow::testing::{fail_times, record, scripted, slow};
//! use agentflow_flow::{Context, Flow, FlowError, Retry, StepError, node};
//!
//! async fn shout(_cx: Context, word: String) -> Result<String, StepError> {
//!     Ok(word.to_uppercase())
//! }
//!
//! # /* shown as the test that it is, and run as
//! #[tokio::test(start_paused = true)]
//! # */
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! async fn two_failures_are_waited_out() -> Result<(), FlowError> {
//!     let model = scripted("model", ["yes", "no"].map(String::from));
//!     let retry = Retry { jitter: false, ..Retry::attempts(3) };
//!     let flow = Flow::new("talk")
//!         .then(model.clone())
//!         .then(node("shout", fail_times(2, slow(Duration::from_secs(60), shout))).retry(retry));
//!
//!     let (report, recorder) = record(flow.run("really?".to_owned())).await;
//!
//!     assert_eq!(report.took, Duration::from_millis(200 + 400 + 60_000));
//!     assert_eq!(report.into_result()?, "YES");
//!     assert_eq!(model.inputs(), ["really?"]);
//!     assert_eq!(recorder.order(), ["talk/model", "talk/shout"]);
//!     assert_eq!(recorder.attempts("talk/shout"), 3);
//!     Ok(())
//! }
//! # fn main() { two_failures_are_waited_out().unwrap() }
//! ```

mod faulty_step;
mod faulty_store;
mod recorder;
mod script;

pub use faulty_step::{fail_times, panic_times, slow};
pub use faulty_store::FaultyStore;
pub use recorder::{Recorder, record};
pub use script::{Answers, Scripted, answers, scripted};
