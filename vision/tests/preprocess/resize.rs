//! Resizing against Pillow, whole pipelines against the image processors of transformers.

use safetensors::SafeTensors;
use serde_json::{Value, json};
use swinseek_vision::preprocess::{Channels, Image, Preprocessor, Region, Samples};

use super::{difference, fixture, tensor};

fn picture(tensors: &SafeTensors, name: &str) -> Image {
    let (shape, values) = tensor(tensors, name);
    let channels = if shape[2] == 3 { Channels::Rgb } else { Channels::Luma };
    let samples = Samples::U8(values.iter().map(|&v| v as u8).collect());
    Image::new(shape[1], shape[0], channels, samples).unwrap()
}

/// A resize alone: samples come out between 0 and 255.
fn resizer(width: usize, height: usize, filter: usize) -> Preprocessor {
    let config = json!({
        "size": {"height": height, "width": width}, "resample": filter,
        "do_rescale": false, "do_normalize": false,
    });
    Preprocessor::from_json(&config).unwrap()
}

/// `(3, H, W)` to `(H, W, channels)`; gray has three equal channels, of which one is kept.
fn interleaved(data: &[f32], channels: usize) -> Vec<f32> {
    let plane = data.len() / 3;
    (0..plane).flat_map(|i| (0..channels).map(move |c| data[c * plane + i])).collect()
}

