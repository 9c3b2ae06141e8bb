//! Which model answers: the one asked for, or the best that is at hand.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentflow_agent::prompt::Profile;
use agentflow_agent::{CallSettings, Verifier};
use agentflow_llm::ollama::{self, Host, LocalModel};
use agentflow_llm::{
    ApiKey, ChatError, ChatModel, Ollama, OllamaConfig, OpenAi, OpenAiConfig, Pool, PoolConfig,
    Recorder, Replay, Retry, Sampling, Timeouts,
};
use agentflow_model::{Adapter, Local, Placement, bundled};
use anyhow::anyhow;

use crate::Failure;
use crate::arguments::{Backend, ModelArgs};
use crate::narrate::Narrator;
use crate::{model_source, placement};

/// A model with the prompts and settings that fit it.
pub(crate) struct Chosen {
    pub(crate) model: Arc<dyn ChatModel>,
    pub(crate) profile: Profile,
    pub(crate) settings: CallSettings,
    /// Where it computes, if that is in this process.
    pub(crate) placement: Option<Placement>,
}

/// A model, the prompts it knows, and where it computes if that is in this process.
struct Found {
    model: Box<dyn ChatModel>,
    profile: Profile,
    placement: Option<Placement>,
}

impl Found {
    fn new(model: impl ChatModel + 'static, placement: Option<Placement>) -> Result<Self, Failure> {
        let profile = profile(&model)?;
        Ok(Self { model: Box::new(model), profile, placement })
    }
}

impl Chosen {
    /// A model that knows the full prompts judges for itself; a tiny one was never taught to.
    pub(crate) fn verifier(&self) -> Verifier {
        match self.profile {
            Profile::Full => {
                Verifier::Model { model: self.model.clone(), settings: self.settings.clone() }
            }
            Profile::Compact => Verifier::Planner,
        }
    }
}

/// Connects to, or loads, the model that `args` ask for.
///
/// A model on servers is asked as `pool` says.
pub(crate) async fn choose(
    args: &ModelArgs,
    pool: PoolConfig,
    narrator: &Narrator,
) -> Result<Chosen, Failure> {
    let pool = &pool;
    let in_process = args.adapter.is_some() || args.placement.is_chosen();
    if in_process && !matches!(args.backend, Backend::Auto | Backend::Local) {
        return Err(Failure::usage(match args.adapter {
            Some(_) => anyhow!(
                "--adapter is for models in this process; leave it out, or use --backend local"
            ),
            None => anyhow!(
                "--device and --dtype are for models in this process; leave them out, or use --backend local"
            ),
        }));
    }
    let Found { model, profile, placement } = match args.backend {
        Backend::Auto if in_process => local(args).await?,
        Backend::Auto => automatic(args, pool, narrator).await?,
        Backend::Ollama => {
            let hosts = hosts(args)?;
            let name = match &args.model {
                Some(name) => name.clone(),
                None => pulled(&hosts[0]).await?.ok_or_else(|| {
                    Failure::work(anyhow!(
                        "Ollama at `{}` has no model; get one with `ollama pull qwen3:8b`",
                        hosts[0].url()
                    ))
                })?,
            };
            connect(hosts, name, args, pool).await?
        }
        Backend::Openai => Found::new(openai(args, pool)?, None)?,
        Backend::Local => local(args).await?,
        Backend::Replay => {
            let path = args.model.as_deref().ok_or_else(|| {
                Failure::usage(anyhow!(
                    "--backend replay plays a recording; name it with --model FILE"
                ))
            })?;
            Found::new(Replay::open(path).map_err(Failure::work)?, None)?
        }
    };
    let model: Arc<dyn ChatModel> = match &args.record {
        Some(path) => Arc::new(Recorder::new(model, path).map_err(Failure::work)?),
        None => Arc::from(model),
    };
    let settings = CallSettings {
        sampling: Sampling {
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: None,
            min_p: 0.0,
            seed: Some(args.seed),
        },
        think: args.think,
        max_tokens: args.max_tokens.unwrap_or(if args.think { 8192 } else { 512 }),
    };
    Ok(Chosen { model, profile, settings, placement })
}

