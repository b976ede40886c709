//! The arithmetic of the CUDA kernels, without a GPU: `cuda/host/device.h` makes ordinary C++ of the same sources, and the
//! programs in `cuda/tests` compare them with plain f64 references on random and odd shapes, under three orders of threads.
//!
//! Needs a C++17 compiler (`$CXX`, `c++`, `g++` or `clang++`); where there is none the tests say so and pass. With
//! `SWINSEEK_KERNEL_CHECKS=all`, as in CI, that is a failure, and two more things run: the programs under
//! `AddressSanitizer`, and the programs on kernels with one planted bug each, all of which must be caught.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use rayon::prelude::*;

const PROGRAMS: [&str; 10] = [
    "activation",
    "causal_attention",
    "cross_attention",
    "mla_decode",
    "moe",
    "norms",
    "quant_linear",
    "rope",
    "sampling",
    "window_attention",
];

/// A change to one file, and the program that must notice.
struct Bug {
    what: &'static str,
    program: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    /// Only `AddressSanitizer` can see it: what is read too much is multiplied by zero.
    sanitize: bool,
}

const fn bug(
    what: &'static str,
    program: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Bug {
    Bug { what, program, file, from, to, sanitize: false }
}

const BUGS: [Bug; 34] = [
    bug(
        "shift mask off by one",
        "window_attention",
        "window_attention.cu",
        "(at >= size - shift)",
        "(at > size - shift)",
    ),
    bug(
        "bias off by one",
        "window_attention",
        "window_attention.cu",
        "+ map.window_columns - 1;",
        "+ map.window_columns;",
    ),
    bug(
        "padding taken for zeros",
        "window_attention",
        "window_attention.cu",
        "return pad ? pad + inside : nullptr",
        "return nullptr",
    ),
    bug(
        "roll by the unpadded height",
        "window_attention",
        "window_attention.cu",
        "% padded_rows,",
        "% map.rows,",
    ),
    bug(
        "no barrier before a tile of keys",
        "causal_attention",
        "attention.cuh",
        "__syncthreads();  // the tile before has been read",
        "",
    ),
    bug(
        "no barrier before lengths are used",
        "window_attention",
        "attention.cuh",
        "inverse_lengths<D>(k, k_inverse);\n            __syncthreads();",
        "inverse_lengths<D>(k, k_inverse);",
    ),
    bug(
        "keys beyond the last are scored",
        "cross_attention",
        "attention.cuh",
        "there(j) ? problem.score(x, query[r], key) : -infinity()",
        "problem.score(x, query[r], key)",
    ),
    bug(
        "sums of half a row",
        "cross_attention",
        "attention.cuh",
        "return combine(x, __shfl_xor_sync(ALL_LANES, x, 2));",
        "return x;",
    ),
    bug(
        "earlier tiles keep their scale",
        "cross_attention",
        "attention.cuh",
        "result[n][2 * r + 1] *= correction;",
        "",
    ),
    bug(
        "elements beyond the head",
        "causal_attention",
        "types.cuh",
        "2 * i + 1 < count ? from[2 * i + 1].bits : 0",
        "from[2 * i + 1].bits",
    ),
    bug(
        "causal mask off by one",
        "causal_attention",
        "heads.cuh",
        "return j <= q.last_key",
        "return j < q.last_key",
    ),
    bug(
        "range of keys off by one",
        "causal_attention",
        "heads.cuh",
        "last_key = seen + 1",
        "last_key = seen",
    ),
    bug(
        "wrong query head of a group",
        "causal_attention",
        "heads.cuh",
        "return first_head + (first_row + i) % group",
        "return first_head + i % group",
    ),
    bug(
        "parts weighted alike",
        "causal_attention",
        "attention_combine.cu",
        "exp2_fast(x - greatest) * statistic(s, 1)",
        "statistic(s, 1)",
    ),
    bug(
        "probabilities of absent keys unwritten",
        "cross_attention",
        "cross_attention.cu",
        "p.probability(i / absent, p.last_key + i % absent, 0.0f)",
        "(void)i",
    ),
    bug("copies not waited for", "mla_decode", "mla_decode.cu", "copy_wait<1>()", "copy_wait<2>()"),
    bug(
        "no barrier before a tile is replaced",
        "mla_decode",
        "mla_decode.cu",
        "__syncthreads();  // the next tile but one takes this one's place",
        "",
    ),
    bug("tokens beyond the last are scored", "mla_decode", "mla_decode.cu", "first + i < count ?", "true ?"),
    bug("half of the depth", "mla_decode", "mla_decode.cu", "(at[0] + at[HEADS * SCORE_STRIDE])", "(at[0])"),
    bug(
        "no barrier after a reduction",
        "norms",
        "types.cuh",
        "// The scratch may be written again as soon as this returns.\n    __syncthreads();",
        "",
    ),
    bug(
        "variance not centred",
        "norms",
        "norms.cu",
        "float centred = row[i] - centre;",
        "float centred = row[i];",
    ),
    bug("last element left out", "activation", "activation.cu", "i < count;", "i + 1 < count;"),
    bug(
        "rotation the other way",
        "rope",
        "rope.cu",
        "u * cos[angle] - v * sin[angle]",
        "u * cos[angle] + v * sin[angle]",
    ),
    bug(
        "no barrier after the buckets are cleared",
        "sampling",
        "sampling.cu",
        "shared.buckets[i] = 0;\n        __syncthreads();",
        "shared.buckets[i] = 0;",
    ),
    bug(
        "ties to the higher index",
        "sampling",
        "sampling.cu",
        "static_cast<u32>(~token);",
        "static_cast<u32>(token ^ 0x40000000);",
    ),
    bug("one token too many", "sampling", "sampling.cu", "top_k - 1, one", "top_k, one"),
    bug("top-p of everything", "sampling", "sampling.cu", "if (place(token) < cut) return 0;", ""),
    bug(
        "no barrier between stages",
        "quant_linear",
        "gemm.cuh",
        "put(stage + 1);\n        __syncthreads();",
        "put(stage + 1);",
    ),
    bug(
        "halves of a group swapped",
        "quant_linear",
        "weights.cuh",
        "(k % 32 < 16 ? 0 : 4)",
        "(k % 32 < 16 ? 4 : 0)",
    ),
    Bug {
        sanitize: true,
        ..bug(
            "depth beyond the row",
            "quant_linear",
            "weights.cuh",
            "x[i] = k + i < in ? from[i] : 0;\n        }\n        Vec r;",
            "x[i] = from[i];\n        }\n        Vec r;",
        )
    },
    bug(
        "rows of another expert",
        "moe",
        "moe.cu",
        "smaller(gemm::ROWS, offsets[expert + 1] - at)",
        "gemm::ROWS",
    ),
    bug("one expert too many", "moe", "moe.cu", "better < r.top_k", "better <= r.top_k"),
    bug(
        "no barrier between chunks of pairs",
        "moe",
        "moe.cu",
        "__syncthreads();  // the counts have been read",
        "",
    ),
    bug(
        "gates from the wrong columns",
        "moe",
        "gemm.cuh",
        "column % 32 < 16 ? output : output + inner",
        "column % 32 < 16 ? output + inner : output",
    ),
];

fn everything_is_asked_for() -> bool {
    env::var("SWINSEEK_KERNEL_CHECKS").is_ok_and(|value| value == "all")
}

/// The first C++ compiler that answers.
fn compiler() -> Option<String> {
    let named = env::var("CXX").into_iter();
    let mut candidates = named.chain(["c++", "g++", "clang++"].map(str::to_owned));
    let found = candidates
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success()));
    if found.is_none() {
        assert!(!everything_is_asked_for(), "no C++ compiler was found");
        println!("no C++ compiler was found: the CUDA kernels' arithmetic was not tested");
    }
    found
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda")
}