#[test]
fn every_filter_matches_pillow_within_one_step() {
    let file = std::fs::read(fixture("resize.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut checked = 0;
    for name in tensors.names() {
        let parts: Vec<&str> = name.split('.').collect();
        let [source, filter, size] = parts[..] else {
            continue;
        };
        let (width, height) = size.split_once('x').unwrap();
        let preprocessor = resizer(width.parse().unwrap(), height.parse().unwrap(), filter.parse().unwrap());
        let (shape, expected) = tensor(&tensors, name);
        let output = preprocessor.apply(&picture(&tensors, source)).unwrap();
        let (largest, mean) = difference(&interleaved(&output.data, shape[2]), &expected);
        match filter {
            "0" => assert_eq!(largest, 0.0, "{name}"),
            // A box whose edge meets a pixel centre takes it or not by the last bit of a division.
            "4" => assert!(mean <= 0.25, "{name}: differs by {mean} on average"),
            // One step of 8 bits: the same sums, rounded from fixed or from floating point.
            _ => assert!(largest <= 1.0, "{name}: differs by {largest}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 60, "fixtures are missing");
}

#[test]
fn deep_pictures_are_resized_in_floating_point() {
    let file = std::fs::read(fixture("resize.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let gray = picture(&tensors, "gray");
    let samples = gray.samples().to_f32_255();
    let deep = [
        Samples::U16(samples.iter().map(|&v| v as u16 * 257).collect()),
        Samples::F32(samples.iter().map(|&v| v / 255.0).collect()),
    ];
    for filter in [1, 2, 3] {
        let (_, mut expected) = tensor(&tensors, &format!("gray.float.{filter}.16x16"));
        // Pillow leaves the overshoot of the filter in floating-point pictures.
        expected = expected.into_iter().map(|v| v.clamp(0.0, 255.0)).collect();
        for samples in deep.clone() {
            let image = Image::new(40, 53, Channels::Luma, samples).unwrap();
            let output = resizer(16, 16, filter).apply(&image).unwrap();
            let (largest, _) = difference(&interleaved(&output.data, 1), &expected);
            // Both sum in floating point; 8-bit steps would show as differences of 0.5.
            assert!(largest < 1e-3, "filter {filter}: differs by {largest}");
        }
    }
}

#[test]
fn pipelines_match_transformers() {
    let file = std::fs::read(fixture("pipeline.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let configs: Value = serde_json::from_slice(&std::fs::read(fixture("pipeline.json")).unwrap()).unwrap();
    let mut checked = 0;
    for (name, config) in configs.as_object().unwrap() {
        let preprocessor = Preprocessor::from_json(config).unwrap();
        for source in ["wide", "tall"] {
            let key = format!("{name}.{source}");
            if !tensors.names().iter().any(|n| **n == key) {
                continue;
            }
            let output = preprocessor.apply(&picture(&tensors, source)).unwrap();
            let (shape, expected) = tensor(&tensors, &key);
            assert_eq!([3, output.height, output.width], shape[..], "{key}");
            let (largest, _) = difference(&output.data, &expected);
            // One 8-bit step over the smallest standard deviation in use, 0.224; Donut resizes twice.
            let steps = if name.starts_with("donut") { 2.0 } else { 1.0 };
            let allowed = steps / 255.0 / 0.224 + 1e-5;
            assert!(largest <= allowed, "{key}: differs by {largest}");
            checked += 1;
        }
    }
    assert_eq!(checked, 12, "fixtures are missing");
}

#[test]
fn gray_fills_three_channels_and_a_tensor() {
    let image = Image::new(2, 1, Channels::Luma, Samples::U8(vec![0, 255])).unwrap();
    let config = json!({"do_resize": false, "image_mean": [0.0, 0.5, 1.0], "image_std": [1.0, 0.5, 2.0]});
    let output = Preprocessor::from_json(&config).unwrap().apply(&image).unwrap();
    assert_eq!(output.data, [0.0, 1.0, -1.0, 1.0, -0.5, 0.0]);
    let tensor = output.to_tensor(&candle_core::Device::Cpu).unwrap();
    assert_eq!(tensor.dims(), [1, 3, 1, 2]);
}

#[test]
fn squares_keep_the_aspect_ratio_and_lead_back_to_the_picture() {
    let image = Image::new(40, 20, Channels::Luma, Samples::U8(vec![200; 800])).unwrap();
    let config = json!({
        "do_pad_square": true, "size": 32, "do_rescale": false, "do_normalize": false, "resample": 0,
    });
    let output = Preprocessor::from_json(&config).unwrap().apply(&image).unwrap();
    let row = |y: usize| output.data[y * 32..][..32].to_vec();
    assert_eq!(row(7), [0.0; 32]);
    assert_eq!(row(8), [200.0; 32]);
    assert_eq!(row(23), [200.0; 32]);
    assert_eq!(row(24), [0.0; 32]);
    // The left half of the model input is the left half of the picture, without the padding.
    let half = Region { left: 0.0, top: 0.0, right: 16.0, bottom: 32.0 };
    let found = output.geometry.to_original(half).unwrap();
    assert_eq!((found.left, found.top, found.bottom), (0.0, 0.0, 20.0));
    assert!((found.right - 20.0).abs() < 1e-9, "{found:?}");
}

#[test]
fn non_square_pixels_become_square() {
    let image = super::try_decode("dicom/made_spacing.dcm", 0).unwrap();
    assert_eq!((image.width(), image.height()), (8, 6));
    let config = json!({"do_resize": false});
    let output = Preprocessor::from_json(&config).unwrap().apply(&image).unwrap();
    // Pixels are twice as high as wide: the rows double.
    assert_eq!((output.width, output.height), (8, 12));
    let whole = Region { left: 0.0, top: 0.0, right: 8.0, bottom: 12.0 };
    let expected = Region { left: 0.0, top: 0.0, right: 8.0, bottom: 6.0 };
    assert_eq!(output.geometry.to_original(whole), Some(expected));
}

#[test]
fn a_thread_of_a_picture_does_not_explode() {
    let image = Image::new(60_000, 1, Channels::Luma, Samples::U8(vec![1; 60_000])).unwrap();
    let config = json!({"size": {"shortest_edge": 4096}});
    let error = Preprocessor::from_json(&config).unwrap().apply(&image).unwrap_err();
    assert_eq!(error.to_string(), "image resized to 245760000 x 4096, the limit is 67108864 pixels");
}
