//! Auxiliary-loss-free load balancing (DeepSeek-V3 §2.1.2): after each step the selection bias of an expert moves by a
//! fixed amount towards the mean load.

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use swinseek_kernels::Trace;

/// How many tokens chose each expert, by decoder layer.
pub type Loads = BTreeMap<usize, Vec<u64>>;

/// Counts the choices of the rows that `counted` marks (padding does not vote); reads `router.N.experts` of the trace.
pub fn count(trace: &Trace, counted: &[bool], experts: usize) -> Result<Loads> {
    let mut loads = Loads::new();
    for (name, chosen) in trace.tensors() {
        let Some(layer) = name.strip_prefix("router.").and_then(|rest| rest.strip_suffix(".experts")) else {
            continue;
        };
        let ids = chosen.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
        let per_token = ids.len() / counted.len();
        let load = loads.entry(layer.parse()?).or_insert_with(|| vec![0; experts]);
        for (row, _) in ids.chunks(per_token).zip(counted).filter(|(_, counted)| **counted) {
            for &id in row {
                load[id as usize] += 1;
            }
        }
    }
    Ok(loads)
}

/// Moves every `…layers.N.mlp.gate.e_score_correction_bias` by `rate` against its expert's excess load.
pub fn balance(loads: &Loads, vars: &BTreeMap<String, Var>, rate: f64) -> Result<()> {
    for (name, var) in vars {
        let Some(stem) = name.strip_suffix(".mlp.gate.e_score_correction_bias") else {
            continue;
        };
        let layer = stem.rsplit('.').next().and_then(|segment| segment.parse::<usize>().ok());
        let Some(load) = layer.and_then(|layer| loads.get(&layer)) else {
            continue;
        };
        let mean = load.iter().sum::<u64>() as f64 / load.len() as f64;
        let mut bias = var.to_vec1::<f32>()?;
        for (bias, &load) in bias.iter_mut().zip(load) {
            let excess = load as f64 - mean;
            if excess != 0.0 {
                *bias -= (rate * excess.signum()) as f32;
            }
        }
        var.set(&Tensor::from_vec(bias, var.shape(), &Device::Cpu)?)?;
    }
    Ok(())
}

/// Standard deviation over mean of the experts' loads, mean over layers.
pub fn load_cv(loads: &Loads) -> Option<f64> {
    let cv = |load: &Vec<u64>| {
        let mean = load.iter().sum::<u64>() as f64 / load.len() as f64;
        let variance = load.iter().map(|&l| (l as f64 - mean).powi(2)).sum::<f64>() / load.len() as f64;
        variance.sqrt() / mean.max(f64::MIN_POSITIVE)
    };
    (!loads.is_empty()).then(|| loads.values().map(cv).sum::<f64>() / loads.len() as f64)
}
