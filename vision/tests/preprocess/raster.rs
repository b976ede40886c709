//! PNG, JPEG, GIF, WebP, BMP, TIFF against what Pillow wrote and read.

use safetensors::SafeTensors;
use swinseek_vision::preprocess::{DecodeOptions, Format, Samples, decode, sniff};

use super::{bytes, difference, fixture, tensor, try_decode};

#[test]
fn every_raster_file_has_the_pixels_of_pillow() {
    let references = std::fs::read(fixture("raster.safetensors")).unwrap();
    let references = SafeTensors::deserialize(&references).unwrap();
    for name in references.names() {
        let image = try_decode(&format!("raster/{name}"), 0).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (shape, expected) = tensor(&references, name);
        let found = image.samples().to_f32_255();
        if image.channels().count() != shape[2] {
            // Palettes of grays come as RGB from one side only.
            assert_eq!(found.len(), 3 * expected.len(), "{name}");
        }
        assert_eq!((image.height(), image.width(), image.channels().count()), (shape[0], shape[1], shape[2]), "{name}");
        let (largest, mean) = difference(&found, &expected);
        println!("{name}: {largest} {mean}");
    }
}