/// A folder of this test's own, empty.
fn fresh_folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda_host").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Compiles `tests/<program>.cpp` of `sources` and runs it; the error is the compiler's.
fn run(
    compiler: &str,
    sources: &Path,
    program: &str,
    folder: &Path,
    sanitize: bool,
) -> Result<Output, String> {
    let binary = folder.join(program);
    let mut compile = Command::new(compiler);
    compile.args(["-std=c++17", "-O1", "-DCUDA_ON_HOST"]);
    // Unknown: `#pragma unroll`. Unused: a program need not launch all kernels of its file.
    compile.args(["-Wall", "-Wextra", "-Wno-unknown-pragmas", "-Wno-unused-function"]);
    if sanitize {
        compile.args(["-fsanitize=address", "-g1"]);
    }
    compile.arg(sources.join("tests").join(program).with_extension("cpp")).arg("-o").arg(&binary);
    let output = compile.output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut program = Command::new(&binary);
    if sanitize {
        // Fibers leave their stacks in ways that these two checks do not understand.
        program.arg("one order").env("ASAN_OPTIONS", "detect_leaks=0:detect_stack_use_after_return=0");
    }
    program.output().map_err(|e| e.to_string())
}

fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}: {out}{err}", output.status)
}

fn all_programs_pass(sanitize: bool) {
    let Some(compiler) = compiler() else { return };
    let folder = fresh_folder(if sanitize { "sanitized" } else { "plain" });
    let failed: Vec<String> = PROGRAMS
        .par_iter()
        .filter_map(|program| match run(&compiler, &sources(), program, &folder, sanitize) {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(format!("{program}: {}", text(&output))),
            Err(error) => Some(format!("{program} does not compile: {error}")),
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn kernels_agree_with_plain_references() {
    all_programs_pass(false);
}

#[test]
fn kernels_stay_inside_their_buffers() {
    if everything_is_asked_for() {
        all_programs_pass(true);
    }
}

/// `cuda` with `bug` in it.
fn planted(bug: &Bug, folder: &Path) -> PathBuf {
    for part in ["", "host", "tests"] {
        fs::create_dir_all(folder.join(part)).unwrap();
        for entry in fs::read_dir(sources().join(part)).unwrap().flatten().filter(|e| e.path().is_file()) {
            fs::copy(entry.path(), folder.join(part).join(entry.file_name())).unwrap();
        }
    }
    let file = folder.join(bug.file);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.matches(bug.from).count(), 1, "{}: `{}` in {}", bug.what, bug.from, bug.file);
    fs::write(file, text.replace(bug.from, bug.to)).unwrap();
    folder.to_owned()
}

#[test]
fn every_planted_bug_has_its_place() {
    let folder = fresh_folder("places");
    for bug in &BUGS {
        planted(bug, &folder);
    }
}

#[test]
fn planted_bugs_are_caught() {
    if !everything_is_asked_for() {
        return;
    }
    let Some(compiler) = compiler() else { return };
    let folder = fresh_folder("planted");
    let missed: Vec<String> = BUGS
        .par_iter()
        .enumerate()
        .filter_map(|(i, bug)| {
            let folder = folder.join(i.to_string());
            match run(&compiler, &planted(bug, &folder), bug.program, &folder, bug.sanitize) {
                Ok(output) if output.status.success() => Some(format!("not caught: {}", bug.what)),
                Ok(_) => None,
                Err(error) => Some(format!("does not compile: {}: {error}", bug.what)),
            }
        })
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
