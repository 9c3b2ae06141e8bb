//! Chat templates: messages to the prompt text a model was trained on, by the Jinja template it ships.

use agentflow_llm::{Message, Role};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde_json::json;

use crate::error::{ModelError, Result};

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    place: String,
}

impl ChatTemplate {
    /// Compiles a template; `place` names its model in messages.
    ///
    /// # Errors
    /// If the template is no valid Jinja.
    pub fn new(source: &str, place: &str) -> Result<Self> {
        let mut environment = Environment::new();
        // As transformers sets Jinja up, plus the Python methods that templates call.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("Jinja's own delimiters do not clash"));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|e| ModelError::Template { place: place.to_owned(), problem: describe(&e) })?;
        Ok(Self { environment, place: place.to_owned() })
    }

    /// The prompt text of `messages`, up to where the model's reply starts.
    ///
    /// `think` is the template's `enable_thinking`; templates without it ignore it.
    ///
    /// # Errors
    /// If the template refuses the messages, e.g. a role it does not know.
    pub fn render(&self, messages: &[Message], think: bool) -> Result<String> {
        self.render_with(messages, Some(think), true)
    }

    /// As [`ChatTemplate::render`], with `enable_thinking` left out where `think` is `None`, and the start of the reply
    /// only where `add_generation_prompt` asks for it.
    pub fn render_with(
        &self,
        messages: &[Message],
        think: Option<bool>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let messages: Vec<_> = messages
            .iter()
            .map(|message| json!({"role": role_name(message.role), "content": message.content}))
            .collect();
        let enable_thinking = think.map_or(Value::UNDEFINED, Value::from);
        self.environment
            .get_template("chat")
            .and_then(|template| {
                template.render(context! {
                    messages => Serde(&messages), add_generation_prompt, enable_thinking
                })
            })
            .map_err(|e| ModelError::Template { place: self.place.clone(), problem: describe(&e) })
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

fn describe(error: &Error) -> String {
    let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
    format!("{error}{line}")
}
