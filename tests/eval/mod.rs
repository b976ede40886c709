//! `swinseek eval` as a person or a script meets it.

mod run;
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A folder of phantom studies, and room for results.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with_phantoms(count: usize, more: &[&str]) -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        let data = folder.path("data");
        let count = count.to_string();
        let base = ["phantom", "--count", &count, "--seed", "77", "--size", "64", "--out", &data];
        let output =
            Command::new(env!("CARGO_BIN_EXE_swinseek")).args(base).args(more).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).expect("JSON")
    }

    /// The command, in this folder: results without `--out` land here too.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_swinseek"));
        command.arg("eval").args(arguments).current_dir(self.0.path());
        for name in ["SWINSEEK_MODEL", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command
    }

    fn eval(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// It ends well, and prints one JSON object.
    #[track_caller]
    fn result(&self, arguments: &[&str]) -> Value {
        let output = self.eval(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", errors(&output));
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }

    /// It ends with `code` and one line that holds every part.
    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str], parts: &[&str]) {
        let output = self.eval(arguments);
        let error = errors(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{arguments:?}: {error}");
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: no `{part}` in {error}");
        }
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What must be the same in two runs: all but where and how fast they were.
fn reproducible(mut result: Value) -> String {
    let entries = result.as_object_mut().expect("an object");
    entries.shift_remove("hardware");
    entries.shift_remove("speed");
    result.to_string()
}

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/model")
}
