//! Pictures and data sets: the same for every run, and read back as written.

use dicom_dictionary_std::tags;
use dicom_object::FileDicomObject;
use image::GenericImageView;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use swinseek_phantom::{Format, Options, Study, StudyOptions, encode, write_dataset};

const SMALL: StudyOptions = StudyOptions { size: 64 };

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for folder in [dir.to_owned(), dir.join("images")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                all.insert(
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    std::fs::read(path).unwrap(),
                );
            }
        }
    }
    all
}

fn write(threads: usize, options: &Options) -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let calls = AtomicUsize::new(0);
    pool.install(|| {
        write_dataset(dir.path(), 12, 9, options, &|_| {
            calls.fetch_add(1, Ordering::Relaxed);
        })
    })
    .unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 12);
    files(dir.path())
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    for format in [Format::Png, Format::Dicom] {
        let options = Options { format, study: SMALL, ..Options::default() };
        let one = write(1, &options);
        assert_eq!(one.len(), 13);
        assert!(one == write(3, &options), "{format:?}");
    }
}

#[test]
fn annotations_are_read_by_the_evaluation_and_split_as_asked() {
    let options = Options {
        study: SMALL,
        split: "train:0.5,val:0.25,test:0.25".parse().unwrap(),
        ..Options::default()
    };
    let files = write(2, &options);
    let read =
        swinseek_evals::dataset::Annotations::from_json(&files["annotations.json"], "annotations.json")
            .unwrap();
    assert_eq!((read.train.len(), read.val.len(), read.test.len()), (6, 3, 3));
    for (index, entry) in read.train.iter().chain(&read.val).chain(&read.test).enumerate() {
        let study = Study::describe(9, index as u64, &SMALL);
        assert_eq!(entry.report, study.report.text());
        assert_eq!(entry.references.len(), 4);
        assert_eq!(entry.findings.len(), study.findings.len());
        assert!(files.contains_key(&entry.image_path[0]), "{}", entry.image_path[0]);
        assert!(entry.other.contains_key("questions") && entry.other.contains_key("caption"));
    }
}

#[test]
fn png_holds_the_windowed_and_the_stored_numbers() {
    let study = Study::generate(9, 3, &SMALL);
    let read = |format| image::load_from_memory(&encode(&study, 9, 3, format).unwrap()).unwrap();
    let eight = read(Format::Png);
    assert_eq!(eight.dimensions(), (64, 64));
    assert_eq!(eight.into_luma8().into_raw(), study.window());
    let sixteen: Vec<u16> = read(Format::Png16).into_luma16().into_raw().iter().map(|v| v >> 4).collect();
    assert_eq!(sixteen, study.pixels);
}

#[test]
fn dicom_holds_the_stored_numbers_in_both_polarities() {
    for index in [4, 5] {
        let study = Study::generate(9, index, &SMALL);
        let bytes = encode(&study, 9, index, Format::Dicom).unwrap();
        let file = FileDicomObject::from_reader(bytes.as_slice()).unwrap();
        let text = |tag| file.element(tag).unwrap().to_str().unwrap().into_owned();
        assert_eq!(
            text(tags::PHOTOMETRIC_INTERPRETATION),
            if index == 4 { "MONOCHROME2" } else { "MONOCHROME1" }
        );
        assert_eq!(text(tags::VIEW_POSITION), study.description.facts.view.code());
        assert_eq!(text(tags::PATIENT_IDENTITY_REMOVED), "YES");
        assert!(text(tags::PATIENT_NAME).starts_with("PHANTOM^"));
        assert!(
            text(tags::STUDY_INSTANCE_UID).starts_with("2.25.") && text(tags::STUDY_INSTANCE_UID).len() <= 64
        );
        let spacing: Vec<f32> = file.element(tags::IMAGER_PIXEL_SPACING).unwrap().to_multi_float32().unwrap();
        // Six decimals are written.
        assert!((spacing[0] - study.description.mm_per_pixel).abs() < 1e-5);
        let stored = file.element(tags::PIXEL_DATA).unwrap().to_multi_int::<u16>().unwrap();
        let shown: Vec<u16> = stored.iter().map(|v| if index == 4 { *v } else { 4095 - v }).collect();
        assert_eq!(shown, study.pixels);
    }
}

#[test]
fn bad_options_are_refused_in_one_line_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let size = |size| Options { study: StudyOptions { size }, ..Options::default() };
    for (count, options) in [(0, size(64)), (usize::MAX, size(64)), (1, size(0)), (1, size(usize::MAX))] {
        let error = write_dataset(dir.path(), count, 1, &options, &|_| ()).unwrap_err().to_string();
        assert!(error.contains("found") && error.contains("expected") && !error.contains('\n'), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let blocked = dir.path().join("file");
    std::fs::write(&blocked, b"").unwrap();
    let error = write_dataset(&blocked, 1, 1, &size(64), &|_| ()).unwrap_err().to_string();
    assert!(error.contains("file"), "{error}");
}

proptest! {
    // Each case renders up to three small pictures.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_study_can_be_drawn_at_any_size(seed: u64, index: u64, size in 32usize..200) {
        let options = StudyOptions { size };
        let study = Study::generate(seed, index, &options);
        prop_assert_eq!(study.pixels.len(), size * size);
        prop_assert!(study.pixels.iter().all(|v| *v < 4096));
        // Neither black nor white: the exposure hits the chest.
        let mean = study.window().iter().map(|v| f64::from(*v)).sum::<f64>() / (size * size) as f64;
        prop_assert!((40.0..215.0).contains(&mean), "{}", mean);
        let (pixels, description) = Study::example(seed, index, &options);
        prop_assert_eq!(&pixels, &study.window());
        prop_assert_eq!(&pixels, &Study::windowed(seed, index, &options));
        prop_assert_eq!(&description, &study.description);
        prop_assert_eq!(&Study::describe(seed, index, &options), &study.description);
        for finding in &description.findings {
            let [x0, y0, x1, y1] = finding.bbox;
            prop_assert!(x0 < x1 && y0 < y1 && x1 <= size as u32 && y1 <= size as u32);
        }
        // The words do not depend on the size.
        let other = Study::describe(seed, index, &StudyOptions::default());
        prop_assert_eq!(other.report, description.report);
    }
}
