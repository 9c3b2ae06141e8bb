//! Chat templates: messages to the prompt text a model was trained on, by the Jinja template it ships.

use std::io::{self, Write};

use agentflow_llm::{Message, Role};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde::Serialize;
use serde_json::json;
use serde_json::ser::Formatter;

use crate::error::{ModelError, Result};

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
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
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned("chat", source.to_owned())
            .map_err(|e| ModelError::Template { place: place.to_owned(), problem: describe(&e) })?;
        Ok(Self { environment, source: source.to_owned(), place: place.to_owned() })
    }

    /// The template itself, in Jinja.
    pub fn source(&self) -> &str {
        &self.source
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
        self.render_json(&messages, &[], think, add_generation_prompt)
    }

    /// As [`ChatTemplate::render_with`], of messages with whatever fields the template reads (`tool_calls`,
    /// `reasoning_content`, …), and with the definitions of `tools`.
    ///
    /// # Errors
    /// If the template refuses the messages.
    pub fn render_json(
        &self,
        messages: &[serde_json::Value],
        tools: &[serde_json::Value],
        think: Option<bool>,
        add_generation_prompt: bool,
    ) -> Result<String> {
        let enable_thinking = think.map_or(Value::UNDEFINED, Value::from);
        // Templates ask `if tools`; without any they are not defined, as in transformers.
        let tools = if tools.is_empty() { Value::UNDEFINED } else { Value::from(Serde(tools)) };
        self.environment
            .get_template("chat")
            .and_then(|template| {
                template.render(context! {
                    messages => Serde(messages), tools, add_generation_prompt, enable_thinking
                })
            })
            .map_err(|e| ModelError::Template { place: self.place.clone(), problem: describe(&e) })
    }
}

/// `tojson` as transformers has it: Python's `json.dumps`, where minijinja's own would escape for HTML.
fn to_json(value: &Value, options: Kwargs) -> std::result::Result<String, Error> {
    let unwritable = |error: serde_json::Error| {
        Error::new(ErrorKind::InvalidOperation, format!("cannot write it as JSON: {error}"))
    };
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?; // transformers' own default is false
    options.assert_all_used()?;
    let mut json = Vec::new();
    match indent {
        Some(width) => {
            let indent = b" ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&indent);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, formatter))
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Spaced)),
    }
    .map_err(unwritable)?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

/// Python's separators, `, ` and `: `.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
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
