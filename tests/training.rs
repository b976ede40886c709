//! The trainer: one step against PyTorch, resume against no interruption.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use swinseek::train::optimizer::{AdamW, AdamWConfig, Gradients};
use swinseek::train::recipe::{AdapterTable, ModelTable, Recipe};
use swinseek::train::variables::Variables;
use swinseek_fusion::checkpoint::Checkpoint;
use swinseek_kernels::ops::loss::cross_entropy;
use swinseek_kernels::{Precision, Trace, Weights};
use swinseek_language::{Context, Decoder, LanguageConfig, NoHook};
use swinseek_vision::{Encoder, VisionConfig};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn load(path: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(repository(path), &Device::Cpu).expect("a golden")
}

fn config(case: &str) -> serde_json::Value {
    let text = std::fs::read(repository(&format!("tests/goldens/{case}/config.json"))).expect("a golden");
    serde_json::from_slice(&text).expect("JSON")
}

/// Runs `loss` on the golden's weights, takes one AdamW step and compares every parameter with PyTorch's.
fn check_step(case: &str, loss: impl Fn(&Weights, &HashMap<String, Tensor>) -> Tensor) {
    let start = load(&format!("tests/goldens/{case}/model.safetensors"));
    let expected = load(&format!("tests/goldens_training/{case}.safetensors"));
    check_step_of(case, &Arc::new(Variables::new(0, start, None)), &expected, loss);
}

fn check_step_of(
    case: &str,
    variables: &Arc<Variables>,
    expected: &HashMap<String, Tensor>,
    loss: impl Fn(&Weights, &HashMap<String, Tensor>) -> Tensor,
) {
    let weights = Weights::new(variables.clone(), Precision::F32);
    let loss = loss(&weights, &load(&format!("tests/goldens/{case}/golden.safetensors")));
    let torch_loss = expected["loss"].to_vec1::<f32>().expect("a loss")[0];
    let ours = loss.to_scalar::<f32>().expect("a scalar");
    assert!((ours - torch_loss).abs() < 1e-5, "{case}: loss {ours}, PyTorch {torch_loss}");
    let (vars, store) = (variables.all(), loss.backward().expect("gradients"));
    let gradients: Gradients = vars
        .iter()
        .filter_map(|(name, var)| {
            let gradient = store.get(var.as_tensor())?.flatten_all().ok()?;
            Some((name.clone(), gradient.to_vec1().ok()?))
        })
        .collect();
    // The large eps keeps gradients that are rounding noise from moving a parameter (see make.py).
    let settings = AdamWConfig { eps: 1e-5, ..AdamWConfig::default() };
    AdamW::new(settings, vars.clone()).step(&gradients, 1e-3).expect("a step");
    let mut compared = 0;
    for (name, var) in &vars {
        let difference = (var.as_tensor() - &expected[name])
            .and_then(|d| d.abs()?.flatten_all()?.max(0))
            .expect("one shape");
        let difference = difference.to_scalar::<f32>().expect("a scalar");
        assert!(difference <= 1e-5, "{case}: `{name}` differs by {difference:e}");
        compared += 1;
    }
    assert!(compared > 20, "{case}: only {compared} parameters");
}

#[test]
fn one_step_of_a_decoder_equals_pytorch() {
    check_step("deepseek_v3", |weights, golden| {
        let config = LanguageConfig::from_json(&config("deepseek_v3")).expect("a configuration");
        let decoder = Decoder::new(&config, weights).expect("a decoder");
        let ids = golden["input_ids"].to_dtype(candle_core::DType::U32).expect("ids");
        let embedded = decoder.embed(&ids).expect("embeddings");
        let hidden =
            decoder.forward(&embedded, &Context::causal(), None, &NoHook, &mut Trace::off()).expect("states");
        let (rows, length) = ids.dims2().expect("two dimensions");
        let logits = decoder.lm_head(&hidden.narrow(1, 0, length - 1).expect("inputs")).expect("logits");
        let targets =
            ids.narrow(1, 1, length - 1).and_then(|t| t.flatten_all()?.to_vec1::<u32>()).expect("targets");
        let logits = logits.reshape((rows * (length - 1), ())).expect("rows");
        cross_entropy(&logits, &targets).expect("a loss")
    });
}

/// Half the mean square of the last hidden states.
fn encoder_loss(weights: &Weights, golden: &HashMap<String, Tensor>) -> Tensor {
    let config = VisionConfig::from_json(&config("swinv2")).expect("a configuration");
    let encoder = Encoder::new(&config, weights).expect("an encoder");
    let hidden =
        encoder.forward(&golden["pixel_values"], &mut Trace::off()).expect("features").last_hidden_state;
    (hidden.sqr().and_then(|s| s.mean_all()).expect("a mean") * 0.5).expect("a loss")
}

#[test]
fn one_step_of_an_encoder_equals_pytorch() {
    check_step("swinv2", encoder_loss);
}

