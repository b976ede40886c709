//! `report.html` of a run.

use anyhow::Result;
use image::{DynamicImage, ImageFormat, RgbImage};
use serde_json::Value;
use swinseek_evals::bleu::{Bleu, Segment};
use swinseek_evals::dataset::Task;
use swinseek_evals::report::{Case, ImageData, Page, choose, html};
use swinseek_evals::runner::{Line, Statistics};
use swinseek_vision::preprocess::{Channels, Image};

use super::data_folder;
use super::local::picture;

/// Best, worst and random cases, each.
const CASES: usize = 6;
/// Longest side of a picture on the page, pixels.
const SIDE: u32 = 384;

/// The page; pictures that cannot be read are left out.
pub(super) fn page(statistics: &Statistics, lines: &[Line], result: &Value) -> Result<String> {
    let data = &statistics.run.data;
    let bleu = Bleu { effective_order: true, ..Bleu::default() };
    let references: Vec<Vec<&str>> =
        lines.iter().map(|line| line.references.iter().map(String::as_str).collect()).collect();
    let segments: Vec<Segment<'_>> = lines
        .iter()
        .zip(&references)
        .map(|(line, references)| Segment { hypothesis: line.text(), references })
        .collect();
    let counts = bleu.corpus_stats(&segments)?;
    let scores: Vec<f64> = (0..lines.len()).map(|item| bleu.score(&counts.get(item)).score).collect();
    let lengths: Vec<(u64, u64)> = (0..lines.len())
        .map(|item| counts.get(item))
        .map(|counts| (counts.hyp_len, counts.ref_len))
        .collect();
    let root = data_folder(&data.path);
    let selection = choose(&scores, CASES, statistics.run.seed);
    let cases = selection.iter().map(|(group, item)| {
        let line = &lines[item];
        let image = line.images.first().and_then(|path| small(&picture(&root.join(path)).ok()?).ok());
        Case {
            group,
            id: &line.id,
            question: line.question.as_deref(),
            references: &line.references,
            hypothesis: line.text(),
            score: scores[item],
            image,
        }
    });
    let notice = "Every report here is a draft by a model; a physician must verify it.";
    Ok(html(&Page {
        title: &format!("{}, {}", data.name, data.split),
        notice: (data.task == Task::Report).then_some(notice),
        result,
        bleu: &bleu,
        scores: &scores,
        lengths: &lengths,
        cases: cases.collect(),
    }))
}

/// The picture at the size of the page, whatever its file was.
fn small(picture: &Image) -> Result<ImageData> {
    let values = picture.samples().to_f32_255();
    let byte = |value: &f32| value.round().clamp(0.0, 255.0) as u8;
    let pixels: Vec<u8> = match picture.channels() {
        Channels::Luma => values.iter().flat_map(|value| [byte(value); 3]).collect(),
        Channels::Rgb => values.iter().map(byte).collect(),
    };
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    let Some(image) = RgbImage::from_raw(width, height, pixels) else {
        anyhow::bail!("a picture of {width} x {height} has another number of values");
    };
    let mut image = DynamicImage::ImageRgb8(image);
    if width.max(height) > SIDE {
        image = image.thumbnail(SIDE, SIDE);
    }
    let mut bytes = Vec::new();
    image.write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Jpeg)?;
    Ok(ImageData { mime: "image/jpeg".into(), bytes })
}
