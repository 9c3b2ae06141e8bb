//! What flows from step to step.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A value that can flow: cloned for a second attempt, written to a journal, read back on resume.
///
/// Implemented for every type that can; there is nothing to write.
pub trait Data: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// A handle, a tensor, a connection: it flows, and is never written. A step whose output holds one is not recorded, and
/// runs again on resume.
///
/// ```
/// use agentflow_flow::{Context, Flow, Volatile, step};
///
/// let open = step("open", async |_cx: Context, words: Vec<String>| Ok(Volatile::new(words.join(" "))));
/// # let _ = Flow::new("example").then(open);
/// ```
pub struct Volatile<T>(Arc<T>);

impl<T> Volatile<T> {
    /// A value that flows and is never written.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> From<Arc<T>> for Volatile<T> {
    fn from(value: Arc<T>) -> Self {
        Self(value)
    }
}

impl<T> Clone for Volatile<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Volatile<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Volatile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Volatile(..)")
    }
}

thread_local! {
    /// Set by a [`Volatile`] that is asked to serialize itself: the only thing it can say through serde is an error,
    /// and an error of this kind means "do not record", not "broken".
    static MET_VOLATILE: Cell<bool> = const { Cell::new(false) };
}

impl<T> Serialize for Volatile<T> {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        MET_VOLATILE.set(true);
        Err(serde::ser::Error::custom("a volatile value is never written"))
    }
}

impl<'de, T> Deserialize<'de> for Volatile<T> {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("a volatile value cannot be read back"))
    }
}

/// The JSON of `value`; `None` where it holds something volatile.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Option<Box<RawValue>>, serde_json::Error> {
    MET_VOLATILE.set(false);
    match serde_json::value::to_raw_value(value) {
        Ok(raw) => Ok(Some(raw)),
        Err(_) if MET_VOLATILE.get() => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn decode<T: DeserializeOwned>(raw: &RawValue) -> Result<T, serde_json::Error> {
    serde_json::from_str(raw.get())
}
