//! The planner that is embedded in the binary: trained by this project on generated arithmetic, and good for nothing
//! else. `results/tiny/` says how it was made and what it can do.

use crate::model_dir::ModelFiles;

/// What records call it.
pub const NAME: &str = "tiny-planner";

macro_rules! asset {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../assets/tiny-planner/", $name)))
    };
}

static FILES: [(&str, &[u8]); 6] = [
    asset!("config.json"),
    asset!("tokenizer.json"),
    asset!("tokenizer_config.json"),
    asset!("chat_template.jinja"),
    asset!("agentflow.json"),
    asset!("model.safetensors"),
];

/// The files of the bundled planner.
pub fn files() -> ModelFiles {
    ModelFiles::Embedded(&FILES)
}
