//! One execution of a flow: its options, and what drives it from start to report.

use std::any::{Any, TypeId};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::ask::{Answer, Answerers, Pause};
use crate::context::Context;
use crate::data::{Data, decode};
use crate::error::{ErrorKind, StepError};
use crate::event::{Events, Kind, Ring};
use crate::flow::Flow;
use crate::id::RunId;
use crate::live::{Budget, Live, Provided, millis};
use crate::node::panic_message;
use crate::observer::{Observer, Observers};
use crate::path::Path;
use crate::recording::{Past, Recording, must_encode};
use crate::report::{Attempt, End, Report};
use crate::shape::Shape;
use crate::store::{Ending, Record, Store};

/// A run that has not begun: give it options, then await it for its [`Report`]. Dropping it, before or while it runs,
/// cancels everything in it.
#[must_use = "a run does nothing until it is awaited"]
pub struct Run<O> {
    options: Options,
    drive: Box<dyn FnOnce(Options) -> BoxFuture<'static, Report<O>> + Send>,
}

struct Options {
    id: RunId,
    store: Option<Arc<dyn Store>>,
    deadline: Option<Duration>,
    budgets: Vec<Budget>,
    headers: Vec<(String, String)>,
    provided: Provided,
    answerers: Answerers,
    answers: Result<Vec<Answer>, StepError>,
    observers: Vec<Box<dyn Observer>>,
    rings: Rings,
    trace_inputs: bool,
}

/// The streams of a run end with it, however it ends.
#[derive(Default)]
struct Rings(Vec<Arc<Ring>>);

impl Drop for Rings {
    fn drop(&mut self) {
        self.0.iter().for_each(|ring| ring.close());
    }
}

enum Begin<I> {
    New(I),
    Resumed,
}

impl<O: Data> Run<O> {
    pub(crate) fn start<I: Data>(flow: Flow<I, O>, input: I) -> Self {
        Self::new(RunId::generate(), None, move |options| {
            drive(flow, Begin::New(input), options).boxed()
        })
    }

    pub(crate) fn resume<I: Data>(flow: Flow<I, O>, store: Arc<dyn Store>, run: RunId) -> Self {
        Self::new(run, Some(store), move |options| drive(flow, Begin::Resumed, options).boxed())
    }

    fn new(
        id: RunId,
        store: Option<Arc<dyn Store>>,
        drive: impl FnOnce(Options) -> BoxFuture<'static, Report<O>> + Send + 'static,
    ) -> Self {
        let options = Options {
            id,
            store,
            deadline: None,
            budgets: Vec::new(),
            headers: Vec::new(),
            provided: Provided::new(),
            answerers: Answerers::default(),
            answers: Ok(Vec::new()),
            observers: Vec::new(),
            rings: Rings::default(),
            trace_inputs: false,
        };
        Self { options, drive: Box::new(drive) }
    }

    /// Names a new run; otherwise it gets a generated name. (A resumed run has its name.)
    pub fn id(mut self, id: RunId) -> Self {
        self.options.id = id;
        self
    }

    /// Keeps a journal of the run in `store`, so that it can be resumed.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.options.store = Some(store);
        self
    }

    /// The longest that the run may take, from when it is first awaited. It ends what is running.
    pub fn deadline(mut self, from_start: Duration) -> Self {
        self.options.deadline = Some(from_start);
        self
    }

    /// How much of `unit` (tokens, cents) all steps together may [spend](Context::spend), those of earlier processes
    /// included.
    pub fn budget(mut self, unit: &'static str, amount: u64) -> Self {
        self.options.budgets.retain(|known| known.unit != unit);
        self.options.budgets.push(Budget { unit: unit.into(), limit: Some(amount), spent: 0 });
        self
    }

    /// Something about the run that steps can read with [`Context::header`]. In place of what `name` was before.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.options.headers.retain(|(known, _)| known != name);
        self.options.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Something that steps share and reach with [`Context::get`]: a client, a model. One of each type.
    pub fn provide<T: Send + Sync + 'static>(mut self, shared: Arc<T>) -> Self {
        self.options.provided.insert(TypeId::of::<T>(), shared as Arc<dyn Any + Send + Sync>);
        self
    }

    /// Who answers questions of type `Q` at once, instead of pausing the run.
    pub fn answer<Q, A, F, R>(mut self, answer: F) -> Self
    where
        Q: Data,
        A: Data,
        F: Fn(Q) -> R + Send + Sync + 'static,
        R: Future<Output = Result<A, StepError>> + Send + 'static,
    {
        self.options.answerers.insert(answer);
        self
    }

    /// The answer to what a resumed run waits for: for [`approve`](crate::approve) a [`Decision`](crate::Decision). A
    /// pause can be answered once; the run refuses a second answer.
    pub fn decide<A: Data>(mut self, pause: &Pause, answer: A) -> Self {
        match (pause.answer(&answer), &mut self.options.answers) {
            (Ok(answer), Ok(answers)) => answers.push(answer),
            (Err(error), answers @ Ok(_)) => *answers = Err(error),
            (_, Err(_)) => {}
        }
        self
    }

    /// Shows the events of the run to `observer`, on a thread of its own.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.options.observers.push(Box::new(observer));
        self
    }

    /// Notes in the trace what each attempt was given. Off by default: it costs a conversion to JSON per attempt.
    pub fn trace_inputs(mut self) -> Self {
        self.options.trace_inputs = true;
        self
    }

    /// The live events, `capacity` of which wait for a slow reader, and the run itself, to be awaited or spawned beside
    /// the reading.
    ///
    /// ```
    /// # use agentflow_flow::{Context, Flow, step};
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// # let flow = Flow::new("double").then(step("double", async |_cx: Context, x: u32| Ok(2 * x)));
    /// let (mut events, report) = flow.run(21).events(64);
    /// let report = tokio::spawn(report);
    /// while let Some(event) = events.next().await {
    ///     println!("{} {:?}", event.path, event.kind);
    /// }
    /// # assert_eq!(report.await.unwrap().into_result()?, 42);
    /// # Ok::<(), agentflow_flow::FlowError>(()) }).unwrap();
    /// ```
    pub fn events(mut self, capacity: usize) -> (Events, BoxFuture<'static, Report<O>>) {
        let ring = Ring::new(capacity);
        let events = ring.events();
        self.options.rings.0.push(ring);
        (events, self.into_future())
    }
}