/// Only the additions move, as PEFT moves them.
#[test]
fn one_step_of_an_adapter_equals_peft() {
    let names = |path: &str| -> HashMap<String, Tensor> {
        let ours = |name: String| {
            name.replace("base_model.model.", "")
                .replace(".lora_A.weight", ".lora_A")
                .replace(".lora_B.weight", ".lora_B")
        };
        load(path).into_iter().map(|(name, tensor)| (ours(name), tensor)).collect()
    };
    let base = load("tests/goldens/swinv2/model.safetensors");
    let targets = ["query", "key", "value", "dense", "reduction"].map(str::to_owned).to_vec();
    // PEFT's `use_rslora`: 3 over the root of 4.
    let table = AdapterTable { rank: 4, alpha: 6.0, targets, from: None };
    let variables = Arc::new(Variables::new(0, base.clone(), Some(table)));
    let loss = |weights: &Weights, golden: &HashMap<String, Tensor>| {
        // The first model makes the variables, which then take PEFT's values; the second reads them.
        encoder_loss(weights, golden);
        for (name, value) in names("tests/goldens_adapter/swinv2/adapter_model.safetensors") {
            variables.all()[&name].set(&value).expect("the value's shape");
        }
        encoder_loss(weights, golden)
    };
    check_step_of("swinv2", &variables, &names("tests/goldens_training/adapter.safetensors"), loss);
    let weights = variables.weights().expect("the sums");
    assert_eq!(weights.len(), base.len());
    for (name, sum) in &weights {
        let same = values(sum) == values(&base[name]);
        assert_eq!(same, !variables.additions().contains_key(name), "{name}");
    }
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("f32 values")
}

/// A recipe of a model that trains in a second.
fn tiny_recipe(folder: &Path) -> Recipe {
    let model = folder.join("model");
    std::fs::create_dir_all(&model).expect("a folder");
    let default = repository("samples/recipes/default");
    let text = std::fs::read(default.join("config.json")).expect("the default configuration");
    let mut config: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    let changes = serde_json::json!({
        "vision": { "image_size": 64, "embed_dim": 16, "depths": [1, 1, 1], "num_heads": [1, 2, 2], "window_size": 4,
                    "stem": { "type": "conv", "channels": [8, 8, 16], "strides": [2, 2, 2] } },
        "language": { "hidden_size": 32, "num_hidden_layers": 2, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
                      "qk_rope_head_dim": 4, "v_head_dim": 8, "moe_intermediate_size": 8, "n_routed_experts": 4, "num_experts_per_tok": 2 },
        "fusion": { "cross_attention_layers": [1], "intermediate_size": 32 }
    });
    for (part, fields) in changes.as_object().expect("an object") {
        for (field, value) in fields.as_object().expect("an object") {
            config[part][field] = value.clone();
        }
    }
    std::fs::write(model.join("config.json"), config.to_string()).expect("written");
    let preprocessor =
        std::fs::read_to_string(default.join("preprocessor_config.json")).expect("the default");
    std::fs::write(model.join("preprocessor_config.json"), preprocessor.replace("192", "64"))
        .expect("written");
    let recipe = r#"
        output = "run"
        seed = 3
        model = { directory = "model", vocabulary = 300 }
        schedule = { steps = 4, warmup_steps = 1, learning_rate = 1e-3 }
        batch = { micro_batches = 2 }
        losses = { findings = 1.0 }
        data = [{ rows = 2, source = { kind = "phantom", seed = 1, task = "question", size = 64 } }]
        validation = { every = 0 }
        checkpoint = { every = 2 }
    "#;
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).expect("written");
    Recipe::load(&path).expect("a recipe")
}

