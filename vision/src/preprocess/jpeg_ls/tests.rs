//! Codestreams of CharLS, and damaged ones.

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::{Expected, decode};

/// Written by `tests/fixtures/images/make.py`.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/images/jpeg_ls.safetensors");

/// Name, codestream, size and samples of every case.
fn cases() -> Vec<(String, Vec<u8>, Expected, Vec<u16>)> {
    let file = std::fs::read(FIXTURE).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let names = tensors.names().into_iter().filter(|name| !name.contains(".code"));
    names
        .map(|name| {
            let view = tensors.tensor(name).unwrap();
            let [height, width, components] = *view.shape() else { panic!("{name}") };
            let words = view.data().chunks_exact(2);
            let samples = words.map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
            let code = tensors.tensor(&format!("{name}.code")).unwrap().data().to_vec();
            (name.to_string(), code, Expected { width, height, components }, samples)
        })
        .collect()
}

#[test]
fn codestreams_of_charls_decode_to_its_samples() {
    let cases = cases();
    assert!(cases.len() >= 28, "fixtures are missing");
    for (name, code, expected, samples) in cases {
        let picture = decode(&code, expected).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(picture.samples, samples, "{name}");
    }
}

#[test]
fn a_codestream_of_another_size_is_refused() {
    let (_, code, expected, _) = cases().swap_remove(0);
    let Expected { width, height, components } = expected;
    let error = decode(&code, Expected { width: width + 1, ..expected }).unwrap_err();
    let other = width + 1;
    let message = format!(
        "codestream of {width} x {height} x {components}, expected {other} x {height} x {components}"
    );
    assert_eq!(error, message);
}

#[test]
fn a_cut_codestream_is_refused() {
    for (name, code, expected, _) in cases() {
        // The last two bytes are the end marker, which the picture does not need.
        let cut = &code[..code.len() - 4];
        let result = decode(cut, expected);
        assert!(result.is_err(), "{name} was read without its end");
    }
}

proptest! {
    #[test]
    fn damaged_codestreams_never_panic(
        case in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        thread_local!(static CASES: Vec<(String, Vec<u8>, Expected, Vec<u16>)> = cases());
        let (mut code, expected) = CASES.with(|cases| {
            let (_, code, expected, _) = case.get(cases);
            (code.clone(), *expected)
        });
        for (at, value) in edits {
            let at = at.index(code.len());
            code[at] = value;
        }
        if let Ok(picture) = decode(&code, expected) {
            let Expected { width, height, components } = expected;
            prop_assert_eq!(picture.samples.len(), width * height * components);
        }
    }
}
