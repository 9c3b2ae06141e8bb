//! A secret that does not show.

use std::fmt;

use reqwest::header::HeaderValue;

use crate::error::ChatError;

/// A key of a model server. It goes into one header of a request and nowhere else: not into logs, errors, recordings.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// `None` if there is nothing but blanks in `key`.
    pub fn new(key: impl AsRef<str>) -> Option<Self> {
        let key = key.as_ref().trim();
        (!key.is_empty()).then(|| Self(key.to_owned()))
    }

    /// From an environment variable, e.g. `OPENAI_API_KEY`; `None` if it is not set.
    pub fn from_env(name: &str) -> Option<Self> {
        Self::new(std::env::var(name).ok()?)
    }

    pub(super) fn authorization(&self) -> Result<HeaderValue, ChatError> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0)).map_err(|_| {
            ChatError::BadRequest {
                text: "the key of the model server has characters that no header can carry; copy it again".to_owned(),
            }
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    pub(super) fn hidden_in(&self, text: &str) -> String {
        text.replace(&self.0, "[key]")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([hidden])")
    }
}
