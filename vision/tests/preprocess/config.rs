//! `preprocessor_config.json`: what is read, and which field an error names.

use serde_json::{Value, json};
use swinseek_vision::preprocess::{Filter, PreprocessConfig, Size, Step};

fn read(value: &Value) -> PreprocessConfig {
    PreprocessConfig::from_json(value).unwrap_or_else(|e| panic!("{value}: {e}"))
}

#[test]
fn sizes_in_every_spelling() {
    let exact = |height, width| Step::Resize(Size::Exact { height, width });
    let shortest = |shortest, longest| Step::Resize(Size::ShortestEdge { shortest, longest });
    let cases = [
        (json!({"size": 224}), exact(224, 224)),
        (json!({"size": {"height": 3, "width": 4}}), exact(3, 4)),
        (json!({"size": [3, 4]}), exact(3, 4)),
        (json!({"size": {"shortest_edge": 5}}), shortest(5, None)),
        (json!({"size": {"shortest_edge": 5, "longest_edge": 9}}), shortest(5, Some(9))),
        (json!({"size": {"longest_edge": 9}}), Step::Resize(Size::LongestEdge { longest: 9 })),
        (json!({"size": {"height": 3, "width": 4, "shortest_edge": null}}), exact(3, 4)),
    ];
    for (config, expected) in cases {
        assert_eq!(read(&config).steps, [expected], "{config}");
    }
}

#[test]
fn donut_files_of_both_ages_are_the_same() {
    let old = json!({
        "feature_extractor_type": "DonutFeatureExtractor", "size": [1920, 2560],
        "do_align_long_axis": false, "do_thumbnail": true, "do_pad": true, "do_resize": true,
    });
    let new = json!({
        "image_processor_type": "DonutImageProcessor", "size": {"height": 2560, "width": 1920},
    });
    let (height, width) = (2560, 1920);
    let expected = [
        Step::Resize(Size::ShortestEdge { shortest: 1920, longest: None }),
        Step::Thumbnail { height, width },
        Step::Pad { height, width },
    ];
    assert_eq!(read(&old).steps, expected);
    assert_eq!(read(&new).steps, expected);
    assert_eq!(read(&new).output_size(), Some((2560, 1920)));
}

#[test]
fn defaults_are_those_of_the_vit_class() {
    let config =
        read(&json!({"size": 224, "processor_class": "AnyProcessor", "_valid_processor_keys": ["x"]}));
    assert_eq!(config.filter, Filter::Bilinear);
    assert_eq!(config.rescale_factor, 1.0 / 255.0);
    assert_eq!((config.image_mean, config.image_std), ([0.5; 3], [0.5; 3]));
    let off = read(
        &json!({"do_resize": false, "do_rescale": false, "do_normalize": false, "image_mean": [9, 9, 9]}),
    );
    assert_eq!((off.rescale_factor, off.image_mean, off.image_std), (1.0, [0.0; 3], [1.0; 3]));
    assert_eq!(off.steps, []);
    assert_eq!(off.output_size(), None);
}

#[test]
fn errors_name_the_field() {
    let cases = [
        (json!({"size": 224, "resample": 9}), "config field `resample`: found 9, expected 0 nearest"),
        (json!({"size": 224, "resample": "bicubic"}), "config field `resample`: found \"bicubic\""),
        (json!({"size": {"height": 3}}), "config field `size`: found {\"height\":3}, expected"),
        (json!({"size": 0}), "config field `size`: found 0"),
        (json!({"size": [1, 2, 3]}), "config field `size`: found [1,2,3]"),
        (json!({"size": 1_000_000}), "config field `size`: found 1000000"),
        (json!({"size": {"height": -1, "width": 2}}), "config field `size`"),
        (json!({}), "config field `size`: is missing, do_resize needs it"),
        (json!({"size": 8, "do_resize": "yes"}), "config field `do_resize`"),
        (json!({"size": 8, "do_center_crop": true}), "config field `crop_size`: is missing"),
        (
            json!({"size": 8, "do_center_crop": true, "crop_size": "8"}),
            "config field `crop_size`: found \"8\"",
        ),
        (json!({"size": {"shortest_edge": 8}, "do_pad": true}), "config field `size`: do_pad needs"),
        (json!({"size": 8, "image_std": [1.0, 0.0, 1.0]}), "config field `image_std`"),
        (json!({"size": 8, "image_mean": [1.0, 0.0]}), "config field `image_mean`"),
        (json!({"size": 8, "rescale_factor": 0}), "config field `rescale_factor`"),
        (
            json!({"size": 8, "do_flip_channel_order": true}),
            "config field `do_flip_channel_order`: is not known",
        ),
    ];
    for (config, expected) in cases {
        let error = PreprocessConfig::from_json(&config).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{config}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
