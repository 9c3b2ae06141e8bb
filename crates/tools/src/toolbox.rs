use serde_json::{Value, json};

use crate::{Answer, Code, Observation, Sandbox, SandboxError, Search, Think, Tool};

/// The tools on offer, in the order in which the planner sees them.
pub struct Toolbox {
    tools: Vec<Box<dyn Tool>>,
}

impl Toolbox {
    /// An empty box; fill it with [`with`](Self::with).
    pub fn new() -> Self {
        Self { tools: Vec::new() }
    }

    /// `think`, `search`, `code`, `answer`.
    pub fn built_in() -> Self {
        Self::new().with(Think).with(Search).with(Code).with(Answer)
    }

    /// Adds a tool. One of the same name is replaced, in its place.
    #[must_use]
    pub fn with(mut self, tool: impl Tool + 'static) -> Self {
        let tool: Box<dyn Tool> = Box::new(tool);
        match self.tools.iter_mut().find(|old| old.name() == tool.name()) {
            Some(old) => *old = tool,
            None => self.tools.push(tool),
        }
        self
    }

    /// The tool called `name`.
    pub fn get(&self, name: &str) -> Option<&dyn Tool> {
        self.iter().find(|tool| tool.name() == name)
    }

    /// The names in order: the planner's `action` is one of these.
    pub fn names(&self) -> Vec<&str> {
        self.iter().map(|tool| tool.name()).collect()
    }

    /// The tools in order.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Tool> {
        self.tools.iter().map(Box::as_ref)
    }

    /// Calls the tool `name`. A plain string as `input` becomes the tool's one string property; a name that is not in the
    /// box is an observation that lists those that are.
    ///
    /// # Errors
    /// See [`Tool::call`].
    pub fn call(
        &self,
        name: &str,
        input: &Value,
        sandbox: &mut Sandbox,
    ) -> Result<Observation, SandboxError> {
        let Some(tool) = self.get(name) else {
            let names = self.names().join("`, `");
            return Ok(Observation::failed(format!(
                "there is no tool `{name}`; choose one of `{names}`"
            )));
        };
        tool.call(&wrap(tool, input), sandbox)
    }
}

impl Default for Toolbox {
    fn default() -> Self {
        Self::built_in()
    }
}

/// `{"code": "1 + 1"}` from `"1 + 1"`, where the schema asks for exactly one string; anything else as it is.
fn wrap(tool: &dyn Tool, input: &Value) -> Value {
    let schema = tool.schema();
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    match (input, required) {
        (Value::String(_), [Value::String(property)]) => json!({ property.as_str(): input }),
        _ => input.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_tools_are_in_the_order_of_the_planner_prompt() {
        assert_eq!(Toolbox::built_in().names(), ["think", "search", "code", "answer"]);
    }

    #[test]
    fn a_plain_string_becomes_the_one_string_property() {
        let toolbox = Toolbox::built_in();
        let code = toolbox.get("code").expect("`code` is built in");
        assert_eq!(wrap(code, &json!("1 + 1")), json!({ "code": "1 + 1" }));
        assert_eq!(wrap(code, &json!({ "code": "2" })), json!({ "code": "2" }));
        assert_eq!(wrap(code, &json!(7)), json!(7));
    }

    #[test]
    fn every_built_in_schema_asks_for_exactly_one_string() {
        for tool in Toolbox::built_in().iter() {
            let schema = tool.schema();
            let required = schema["required"].as_array().expect("`required` is a list");
            let property = required[0].as_str().expect("a property is named by a string");
            assert_eq!(required.len(), 1, "{}", tool.name());
            assert_eq!(schema["properties"][property]["type"], "string", "{}", tool.name());
        }
    }

    #[test]
    fn a_second_tool_of_the_same_name_takes_the_place_of_the_first() {
        assert_eq!(Toolbox::built_in().with(Search).names(), Toolbox::built_in().names());
    }
}
