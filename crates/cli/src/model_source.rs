//! From what was typed for a model to its files: a directory, a GGUF file, or a repository on the Hugging Face Hub.

use std::path::Path;

use agentflow_model::hub::{Hub, HubSettings, Repo};
use agentflow_model::{ModelFiles, bundled};
use anyhow::anyhow;

use crate::Failure;
use crate::progress::Progress;

const MEGABYTE: u64 = 1_000_000;

/// The files of the model that was named; without a name those of the bundled planner. What is on the Hub only is
/// fetched, with a progress bar.
pub(crate) async fn files(name: Option<&str>) -> Result<ModelFiles, Failure> {
    let Some(name) = name else { return Ok(bundled::files()) };
    let path = Path::new(name);
    if path.exists() || !is_on_hub(name) {
        return ModelFiles::open(path).map_err(Failure::work);
    }
    let repo: Repo = name.parse().map_err(|problem: String| Failure::usage(anyhow!(problem)))?;
    let settings = HubSettings::from_variables(|variable| std::env::var(variable).ok());
    let hub = Hub::new(settings).map_err(Failure::work)?;
    let mut progress: Option<Progress> = None;
    let fetched = hub
        .fetch(&repo, &mut |so_far| {
            let progress = progress.get_or_insert_with(|| {
                let progress = Progress::new(so_far.total.div_ceil(MEGABYTE), "MB");
                progress.say(&format!("fetching {repo} from the Hugging Face Hub"));
                progress
            });
            progress.update(so_far.bytes / MEGABYTE, so_far.file.to_owned());
        })
        .await;
    if let Some(progress) = progress {
        progress.finish();
    }
    let place = fetched.map_err(|error| {
        Failure::work(
            anyhow!(error)
                .context(format!("no directory or file `{name}` here, so the Hub was asked")),
        )
    })?;
    ModelFiles::open(&place).map_err(Failure::work)
}

/// Whether a name can be one on the Hub: `OWNER/NAME`, and no path.
pub(crate) fn is_on_hub(name: &str) -> bool {
    name.parse::<Repo>().is_ok()
}
