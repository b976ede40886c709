//! The rules of the house (`ARCHITECTURE.md`), read from manifests and sources. `cargo tree` hides edges and the compiler
//! does not know which room may open files; this does. Every rule is also run on a planted violation.

use std::collections::BTreeMap;
use std::path::Path;

/// The repository's text files by path, or a made-up one.
type Tree = BTreeMap<String, String>;
type Rule = fn(&Tree) -> Vec<String>;

const ROOMS: [&str; 6] = ["kernels", "vision", "language", "fusion", "evals", "phantom"];

fn read_tree() -> Tree {
    fn walk(folder: &Path, root: &Path, tree: &mut Tree) {
        for entry in std::fs::read_dir(folder).expect("folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap_or_default());
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "goldens" | "fixtures" | "shared" | "runs") {
                    walk(&path, root, tree);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let relative = path.strip_prefix(root).expect("below the root");
                tree.insert(relative.to_string_lossy().replace('\\', "/"), text);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Tree::new();
    walk(root, root, &mut tree);
    tree
}

fn rust_sources(tree: &Tree) -> impl Iterator<Item = (&String, &String)> {
    tree.iter().filter(|(path, _)| has_extension(path, "rs"))
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Lines of `text` that hold `pattern` in code: not in a comment, and before any `#[cfg(test)]` module.
fn code_lines<'a>(text: &'a str, pattern: &'a str) -> impl Iterator<Item = usize> + 'a {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let hit = move |line: &str| line.split("//").next().unwrap_or_default().contains(pattern);
    code.lines().enumerate().filter(move |(_, line)| hit(line)).map(|(number, _)| number + 1)
}

fn forbid(tree: &Tree, patterns: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    // A room's own test modules read goldens.
    let exempt = |path: &str| path == "tests/tidy.rs" || path.ends_with("/tests.rs");
    for (path, text) in rust_sources(tree).filter(|(path, _)| !allowed(path) && !exempt(path)) {
        for pattern in patterns {
            found.extend(
                code_lines(text, pattern)
                    .map(|line| format!("{path}:{line}: `{pattern}` does not belong here")),
            );
        }
    }
    found
}

fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// src -> fusion -> vision, language -> kernels; evals and phantom stand alone.
fn arrows(tree: &Tree) -> Vec<String> {
    let may = |room: &str| -> &[&str] {
        match room {
            "vision" | "language" => &["kernels"],
            "fusion" => &["kernels", "vision", "language"],
            _ => &[],
        }
    };
    let mut found = Vec::new();
    for room in ROOMS {
        let manifest = tree.get(&format!("{room}/Cargo.toml")).map_or("", String::as_str);
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for other in ROOMS {
            if dependencies.contains(&format!("swinseek-{other}"))
                && other != room
                && !may(room).contains(&other)
            {
                found.push(format!("{room}/Cargo.toml: {room} must not know {other}"));
            }
        }
    }
    found
}

fn unsafe_in_kernels_only(tree: &Tree) -> Vec<String> {
    let allowed = |path: &str| room_of(path) == "kernels" || path == "fusion/src/checkpoint/file.rs";
    let mut found = forbid(tree, &["unsafe ", "allow(unsafe_code)", "feature = \"cuda\""], allowed);
    found.extend(
        tree.keys()
            .filter(|p| has_extension(p, "cu") && room_of(p) != "kernels")
            .map(|p| format!("{p}: belongs in kernels")),
    );
    found
}

fn rooms_read_no_files(tree: &Tree) -> Vec<String> {
    let patterns = ["std::fs", "File::open", "fs::read", "OpenOptions"];
    forbid(tree, &patterns, |path| !(path.starts_with("vision/src/") || path.starts_with("language/src/")))
}

fn only_src_knows_environment_and_clock(tree: &Tree) -> Vec<String> {
    let patterns = ["std::env::", "Instant::now", "SystemTime::now", "tokio::", "axum::"];
    // One variable is written, not read, for candle; writing it is unsafe, and unsafe code lives in kernels.
    let exception = "kernels/src/threads.rs";
    forbid(tree, &patterns, |path| {
        path == exception || !ROOMS.contains(&room_of(path)) || !path.contains("/src/")
    })
}

fn evals_load_no_model(tree: &Tree) -> Vec<String> {
    forbid(tree, &["candle", "safetensors"], |path| !path.starts_with("evals/"))
}

fn no_leftovers(tree: &Tree) -> Vec<String> {
    let patterns = ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "thread::sleep"];
    forbid(tree, &patterns, |_| false)
}

fn results_are_printed_by_the_cli_only(tree: &Tree) -> Vec<String> {
    let allowed = |path: &str| {
        path.starts_with("src/cli/")
            || path.contains("/benches/")
            || path.contains("/examples/")
            || path.starts_with("samples/")
            || path.contains("tests/")
            // A build script talks to cargo this way.
            || path == "kernels/build.rs"
    };
    forbid(tree, &["println!(", "print!("], |path| allowed(path) || path == "src/main.rs")
}

/// Files past 600 lines hide more than one thing.
fn files_are_short(tree: &Tree) -> Vec<String> {
    let long = rust_sources(tree).filter(|(_, text)| text.lines().count() > 600);
    long.map(|(path, text)| format!("{path}: {} lines, at most 600", text.lines().count())).collect()
}

/// Files directly below `ops/`; `support` holds no op, and `unfold` is a gather, which has one.
fn every_op_has_a_reference(tree: &Tree) -> Vec<String> {
    let is_op = |path: &str| {
        let name = path.strip_prefix("kernels/src/ops/").filter(|name| !name.contains('/'));
        name.is_some_and(|name| !matches!(name, "mod.rs" | "support.rs" | "unfold.rs"))
    };
    let ops = tree.iter().filter(|(path, _)| is_op(path));
    ops.filter(|(_, text)| !text.contains("_reference"))
        .map(|(path, _)| format!("{path}: no plain reference"))
        .collect()
}

fn shared_maths_exists_once(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["softmax", "layer_norm", "rms_norm", "rope", "gelu", "cross_entropy", "attention"] {
        let pattern = format!("fn {name}(");
        let homes: Vec<&String> = rust_sources(tree)
            .filter(|(path, text)| path.contains("/src/") && code_lines(text, &pattern).next().is_some())
            .map(|(path, _)| path)
            .collect();
        if homes.len() > 1 {
            found.push(format!("`{name}` is defined in {homes:?}"));
        }
    }
    found
}

fn no_machine_paths(tree: &Tree) -> Vec<String> {
    let marks =
        ["/work/", "/farm/", "/root/", "index.crates", "files.pythonhosted", "deb.debian", "registry.npmjs"];
    let mut found = Vec::new();
    for (path, text) in
        tree.iter().filter(|(path, _)| !path.ends_with("Cargo.lock") && path.as_str() != "tests/tidy.rs")
    {
        found.extend(
            marks.iter().filter(|mark| text.contains(**mark)).map(|mark| format!("{path}: `{mark}`")),
        );
    }
    found
}

const RULES: [(&str, Rule, &str, &str); 11] = [
    ("arrows", arrows, "vision/Cargo.toml", "[dependencies]\nswinseek-language.workspace = true\n"),
    ("unsafe", unsafe_in_kernels_only, "fusion/src/model.rs", "fn f() { unsafe { g() } }\n"),
    ("files", rooms_read_no_files, "vision/src/encoder.rs", "let bytes = std::fs::read(path);\n"),
    ("clock", only_src_knows_environment_and_clock, "language/src/sampler.rs", "let now = Instant::now();\n"),
    ("evals", evals_load_no_model, "evals/src/bleu.rs", "use candle_core::Tensor;\n"),
    ("leftovers", no_leftovers, "src/lib.rs", "fn f() { todo!() }\n"),
    ("print", results_are_printed_by_the_cli_only, "fusion/src/model.rs", "println!(\"x\");\n"),
    ("length", files_are_short, "fusion/src/model.rs", ""),
    ("reference", every_op_has_a_reference, "kernels/src/ops/fast.rs", "pub fn fast() {}\n"),
    ("once", shared_maths_exists_once, "vision/src/extra.rs", "pub fn softmax(x: f32) {}\n"),
    ("paths", no_machine_paths, "README.md", "see /root/x\n"),
];

#[test]
fn the_house_is_tidy() {
    let tree = read_tree();
    assert!(tree.len() > 50, "the tree was not read: {} files", tree.len());
    let broken: Vec<String> = RULES
        .iter()
        .flat_map(|(name, rule, _, _)| rule(&tree).into_iter().map(move |b| format!("{name}: {b}")))
        .collect();
    assert!(broken.is_empty(), "{} rules are broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    for (name, rule, path, planted) in RULES {
        let text = if planted.is_empty() { "//\n".repeat(601) } else { planted.to_owned() };
        let mut tree = Tree::from([(path.to_owned(), text)]);
        tree.insert(
            "kernels/src/ops/activation.rs".to_owned(),
            "pub fn softmax() {} // softmax_reference\n".to_owned(),
        );
        assert!(!rule(&tree).is_empty(), "`{name}` does not see its planted violation");
    }
}