impl<O: Data> IntoFuture for Run<O> {
    type Output = Report<O>;
    type IntoFuture = BoxFuture<'static, Report<O>>;

    fn into_future(self) -> Self::IntoFuture {
        (self.drive)(self.options)
    }
}

async fn drive<I: Data, O: Data>(
    flow: Flow<I, O>,
    begin: Begin<I>,
    mut options: Options,
) -> Report<O> {
    let path = Path::root(flow.name().into());
    let deadline = options.deadline.and_then(|limit| Instant::now().checked_add(limit));
    let mut observers = Observers::default();
    let mut rings = std::mem::take(&mut options.rings);
    // Input, shape and store are the user's own code, too.
    let begun = AssertUnwindSafe(begin_run(&flow, begin, &mut options)).catch_unwind().await;
    let mut begun = begun.unwrap_or_else(|panic| Err(panicked(&*panic)));
    for observer in std::mem::take(&mut options.observers) {
        match observers.start(observer) {
            Ok(ring) => rings.0.push(ring),
            Err(error) if begun.is_ok() => {
                begun = Err(StepError::refused(format!("no thread for an observer: {error}")));
            }
            Err(_) => {}
        }
    }
    let (input, recording, trace) = match begun {
        Ok(Begun { input, recording, trace }) => (Ok(input), recording, trace),
        Err(error) => (Err(error), None, Vec::new()),
    };
    let mut live = Live::new(options.id, options.budgets, trace);
    live.deadline = deadline;
    live.headers = options.headers;
    live.provided = options.provided;
    live.answerers = options.answerers;
    live.trace_inputs = options.trace_inputs;
    live.rings.clone_from(&rings.0);
    live.recording = recording;
    let live = Arc::new(live);
    let ending = Unended { live: live.clone(), path: path.clone(), rings: Some(rings) };
    live.emit(&path, 1, || Kind::RunStarted);
    let result = match input {
        Ok(input) => run_in_time(&flow, &live, &path, input).await,
        Err(error) => Err(error),
    };
    live.alive.gone().await;
    let end = match result {
        Ok(output) => End::Done(output),
        Err(error) if matches!(error.kind(), ErrorKind::Paused) => match live.take_pauses() {
            pauses if pauses.is_empty() => End::Failed(error.into_flow_error(&path)),
            pauses => End::Paused(pauses),
        },
        Err(error) => End::Failed(error.into_flow_error(&path)),
    };
    ending.end(&end).await;
    Report {
        run: live.id.clone(),
        end,
        trace: live.take_trace(),
        spent: live.spent(),
        took: live.started.elapsed(),
        observers,
    }
}

async fn run_in_time<I: Data, O: Data>(
    flow: &Flow<I, O>,
    live: &Arc<Live>,
    path: &Path,
    input: I,
) -> Result<O, StepError> {
    let cx = Context::root(live.clone(), path.clone());
    let work = async {
        let work = flow.run_in(&cx, input);
        match live.deadline {
            None => work.await,
            // Each node keeps the deadline; this is for what happens between them.
            Some(deadline) => match tokio::time::timeout_at(deadline, work).await {
                Ok(result) => result,
                Err(_) => Err(StepError::new(ErrorKind::Deadline)),
            },
        }
    };
    // Nodes catch what panics in them; this is for what decides about them, such as `Retry::when`.
    let result = AssertUnwindSafe(work).catch_unwind().await;
    cx.end();
    result.unwrap_or_else(|panic| Err(panicked(&*panic)))
}

fn panicked(panic: &(dyn Any + Send)) -> StepError {
    StepError::new(ErrorKind::Panicked(panic_message(panic)))
}

struct Begun<I> {
    input: I,
    recording: Option<Recording>,
    /// Of earlier processes.
    trace: Vec<Attempt>,
}

