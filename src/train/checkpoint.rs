//! The state of a run on disk. A checkpoint is a folder that appears by one rename, so it is whole or absent.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::{Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::optimizer::AdamW;

/// What a checkpoint holds beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    /// Optimiser steps done.
    step: u64,
    /// Digest of the recipe: a changed recipe does not resume silently.
    recipe: String,
}

/// The checkpoints of one run directory.
pub struct Checkpoints {
    folder: PathBuf,
    recipe: String,
    keep: usize,
}

impl Checkpoints {
    /// Checkpoints below `run/checkpoints`; `recipe` is the digest of what is being run.
    pub fn new(run: &Path, recipe: String, keep: usize) -> Result<Self> {
        let folder = run.join("checkpoints");
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        Ok(Self { folder, recipe, keep: keep.max(1) })
    }

    /// Writes the state after `step` steps and removes the oldest beyond those kept.
    pub fn save(&self, step: u64, vars: &BTreeMap<String, Var>, optimizer: &AdamW) -> Result<()> {
        let temporary = self.folder.join("writing");
        if temporary.exists() {
            std::fs::remove_dir_all(&temporary)?;
        }
        std::fs::create_dir(&temporary)?;
        let (mut tensors, steps) = optimizer.state()?;
        debug_assert_eq!(steps, step);
        tensors
            .extend(vars.iter().map(|(name, var)| (format!("parameter.{name}"), var.as_detached_tensor())));
        let path = temporary.join("state.safetensors");
        candle_core::safetensors::save(&tensors, &path)?;
        let state = State { step, recipe: self.recipe.clone() };
        std::fs::write(temporary.join("state.json"), serde_json::to_vec_pretty(&state)?)?;
        for file in ["state.safetensors", "state.json"] {
            std::fs::File::open(temporary.join(file))?.sync_all()?;
        }
        let path = self.folder.join(format!("{step:08}"));
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::rename(&temporary, &path)?;
        let all = self.steps()?;
        for old in &all[..all.len().saturating_sub(self.keep)] {
            std::fs::remove_dir_all(self.folder.join(format!("{old:08}")))?;
        }
        Ok(())
    }

    /// Puts the newest checkpoint into `vars` and `optimizer`; the steps done, 0 when there is none.
    pub fn resume(&self, vars: &BTreeMap<String, Var>, optimizer: &mut AdamW) -> Result<u64> {
        let Some(step) = self.steps()?.pop() else {
            return Ok(0);
        };
        let folder = self.folder.join(format!("{step:08}"));
        let state: State = serde_json::from_slice(&std::fs::read(folder.join("state.json"))?)?;
        anyhow::ensure!(
            state.recipe == self.recipe,
            "{}: was made by another recipe; give another `output` or remove it to start afresh",
            folder.display()
        );
        let tensors: HashMap<String, Tensor> =
            candle_core::safetensors::load(folder.join("state.safetensors"), &Device::Cpu)?;
        for (name, var) in vars {
            let key = format!("parameter.{name}");
            var.set(tensors.get(&key).with_context(|| format!("{}: has no `{key}`", folder.display()))?)?;
        }
        optimizer.restore(&tensors, state.step)?;
        Ok(state.step)
    }

    /// Steps of all whole checkpoints, ascending.
    fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<u64> = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            steps.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
        }
        steps.sort_unstable();
        Ok(steps)
    }
}
