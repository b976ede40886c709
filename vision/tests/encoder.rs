//! The encoders against outputs of `transformers` and `timm`, and properties that hold without a reference.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use serde_json::{Value, json};
use swinseek_kernels::{Error, Init, Precision, Result, TensorSource, Trace, Weights};
use swinseek_vision::{Encoder, VisionConfig};

/// The references' own bound: their outputs move by up to half of it when each weight moves by one part in 1e7.
const TOLERANCE: f32 = 2e-5;

/// A checkpoint in memory.
struct Checkpoint(HashMap<String, Tensor>);

impl TensorSource for Checkpoint {
    fn tensor(&self, name: &str, shape: &[usize], _init: Init) -> Result<Tensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        if tensor.dims() == shape {
            return Ok(tensor.clone());
        }
        let (expected, found) = (shape.to_vec(), tensor.dims().to_vec());
        Err(Error::Shape { name: name.to_owned(), expected, found })
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.0.get(name).map(|tensor| tensor.dims().to_vec())
    }
}

/// Variables made on demand, as a trainer makes them, with random values.
#[derive(Default)]
struct Variables(Mutex<BTreeMap<String, Var>>);

impl Variables {
    fn all(&self) -> BTreeMap<String, Var> {
        self.0.lock().unwrap().clone()
    }
}

impl TensorSource for Variables {
    fn tensor(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let mut variables = self.0.lock().unwrap();
        if let Some(variable) = variables.get(name) {
            return Ok(variable.as_tensor().clone());
        }
        // Wider than what training starts from, at which Swin v2 normalises outputs hardly above epsilon.
        let (centre, spread) = match init {
            Init::Const(value) => (value, 0.05),
            Init::Normal { std } => (0.0, 10.0 * std),
        };
        let variable = Var::from_tensor(&noise(shape, variables.len() as u64).affine(spread, centre)?)?;
        variables.insert(name.to_owned(), variable.clone());
        Ok(variable.as_tensor().clone())
    }

    fn shape(&self, _name: &str) -> Option<Vec<usize>> {
        None
    }
}