async fn begin_run<I: Data, O: Data>(
    flow: &Flow<I, O>,
    begin: Begin<I>,
    options: &mut Options,
) -> Result<Begun<I>, StepError> {
    flow.validate().map_err(|error| StepError::refused(error.to_string()))?;
    let answers = std::mem::replace(&mut options.answers, Ok(Vec::new()))?;
    if let (Begin::New(_), Some(answer)) = (&begin, answers.first()) {
        return Err(StepError::refused(format!(
            "an answer to `{}` was given to a run that begins; resume the run that asked",
            answer.path
        )));
    }
    let Some(store) = options.store.take() else {
        return match begin {
            Begin::New(input) => Ok(Begun { input, recording: None, trace: Vec::new() }),
            Begin::Resumed => Err(StepError::refused("a run is resumed from a store")),
        };
    };
    match begin {
        Begin::New(input) => {
            let raw = must_encode("the input of a run that is kept in a store", &input)?;
            let journal = store.create(&options.id).await.map_err(StepError::store)?;
            let recording = Recording::new(journal);
            let started = Record::Started {
                run: options.id.clone(),
                shape: flow.shape(),
                // What goes in is what a resumed run will read.
                input: raw.clone(),
                at_ms: millis(std::time::SystemTime::now()),
            };
            recording.write(started).await.map_err(StepError::store)?;
            let input = read_input(&raw)?;
            Ok(Begun { input, recording: Some(recording), trace: Vec::new() })
        }
        Begin::Resumed => {
            let (journal, records) = store.open(&options.id).await.map_err(StepError::store)?;
            let past = Recording::replay(&options.id, journal, records)?;
            let Past { mut recording, shape, input, attempts } = past;
            same_shape(&options.id, &shape, &flow.shape())?;
            let input = read_input(&input)?;
            recording.check_answers(&answers)?;
            let resumed = Record::Resumed { at_ms: millis(std::time::SystemTime::now()) };
            recording.write(resumed).await.map_err(StepError::store)?;
            recording.decide(answers).await?;
            Ok(Begun { input, recording: Some(recording), trace: attempts })
        }
    }
}

fn read_input<I: Data>(raw: &serde_json::value::RawValue) -> Result<I, StepError> {
    decode(raw).map_err(|error| {
        StepError::refused(format!(
            "the input of the run is read back as JSON, and is no `{}` then: {error}; give the flow an input that survives that",
            std::any::type_name::<I>()
        ))
    })
}

/// Names and kinds of all nodes are those of the flow that began the run, so that every path means what it meant.
fn same_shape(run: &RunId, then: &Shape, now: &Shape) -> Result<(), StepError> {
    if then == now {
        return Ok(());
    }
    let (then, now) = (then.outline(), now.outline());
    let Some(line) = (0..then.len().max(now.len())).find(|&i| then.get(i) != now.get(i)) else {
        return Ok(()); // only descriptions differ
    };
    let show = |lines: &[String]| {
        lines.get(line).map_or("nothing".to_owned(), |text| format!("`{}`", text.trim()))
    };
    Err(StepError::refused(format!(
        "the flow has changed since run `{run}` began: node {} was {}, and is {} now; resume with the version that began it, or start a new run",
        line + 1,
        show(&then),
        show(&now),
    )))
}

/// A run that has begun and not ended. Dropped like this, it was cancelled, and says so.
struct Unended {
    live: Arc<Live>,
    path: Path,
    /// Taken by the end.
    rings: Option<Rings>,
}

impl Unended {
    async fn end<O>(mut self, end: &End<O>) {
        let how = match end {
            End::Done(_) => Ending::Done,
            End::Paused(_) => Ending::Paused,
            End::Failed(_) => Ending::Failed,
        };
        if let Some(recording) = &self.live.recording {
            // All that matters is durable by now: without this line a resumed run finds out by itself.
            let _ = recording.write(ended(how)).await;
            recording.close();
        }
        self.live.emit(&self.path, 1, || Kind::RunEnded(how));
        self.rings.take();
    }
}

impl Drop for Unended {
    fn drop(&mut self) {
        let Some(rings) = self.rings.take() else { return };
        if let Some(recording) = &self.live.recording {
            recording.write_unseen(ended(Ending::Cancelled));
            recording.close();
        }
        let (live, path) = (self.live.clone(), self.path.clone());
        let last = LastWord { live, path, _rings: rings };
        // Branches go when the runtime comes to them, and say so. The end is told after that.
        match Handle::try_current() {
            Ok(runtime) if last.live.alive.any() => {
                runtime.spawn(async move {
                    last.live.alive.gone().await;
                    drop(last);
                });
            }
            _ => drop(last),
        }
    }
}

/// Tells that a run was cancelled, and ends its streams.
struct LastWord {
    live: Arc<Live>,
    path: Path,
    _rings: Rings,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        self.live.emit(&self.path, 1, || Kind::RunEnded(Ending::Cancelled));
    }
}

fn ended(how: Ending) -> Record {
    Record::Ended { how, at_ms: millis(std::time::SystemTime::now()) }
}
