//! temp
use swinseek_phantom::*;
fn main() {
    let d = std::path::Path::new("/tmp/ph_dcm");
    write_dataset(
        d,
        6,
        3,
        &Options {
            format: Format::Dicom,
            ..Options::default()
        },
        &|_| (),
    )
    .unwrap();
    write_dataset(
        std::path::Path::new("/tmp/ph_png"),
        6,
        3,
        &Options::default(),
        &|_| (),
    )
    .unwrap();
    for index in 0..1000u64 {
        let d = Study::describe(11, index, &StudyOptions::default());
        let mut v = vec![d.report.text()];
        v.extend(d.references.iter().map(|r| r.text()));
        v.push(report_variant(&d.facts, 11, index, 5).text());
        println!("{}", serde_json::to_string(&v).unwrap());
    }
}
