//! Every tensor that the reference implementations recorded.

use candle_core::{D, Tensor};
use swinseek_kernels::Trace;
use swinseek_language::{Cache, Context, NoHook};

use crate::support::{Case, assert_close, assert_close_where_real, full_pass};

const RUNS: [&str; 4] = ["left.", "right.", "greedy.", "text_only."];

fn check(name: &str) {
    let case = Case::load(name);
    main_run(&case);
    padded(&case, "left.");
    padded(&case, "right.");
    if case.golden.contains_key("greedy.prompt_ids") {
        greedy(&case);
    }
}

fn main_run(case: &Case) {
    let mut trace = Trace::all();
    let hidden = full_pass(&case.decoder, &case.ids("input_ids"), &Context::causal(), &mut trace);
    if case.decoder.has_head() {
        trace.record("logits", &case.decoder.lm_head(&hidden).unwrap());
    } else {
        assert!(case.decoder.lm_head(&hidden).is_err());
        trace.record("last_hidden_state", &hidden);
    }
    let outputs = case
        .golden
        .iter()
        .filter(|(name, _)| *name != "input_ids" && !RUNS.iter().any(|r| name.starts_with(r)));
    let mut compared = 0;
    for (name, expected) in outputs {
        let found = trace.get(name).unwrap_or_else(|| panic!("{name} is not in the trace"));
        assert_close(name, found, expected);
        compared += 1;
    }
    assert!(compared >= case.config.num_hidden_layers + 3, "{compared} tensors compared");
}

fn padded(case: &Case, run: &str) {
    let of_run = |name: &str| &case.golden[&format!("{run}{name}")];
    let mask = of_run("attention_mask");
    let ids = case.ids(&format!("{run}input_ids"));
    let derived = Context::masked(mask).unwrap();
    let stated = derived.clone().with_positions(of_run("position_ids")).unwrap();
    for context in [derived, stated] {
        let hidden = full_pass(&case.decoder, &ids, &context, &mut Trace::off());
        let (name, found) = if case.decoder.has_head() {
            ("logits", case.decoder.lm_head(&hidden).unwrap())
        } else {
            ("last_hidden_state", hidden)
        };
        assert_close_where_real(&format!("{run}{name}"), &found, of_run(name), mask);
        let sum: f32 = found.sum_all().unwrap().to_scalar().unwrap();
        assert!(sum.is_finite(), "padded rows must be finite");
    }
}

fn greedy(case: &Case) {
    let expected: Vec<u32> = case.ids("greedy.new_ids").get(0).unwrap().to_vec1().unwrap();
    let mut cache = Cache::new(&case.config);
    let mut ids = case.ids("greedy.prompt_ids");
    let mut steps = Vec::new();
    for &new in &expected {
        let embedded = case.decoder.embed(&ids).unwrap();
        let context = Context::causal();
        let hidden =
            case.decoder.forward(&embedded, &context, Some(&mut cache), &NoHook, &mut Trace::off()).unwrap();
        let last = hidden.narrow(1, hidden.dim(1).unwrap() - 1, 1).unwrap();
        let logits = case.decoder.lm_head(&last).unwrap().flatten_all().unwrap();
        assert_eq!(
            logits.argmax(D::Minus1).unwrap().to_scalar::<u32>().unwrap(),
            new,
            "token {}",
            steps.len()
        );
        steps.push(logits);
        ids = Tensor::new(&[[new]], ids.device()).unwrap();
    }
    assert_close(
        "greedy.step_logits",
        &Tensor::stack(&steps, 0).unwrap(),
        &case.golden["greedy.step_logits"],
    );
}

macro_rules! golden {
    ($($case:ident),*) => { $(
        #[test]
        fn $case() {
            check(stringify!($case));
        }
    )* };
}

golden!(
    llama_mha,
    llama_gqa,
    deepseek_moe,
    deepseek_moe_hub,
    deepseek_v2,
    deepseek_v2_lite,
    deepseek_v3,
    deepseek_v3_yarn,
    deepseek_v32
);

/// Without a memory the cross layers of mllama are skipped; what they do with one is the fusion room's.
#[test]
fn mllama_text_only() {
    let case = Case::load("mllama_text");
    assert_eq!(case.config.cross_attention_layers(), [1, 3]);
    let mut trace = Trace::all();
    let hidden = full_pass(&case.decoder, &case.ids("input_ids"), &Context::causal(), &mut trace);
    assert_close(
        "text_only.logits",
        &case.decoder.lm_head(&hidden).unwrap(),
        &case.golden["text_only.logits"],
    );
    assert_close("hidden.1", trace.get("hidden.1").unwrap(), &case.golden["hidden.1"]);
    assert_close("hidden.2", trace.get("hidden.2").unwrap(), trace.get("hidden.1").unwrap());
}
