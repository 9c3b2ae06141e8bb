use serde_json::Value;

use crate::tool::{one_string, read_string};
use crate::{Observation, Sandbox, SandboxError, Tool};

/// Web search. Without a provider behind it yet: every call says so, in words the policy can act on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Search;

impl Tool for Search {
    fn name(&self) -> &str {
        "search"
    }

    fn description(&self) -> &str {
        "Search the web for facts you do not know. Input: the query."
    }

    fn schema(&self) -> Value {
        one_string("query", "What to search for")
    }

    fn call(&self, arguments: &Value, _sandbox: &mut Sandbox) -> Result<Observation, SandboxError> {
        Ok(match read_string(self.name(), "query", arguments) {
            Ok(_) => Observation::failed(
                "search is not available: no key is configured (set `TAVILY_API_KEY`); \
                 go on without it, with `code` or from what you know",
            ),
            Err(mistake) => mistake,
        })
    }
}
