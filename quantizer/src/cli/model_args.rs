//! The float model that a command starts from.

use std::path::PathBuf;

use clap::Args;
use fresnel_runtime::Error;
use fresnel_runtime::model::class_names;

use crate::import::{FloatModel, Source};

/// Arguments that name a float model.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    /// Checkpoint: a safetensors file, or a folder with model.safetensors and config.json
    #[arg(value_name = "MODEL")]
    pub(super) model: PathBuf,
    /// The hub's config.json, where it does not lie beside the checkpoint
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Class names, one per line in index order [default: those in the configuration]
    #[arg(long, value_name = "FILE")]
    pub(super) class_names: Option<PathBuf>,
}

impl ModelArgs {
    /// Finds the model's files.
    ///
    /// # Errors
    /// As [`Source::locate`].
    pub(super) fn locate(&self) -> Result<Source, Error> {
        Source::locate(&self.model, self.config.as_deref())
    }

    /// Reads the class names, where a file of them is given, into a model that was loaded.
    ///
    /// # Errors
    /// As [`class_names::read`].
    pub(super) fn name_classes(&self, model: &mut FloatModel) -> Result<(), Error> {
        if let Some(path) = &self.class_names {
            model.class_names = class_names::read(path, model.config.num_classes)?;
        }
        Ok(())
    }
}