/// Ollama where it answers and has the model, else the bundled planner; says which on stderr.
async fn automatic(
    args: &ModelArgs,
    pool: &PoolConfig,
    narrator: &Narrator,
) -> Result<Found, Failure> {
    if let Some(path) = &args.model
        && (Path::new(path).exists() || path.starts_with(['.', '/', '~']))
    {
        return local(args).await;
    }
    let hosts = hosts(args)?;
    let host = hosts[0].clone();
    let reason = match ollama::probe(&host).await {
        Ok(probe) => match &args.model {
            Some(name) if probe.has(name) => {
                return connect(hosts, name.clone(), args, pool).await;
            }
            Some(name) if model_source::is_on_hub(name) => return local(args).await,
            // A model that was asked for by name is not replaced by another.
            Some(name) => {
                return Err(Failure::work(anyhow!(
                    "model `{name}` is neither a directory nor on Ollama at `{}`; get it with `ollama pull {name}`{}",
                    host.url(),
                    others(&probe.models)
                )));
            }
            None => match preferred(&probe.models) {
                Some(name) => {
                    narrator.note(&format!("model: {name} on Ollama at {}", host.url()));
                    return connect(hosts, name, args, pool).await;
                }
                None => "Ollama has no model; `ollama pull qwen3:8b` gets one".to_owned(),
            },
        },
        Err(_) if args.model.as_deref().is_some_and(model_source::is_on_hub) => {
            return local(args).await;
        }
        Err(error) if args.model.is_some() => {
            let name = args.model.as_deref().unwrap_or_default();
            let error = anyhow!(error);
            return Err(Failure::work(
                error
                    .context(format!("model `{name}` is no directory, and Ollama cannot be asked")),
            ));
        }
        Err(ChatError::Unreachable { .. }) => format!(
            "no Ollama at {}; for more, install it from https://ollama.com and run `ollama pull qwen3:8b`",
            host.url()
        ),
        Err(ChatError::Timeout { .. }) => {
            format!(
                "Ollama at {} does not answer; see what it is busy with, or wait for it with --backend ollama",
                host.url()
            )
        }
        Err(error) => format!("Ollama cannot be used: {error}"),
    };
    narrator.notice(&format!(
        "model: the bundled tiny planner, which knows school arithmetic only ({reason})"
    ));
    local(args).await
}

/// What could be used instead, for the end of a message.
fn others(models: &[LocalModel]) -> String {
    match models {
        [] => String::new(),
        models => {
            let names: Vec<String> =
                models.iter().map(|model| format!("`{}`", model.name)).collect();
            format!(", or use one that is there: {}", names.join(", "))
        }
    }
}

/// One at least.
fn hosts(args: &ModelArgs) -> Result<Vec<Host>, Failure> {
    let wrong = |place: &str| {
        Failure::usage(anyhow!(
            "`{place}` is not the address of an Ollama server; write it like `http://127.0.0.1:11434`"
        ))
    };
    if args.url.is_empty() {
        return Ok(vec![Host::from_env().map_err(|_| wrong("OLLAMA_HOST"))?]);
    }
    args.url.iter().map(|url| url.parse().map_err(|_| wrong("--url"))).collect()
}

async fn connect(
    hosts: Vec<Host>,
    name: String,
    args: &ModelArgs,
    pool: &PoolConfig,
) -> Result<Found, Failure> {
    let mut endpoints = Vec::new();
    for host in hosts {
        let config = OllamaConfig {
            num_ctx: args.num_ctx(),
            timeouts: timeouts(args),
            // Both are the pool's to decide.
            concurrency: pool.most,
            retry: Retry::never(),
            ..OllamaConfig::new(host, &name)
        };
        endpoints.push(Ollama::connect(config).await.map_err(Failure::work)?);
    }
    Found::new(Pool::new(endpoints, pool.clone()).map_err(Failure::work)?, None)
}

