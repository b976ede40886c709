//! Medians of a picture on its way to the model: `cargo bench -p swinseek-vision --bench preprocess [-- FILE..]`. Without
//! files, a radiograph-like JPEG of 2000 x 2000 pixels is made.

use std::io::Cursor;
use std::time::{Duration, Instant};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageBuffer, Rgb};
use serde_json::json;
use swinseek_vision::preprocess::{DecodeOptions, Preprocessor, decode};

/// Time spent on each measurement.
const BUDGET: Duration = Duration::from_secs(2);

fn median(mut run: impl FnMut()) -> f64 {
    run();
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed() < BUDGET {
        let begin = Instant::now();
        run();
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2] * 1e3
}

/// Smooth waves with fine grain, which compress as a photograph does.
fn made() -> Vec<u8> {
    let mut state = 1u32;
    let picture = ImageBuffer::from_fn(2000, 2000, |x, y| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        let grain = (state >> 24) as f32 / 32.0;
        let wave = |shift: f32| {
            let (x, y) = (x as f32 + shift, y as f32 - shift);
            (120.0 + 80.0 * (x / 170.0).sin() * (y / 230.0).cos() + 20.0 * (x / 11.0).sin() + grain) as u8
        };
        Rgb([wave(0.0), wave(37.0), wave(91.0)])
    });
    let mut file = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(Cursor::new(&mut file), 92)).unwrap();
    file
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut files: Vec<(String, Vec<u8>)> =
        given.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("file"))).collect();
    if files.is_empty() {
        files.push(("made.jpg".into(), made()));
    }
    let options = DecodeOptions::default();
    println!("{:<40} {:>10} {:>10} {:>10}", "milliseconds", "decode", "apply", "both");
    for (name, bytes) in files {
        for (filter, code) in [("bicubic", 3), ("bilinear", 2)] {
            let config = json!({"size": 224, "resample": code,
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]});
            let preprocessor = Preprocessor::from_json(&config).unwrap();
            let image = decode(&bytes, &options).unwrap();
            let a = median(|| drop(decode(&bytes, &options).unwrap()));
            let b = median(|| drop(preprocessor.apply(&image).unwrap()));
            let c = median(|| drop(preprocessor.apply(&decode(&bytes, &options).unwrap()).unwrap()));
            println!("{:<40} {a:>10.2} {b:>10.2} {c:>10.2}", format!("{name} {filter}"));
        }
    }
}