/// Values of about unit variance from a fixed linear congruential generator.
fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let count = shape.iter().product();
    // A uniform value of width 1 has variance 1/12.
    let values: Vec<f32> = (0..count).map(|_| next() * 12f32.sqrt()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn shared(case: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/goldens")).join(case)
}

fn own(case: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens")).join(case)
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

fn encoder(folder: &Path) -> Encoder {
    let weights =
        Weights::new(Arc::new(Checkpoint(tensors(&folder.join("model.safetensors")))), Precision::F32);
    Encoder::new(&VisionConfig::from_json(&config(folder)).unwrap(), &weights).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

/// Runs every `pixel_values` of a golden file and compares every other tensor whose name starts with `prefix`.
#[track_caller]
fn check(folder: &Path, encoder: &Encoder, prefix: &str) {
    let golden = tensors(&folder.join("golden.safetensors"));
    let mut trace = Trace::all();
    let inputs = || golden.iter().filter_map(|(name, x)| Some((name.strip_suffix("pixel_values")?, x)));
    for (run, pixels) in inputs() {
        trace.set_prefix(&format!("{run}{prefix}"));
        encoder.forward(pixels, &mut trace).unwrap();
    }
    let mut compared = 0;
    for (name, expected) in &golden {
        if name.ends_with("pixel_values") || !name.starts_with(prefix) {
            continue;
        }
        let found = trace.get(name).unwrap_or_else(|| panic!("{name} was not recorded"));
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let difference = distance(found, expected);
        assert!(difference <= TOLERANCE, "{name} differs by {difference:e}");
        compared += 1;
    }
    assert!(compared >= 3, "only {compared} tensors to compare");
}

macro_rules! goldens {
    ($($folder:ident: $($case:ident)*;)*) => {
        mod golden {
            $($(#[test] fn $case() {
                let folder = super::$folder(stringify!($case));
                super::check(&folder, &super::encoder(&folder), "");
            })*)*
        }
    };
}

goldens! {
    shared: swin swin_large_window swin_cls swinv2 swinv2_large_window swinv2_rect swinv2_clamp donut_swin
        timm_swin timm_swinv2;
    // Made with transformers 5.23.0 and timm 1.0.31 in the same way: a backbone with norms and shifted small windows,
    // absolute positions with interpolation, timm's per-stage rectangular windows, `head_dim` and v2 arguments, and a
    // `logit_scale` so high that it shows how often transformers adds the shift mask of Swin v2.
    own: swin_backbone swin_positions timm_swin_windows timm_swinv2_partition swinv2_sharp;
}

#[test]
fn golden_of_the_encoder_inside_donut() {
    let folder = shared("donut");
    let checkpoint = Checkpoint(tensors(&folder.join("model.safetensors")));
    let config = VisionConfig::from_json(&config(&folder)["encoder"]).unwrap();
    let weights = Weights::new(Arc::new(checkpoint), Precision::F32);
    check(&folder, &Encoder::new(&config, &weights).unwrap(), "encoder.");
    Encoder::new(&config, &weights.pp("encoder")).expect("the prefix may be given too");
}

#[test]
fn files_of_the_original_repository_merge_at_the_end_of_a_stage() {
    let folder = shared("timm_swin");
    let original = |name: &str| {
        let name = name.replace("head.fc.", "head.");
        name.replace("layers.1.downsample", "layers.0.downsample")
            .replace("layers.2.downsample", "layers.1.downsample")
    };
    let renamed =
        tensors(&folder.join("model.safetensors")).into_iter().map(|(name, x)| (original(&name), x));
    let weights = Weights::new(Arc::new(Checkpoint(renamed.collect())), Precision::F32);
    let config = VisionConfig::from_json(&config(&folder)).unwrap();
    check(&folder, &Encoder::new(&config, &weights).unwrap(), "");
}

#[test]
fn stages_are_the_pyramid_before_merging() {
    let folder = shared("swin");
    let golden = tensors(&folder.join("golden.safetensors"));
    let output = encoder(&folder).forward(&golden["rect.pixel_values"], &mut Trace::off()).unwrap();
    let maps: Vec<_> = output.stages.iter().map(|s| (s.height, s.width, s.tokens.dims().to_vec())).collect();
    // 25 x 35 pixels in patches of 2, rounded up at each step.
    let expected = [(13, 18, vec![1, 234, 12]), (7, 9, vec![1, 63, 24]), (4, 5, vec![1, 20, 48])];
    assert_eq!(maps, expected);
    assert!(distance(&output.stages[2].tokens, &golden["rect.last_hidden_state"]) <= TOLERANCE);
}

#[test]
fn a_batch_is_its_rows() {
    for case in ["swin", "swinv2", "timm_swinv2", "donut_swin"] {
        let encoder = encoder(&shared(case));
        let pixels = noise(&[2, 3, 27, 41], 5);
        let both = encoder.forward(&pixels, &mut Trace::off()).unwrap().last_hidden_state;
        for row in 0..2 {
            let one = encoder.forward(&pixels.narrow(0, row, 1).unwrap(), &mut Trace::off()).unwrap();
            let gap = distance(&both.narrow(0, row, 1).unwrap(), &one.last_hidden_state);
            // The same arithmetic; only the summation order of a product may depend on the number of rows.
            assert!(gap <= 2e-6, "{case} row {row}: {gap:e}");
        }
    }
}

/// Small configurations of every kind, without weights.
fn kinds() -> Vec<Value> {
    let sizes = json!({"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4],
        "window_size": 4});
    let with = |extra: Value| {
        let mut config = sizes.clone();
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        config
    };
    let timm =
        json!({"img_size": 32, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4});
    vec![
        with(json!({"model_type": "swin", "use_absolute_embeddings": true})),
        with(json!({"model_type": "donut-swin", "hidden_act": "quick_gelu"})),
        with(
            json!({"model_type": "swinv2", "stem": {"type": "conv", "channels": [6, 7, 8], "strides": [2, 1, 2]}}),
        ),
        with(json!({"model_type": "swin", "architectures": ["SwinForImageClassification"], "num_labels": 3,
            "stem": {"type": "conv", "channels": [4, 8], "strides": [2, 2]}})),
        json!({"architecture": "swin_tiny_patch4_window7_224", "num_classes": 3, "model_args": timm}),
        json!({"architecture": "swinv2_tiny_window8_256", "num_classes": 0, "model_args": timm}),
    ]
}

fn fresh(config: &Value) -> (Arc<Variables>, Encoder) {
    let variables = Arc::new(Variables::default());
    let weights = Weights::new(variables.clone(), Precision::F32);
    let encoder = Encoder::new(&VisionConfig::from_json(config).unwrap(), &weights).unwrap();
    (variables, encoder)
}

/// A scalar that depends on all outputs (a plain sum after a norm would be constant).
fn loss(encoder: &Encoder, pixels: &Tensor) -> Tensor {
    let output = encoder.forward(pixels, &mut Trace::off()).unwrap();
    let weigh = |x: &Tensor| (x * noise(x.dims(), 11)).unwrap().sum_all().unwrap();
    match &output.logits {
        Some(logits) => (weigh(&output.last_hidden_state) + weigh(logits)).unwrap(),
        None => weigh(&output.last_hidden_state),
    }
}

#[test]
fn gradients_reach_every_parameter() {
    let pixels = noise(&[2, 3, 30, 35], 3);
    for config in kinds() {
        let (variables, encoder) = fresh(&config);
        let grads = loss(&encoder, &pixels).backward().unwrap();
        for (name, variable) in variables.all() {
            let grad = grads.get(&variable).unwrap_or_else(|| panic!("{config}: no gradient for {name}"));
            let largest = distance(grad, &grad.zeros_like().unwrap());
            // Softmax cancels a key bias of dot-product attention; everything else must matter.
            assert!(
                largest > 1e-6 || name.ends_with("key.bias"),
                "{config}: gradient of {name} is {largest:e}"
            );
        }
    }
}

/// Gradients that PyTorch's autograd computed in f64 for `sum(last_hidden_state · probe)`.
#[test]
fn gradients_equal_pytorch() {
    for case in ["swin_positions", "timm_swinv2_partition"] {
        let folder = own(case);
        let variables = Arc::new(Variables::default());
        for (name, tensor) in tensors(&folder.join("model.safetensors")) {
            variables.0.lock().unwrap().insert(name, Var::from_tensor(&tensor).unwrap());
        }
        let weights = Weights::new(variables.clone(), Precision::F32);
        let encoder = Encoder::new(&VisionConfig::from_json(&config(&folder)).unwrap(), &weights).unwrap();
        let expected = tensors(&folder.join("gradients.safetensors"));
        let output = encoder.forward(&expected["pixel_values"], &mut Trace::off()).unwrap();
        let loss = (output.last_hidden_state * &expected["probe"]).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        for (name, variable) in variables.all().iter().filter(|(name, _)| !name.starts_with("head.")) {
            let expected = &expected[name];
            let largest = distance(expected, &expected.zeros_like().unwrap());
            let gap = distance(grads.get(variable).unwrap(), expected);
            // f32 sums over all tokens and windows, which cancel to nothing for some biases.
            assert!(gap <= 5e-5 * largest.max(1.0), "{case} {name}: {gap:e} of {largest:e}");
        }
    }
}

#[test]
fn an_encoder_follows_its_variables() {
    let pixels = noise(&[1, 3, 30, 35], 4);
    for config in kinds() {
        let (variables, encoder) = fresh(&config);
        for variable in variables.all().values() {
            let moved = (variable.as_tensor() + noise(variable.dims(), 8).affine(0.1, 0.0).unwrap()).unwrap();
            variable.set(&moved).unwrap();
        }
        let weights = Weights::new(variables.clone(), Precision::F32);
        let rebuilt = Encoder::new(encoder.config(), &weights).unwrap();
        let run = |encoder: &Encoder| encoder.forward(&pixels, &mut Trace::off()).unwrap().last_hidden_state;
        assert_eq!(distance(&run(&encoder), &run(&rebuilt)), 0.0, "{config}: a stale copy of a parameter");
    }
}

proptest! {
    // Each case runs a whole (tiny) encoder.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_image_size_works(kind in 0usize..6, height in 1usize..50, width in 1usize..50) {
        let (_, encoder) = fresh(&kinds()[kind]);
        let output = encoder.forward(&noise(&[1, 3, height, width], 7), &mut Trace::off()).unwrap();
        let (rows, columns) = encoder.config().grid(height, width);
        prop_assert_eq!((output.stages[0].height, output.stages[0].width), (rows, columns));
        let last = rows.div_ceil(2) * columns.div_ceil(2);
        prop_assert_eq!(output.last_hidden_state.dims(), &[1, last, 16]);
        let sum = output.last_hidden_state.abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        prop_assert!(sum.is_finite());
    }
}

#[test]
fn a_convolution_stem_is_a_convolution() {
    let config = json!({"model_type": "swinv2", "image_size": 16, "patch_size": 4, "embed_dim": 8, "depths": [1],
        "num_heads": [2], "window_size": 4, "stem": {"type": "conv", "channels": [6, 7, 8], "strides": [2, 1, 2]}});
    let (variables, encoder) = fresh(&config);
    let variables = variables.all();
    let pixels = noise(&[1, 3, 13, 18], 9);
    // The same by candle's own convolution: the weight is (out, kernel row, kernel column, in).
    let conv = |x: &Tensor, layer: usize, stride: usize| {
        let weight = variables[&format!("embeddings.stem.{layer}.weight")].as_tensor();
        let (out, inner) = weight.dims2().unwrap();
        let kernel = weight.reshape((out, 3, 3, inner / 9)).unwrap().permute((0, 3, 1, 2)).unwrap();
        x.conv2d(&kernel.contiguous().unwrap(), 1, stride, 1, 1).unwrap()
    };
    // Over positions in the stem, over channels behind it.
    let norm = |x: &Tensor, name: &str, dims: &[usize]| {
        let mean = |x: &Tensor| dims.iter().fold(x.clone(), |x, &dim| x.mean_keepdim(dim).unwrap());
        let centred = x.broadcast_sub(&mean(x)).unwrap();
        let variance = mean(&centred.sqr().unwrap());
        let parameter =
            |leaf: &str| variables[&format!("embeddings.{name}.{leaf}")].reshape((1, (), 1, 1)).unwrap();
        let normed = centred.broadcast_div(&(variance + 1e-5).unwrap().sqrt().unwrap()).unwrap();
        normed.broadcast_mul(&parameter("weight")).unwrap().broadcast_add(&parameter("bias")).unwrap()
    };
    let mut hidden = pixels.clone();
    for (layer, stride) in [2, 1, 2].into_iter().enumerate() {
        let y = conv(&hidden, layer, stride);
        hidden = norm(&y, &format!("stem.{layer}.norm"), &[2, 3]).gelu_erf().unwrap();
    }
    let expected = norm(&hidden, "norm", &[1]).flatten_from(2).unwrap().transpose(1, 2).unwrap();
    let mut trace = Trace::all();
    encoder.forward(&pixels, &mut trace).unwrap();
    let found = trace.get("embeddings").unwrap();
    assert_eq!(found.dims(), [1, 4 * 5, 8]);
    // Two short sums in another order, divided by a small standard deviation.
    assert!(distance(found, &expected) <= 1e-4);
}

#[track_caller]
fn refuses(config: &Value, field: &str, part: &str) {
    match VisionConfig::from_json(config) {
        Err(Error::Config { field: found, message }) => {
            assert_eq!(found, field, "{message}");
            assert!(message.contains(part), "{message}");
        }
        other => panic!("{config}: {other:?}"),
    }
}

#[test]
fn a_bad_field_is_named() {
    let swin = |field: &str, value: Value| json!({"model_type": "swin", field: value});
    let timm = |field: &str, value: Value| json!({"architecture": "swin_tiny_patch4_window7_224", "model_args": {field: value}});
    refuses(&json!([1]), "vision", "object");
    refuses(&json!({}), "model_type", "nothing");
    refuses(&json!({"model_type": "vit"}), "model_type", "`vit`");
    refuses(&json!({"architecture": "vit_tiny"}), "architecture", "`vit_tiny`");
    refuses(&swin("hidden_act", json!("mish9")), "hidden_act", "`mish9`");
    refuses(&swin("depths", json!([2, 0])), "depths", "[2,0]");
    refuses(&swin("depths", json!([])), "depths", "0 stages");
    refuses(&swin("num_heads", json!([3, 6])), "num_heads", "expected 4");
    refuses(&swin("num_heads", json!([5, 6, 12, 24])), "num_heads", "divisor");
    refuses(&swin("window_size", json!(100)), "window_size", "100 x 100");
    refuses(&swin("embed_dim", json!(1e9)), "embed_dim", "whole number");
    refuses(&swin("image_size", json!([32])), "image_size", "[height, width]");
    refuses(&swin("image_size", json!(3)), "image_size", "patch");
    refuses(&swin("mlp_ratio", json!(-1)), "mlp_ratio", "above 0");
    refuses(&swin("stem", json!({"type": "resnet"})), "stem.type", "`resnet`");
    let conv = |channels: Value, strides: Value| {
        swin("stem", json!({"type": "conv", "channels": channels, "strides": strides}))
    };
    refuses(&conv(json!([48, 96]), json!([2, 1])), "stem.strides", "expected the patch size");
    refuses(&conv(json!([48, 96]), json!([2, 3])), "stem.strides", "1 or 2");
    refuses(&conv(json!([48, 96]), json!([2])), "stem.strides", "2 times");
    refuses(&conv(json!([48, 90]), json!([2, 2])), "stem.channels", "embed_dim = 96");
    refuses(&conv(json!([]), json!([])), "stem.channels", "one per convolution");
    refuses(
        &json!({"model_type": "swinv2", "use_absolute_embeddings": true}),
        "use_absolute_embeddings",
        "swin",
    );
    refuses(&timm("window_size", json!([7, 7, 7])), "model_args.window_size", "4 stages");
    refuses(&timm("norm_layer", json!("rmsnorm")), "model_args.norm_layer", "not an argument");
}

#[test]
fn named_architectures_have_their_sizes() {
    let read = |name: &str| VisionConfig::from_json(&json!({"architecture": name})).unwrap();
    let tiny = read("swin_tiny_patch4_window7_224.ms_in1k");
    assert_eq!((tiny.embed_dim, tiny.hidden_size(), tiny.window(3)), (96, 768, (7, 7)));
    let large = read("swinv2_large_window12to24_192to384.ms_in22k_ft_in1k");
    assert_eq!((large.embed_dim, &large.num_heads[..]), (192, &[6, 12, 24, 48][..]));
    assert_eq!((large.image_size, large.window(2), large.window(3)), ((384, 384), (24, 24), (12, 12)));
    assert_eq!(large.pretrained_window_sizes[3], (6, 6));
    assert_eq!(read("swin_s3_tiny_224").window_sizes[2], (14, 14));
}

#[test]
fn bad_checkpoints_and_pixels_are_refused() {
    let folder = shared("swin_cls");
    let config = VisionConfig::from_json(&config(&folder)).unwrap();
    let build = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut tensors = tensors(&folder.join("model.safetensors"));
        change(&mut tensors);
        Encoder::new(&config, &Weights::new(Arc::new(Checkpoint(tensors)), Precision::F32)).map(|_| ())
    };
    let table = "swin.encoder.layers.1.blocks.0.attention.self.relative_position_bias_table";
    for name in [table, "classifier.weight", "swin.layernorm.bias"] {
        let error = build(&|t| drop(t.remove(name))).unwrap_err();
        assert!(matches!(&error, Error::MissingTensor { name: found } if found == name), "{error}");
    }
    let error = build(&|t| drop(t.insert(table.to_owned(), noise(&[25, 4], 1)))).unwrap_err();
    assert!(error.to_string().contains(table), "{error}");
    let gray = Tensor::zeros((1, 1, 32, 32), DType::F32, &Device::Cpu).unwrap();
    let error = encoder(&folder).forward(&gray, &mut Trace::off()).unwrap_err();
    assert!(error.to_string().contains("expected (batch, 3, height, width)"), "{error}");
}
