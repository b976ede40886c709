//! Settings and recipes: TOML files that a person wrote, with errors that name the line.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::de::DeserializeOwned;

/// Reads a file.
///
/// # Errors
/// One line that names the file, the line and what is wrong there.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot be read"))?;
    toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        anyhow!("{name}: line {line}: {}", error.message().replace('\n', " "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "read by no one")]
    struct Table {
        #[serde(default)]
        number: u32,
    }

    #[test]
    fn errors_name_the_line_and_what_is_expected_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.toml");
        for (text, expected) in [
            ("# first\nnumbre = 1\n", "x.toml: line 2: unknown field `numbre`, expected `number`"),
            ("\n\nnumber = \"a\"", "x.toml: line 3: invalid type"),
            ("number = ", "x.toml: line 1: "),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = read::<Table>(&path).expect_err(text).to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        assert!(
            read::<Table>(&dir.path().join("y.toml"))
                .expect_err("none")
                .to_string()
                .contains("cannot be read")
        );
    }
}