async fn pulled(host: &Host) -> Result<Option<String>, Failure> {
    let probe = ollama::probe(host).await.map_err(Failure::work)?;
    Ok(preferred(&probe.models))
}

/// A Qwen3, which the prompts were written for, or else the model that was pulled last.
fn preferred(models: &[LocalModel]) -> Option<String> {
    let chats = || {
        models.iter().filter(|model| {
            model.capabilities.is_empty()
                || model.capabilities.iter().any(|one| one == "completion")
        })
    };
    chats()
        .find(|model| model.name.starts_with("qwen3"))
        .or_else(|| chats().next())
        .map(|model| model.name.clone())
}

fn openai(args: &ModelArgs, pool: &PoolConfig) -> Result<Pool<OpenAi>, Failure> {
    let (false, Some(name)) = (args.url.is_empty(), &args.model) else {
        return Err(Failure::usage(anyhow!(
            "--backend openai needs --url and --model, e.g. --url http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B; \
             the key comes from $OPENAI_API_KEY, for DeepSeek from $DEEPSEEK_API_KEY"
        )));
    };
    let endpoint = |url: &String| {
        OpenAi::new(OpenAiConfig {
            timeouts: timeouts(args),
            // Both are the pool's to decide.
            concurrency: pool.most,
            retry: Retry::never(),
            ..OpenAiConfig::new(url, name, key(url))
        })
    };
    let endpoints = args.url.iter().map(endpoint).collect::<Result<_, _>>();
    let pool = endpoints.and_then(|endpoints| Pool::new(endpoints, pool.clone()));
    pool.map_err(Failure::usage)
}

/// The key for the server at `url`. DeepSeek's own goes to no other server.
fn key(url: &str) -> Option<ApiKey> {
    let host = url.split("://").last().and_then(|rest| rest.split(['/', ':']).next());
    let is_deepseek =
        host.is_some_and(|host| host == "deepseek.com" || host.ends_with(".deepseek.com"));
    let deepseek = is_deepseek.then(|| ApiKey::from_env("DEEPSEEK_API_KEY")).flatten();
    deepseek.or_else(|| ApiKey::from_env("OPENAI_API_KEY"))
}

fn timeouts(args: &ModelArgs) -> Timeouts {
    let usual = Timeouts::default();
    let Some(seconds) = args.timeout else { return usual };
    let longest = Duration::from_secs_f64(seconds);
    Timeouts {
        connect: usual.connect.min(longest),
        first_byte: longest,
        idle: longest,
        reply: longest,
    }
}

/// The model that was named, or the planner in the binary.
async fn local(args: &ModelArgs) -> Result<Found, Failure> {
    let name = args.model.as_deref().unwrap_or(bundled::NAME);
    let placement = placement::choose(&args.placement)?;
    let adapter = args.adapter.as_deref();
    let num_ctx = Some(args.num_ctx());
    let model = load(args.model.as_deref(), adapter, name, num_ctx, &placement).await?;
    Found::new(model, Some(placement))
}

/// Loads the directory, file or repository `model`, or the planner in the binary; records call it `name`.
pub(crate) async fn load(
    model: Option<&str>,
    adapter: Option<&Path>,
    name: &str,
    num_ctx: Option<u32>,
    placement: &Placement,
) -> Result<Local, Failure> {
    let files = model_source::files(model).await?;
    let mut loaded = placement.load(&files).map_err(Failure::work)?;
    if let Some(dir) = adapter {
        let Placement { dtype, device, .. } = placement;
        let adapter = Adapter::open(dir, *dtype, device).map_err(Failure::work)?;
        loaded = loaded.with_adapter(&adapter).map_err(Failure::work)?;
    }
    Ok(Local::new(loaded, name, num_ctx))
}

/// The prompts that a model was trained on; the full ones where it does not say.
fn profile(model: &dyn ChatModel) -> Result<Profile, Failure> {
    let name = model.info().prompt_profile.as_deref().unwrap_or("full");
    name.parse().map_err(Failure::work)
}