#[test]
fn a_run_that_was_stopped_ends_as_one_that_was_not() {
    let (whole, parts) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let whole_recipe = tiny_recipe(whole.path());
    swinseek::train::run(&whole_recipe, &mut |_, _| ControlFlow::Continue(())).expect("a run");
    let recipe = tiny_recipe(parts.path());
    let stop_at = |stop: u64| {
        swinseek::train::run(&recipe, &mut |_, line| {
            if line.step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
    };
    stop_at(1).expect("the first part");
    stop_at(3).expect("the second part");
    stop_at(u64::MAX).expect("the rest");
    let weights =
        |recipe: &Recipe| std::fs::read(recipe.output.join("model/model.safetensors")).expect("weights");
    assert_eq!(weights(&whole_recipe), weights(&recipe), "the resumed run ends with other weights");
    let lines = std::fs::read_to_string(recipe.output.join("metrics.jsonl")).expect("metrics");
    assert_eq!(lines.lines().count(), 4, "a step is missing or repeated");
}

/// What a run goes on from is the model that the run before it left, at another scale too.
#[test]
fn an_adapter_is_gone_on_from() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = tiny_recipe(folder.path());
    let run = |recipe: &Recipe| swinseek::train::run(recipe, &mut |_, _| ControlFlow::Continue(()));
    run(&base).expect("a base");
    let first = adapter_recipe(&base);
    run(&first).expect("an adapter");
    let table = AdapterTable {
        rank: 2,
        alpha: 8.0,
        from: Some(first.output.join("model")),
        ..AdapterTable::default()
    };
    let next =
        |adapter| Recipe { output: folder.path().join("next"), adapter: Some(adapter), ..first.clone() };
    let mut second = next(table.clone());
    second.schedule.steps = 0;
    run(&second).expect("no step");
    let weights = |recipe: &Recipe| {
        let checkpoint = Checkpoint::open(&recipe.output.join("model")).expect("a model");
        checkpoint.load_all().expect("tensors")
    };
    let (before, after, without) = (weights(&first), weights(&second), weights(&base));
    let moved = before.iter().filter(|(name, tensor)| values(tensor) != values(&without[*name])).count();
    assert!(moved > 10, "{moved} matrices");
    // Scaled by powers of two, the halves are the same numbers.
    for (name, tensor) in &before {
        assert_eq!(values(tensor), values(&after[name]), "{name}");
    }
    let refusals = [
        (AdapterTable { rank: 3, ..table.clone() }, "is of rank 2, `adapter.rank` is 3"),
        (
            AdapterTable { targets: vec!["q_proj".into()], ..table.clone() },
            "which `adapter.targets` leaves out",
        ),
        (AdapterTable { from: Some(base.output.join("model")), ..table }, "adapter_config.json"),
    ];
    for (adapter, expected) in refusals {
        let error = format!("{:#}", run(&next(adapter)).expect_err(expected));
        assert!(error.contains(expected), "{error}");
    }
}

/// A recipe of an adapter to the model that the run of `recipe` left.
fn adapter_recipe(recipe: &Recipe) -> Recipe {
    let base = recipe.output.join("model");
    Recipe {
        output: recipe.output.with_file_name("adapter"),
        model: ModelTable { directory: base, vocabulary: 300 },
        adapter: Some(AdapterTable { rank: 2, ..AdapterTable::default() }),
        ..recipe.clone()
    }
}

#[test]
fn an_adapter_is_trained_beside_a_model_that_stays_as_it_is() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let results = folders.each_ref().map(|folder| {
        let recipe = tiny_recipe(folder.path());
        let refused = swinseek::train::run(&adapter_recipe(&recipe), &mut |_, _| ControlFlow::Continue(()));
        let refused = format!("{:#}", refused.expect_err("there is no model yet"));
        assert!(refused.contains("run/model"), "{refused}");
        swinseek::train::run(&recipe, &mut |_, _| ControlFlow::Continue(())).expect("a base");
        let base = std::fs::read(recipe.output.join("model/model.safetensors")).expect("weights");
        let recipe = adapter_recipe(&recipe);
        // One run goes through, the other stops and goes on.
        let stop = if folder.path() == folders[0].path() { u64::MAX } else { 3 };
        swinseek::train::run(&recipe, &mut |_, line| {
            if line.step == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .expect("a run");
        swinseek::train::run(&recipe, &mut |_, _| ControlFlow::Continue(())).expect("the rest");
        assert_eq!(std::fs::read(recipe.model.directory.join("model.safetensors")).expect("weights"), base);
        let adapter = recipe.output.join("model");
        let digest = |dir: &Path| swinseek_fusion::load_model(dir, Precision::Bf16).expect("a model").digest;
        assert_ne!(digest(&adapter), digest(&recipe.model.directory));
        std::fs::read(adapter.join("adapter_model.safetensors")).expect("an adapter")
    });
    assert_eq!(results[0], results[1], "the resumed run ends with other additions");
}

/// Recipes in `samples` are read as they are, and each adapter's goes on from the model that the one before leaves.
#[test]
fn the_recipes_of_the_default_model_are_read() {
    let recipe = |name: &str| Recipe::load(&repository("samples/recipes").join(name));
    recipe("default.toml").expect("the recipe of the weights");
    let mut before: Option<Recipe> = None;
    for run in 1..=3 {
        let next = recipe(&format!("adapter-{run}.toml")).expect("a recipe of the adapter");
        let adapter = next.adapter.as_ref().expect("an adapter");
        assert_eq!(adapter.from, before.map(|before| before.output.join("model")), "run {run}");
        before = Some(next);
    }
}

#[test]
fn jitter_beyond_its_range_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(repository("samples/recipes/adapter-3.toml")).expect("a recipe");
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, text.replace("jitter = 0.1", "jitter = 1.5")).expect("written");
    let error = Recipe::load(&path).expect_err("too much");
    let error = format!("{error:#}");
    assert!(error.contains("jitter`: 1.5, expected 0 to 1"), "{error}");
}
