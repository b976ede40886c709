//! temp
use swinseek_phantom::{Study, StudyOptions, report_variant};
fn main() {
    let o = StudyOptions::default();
    for index in 0..1000u64 {
        let d = Study::describe(11, index, &o);
        let mut v = vec![d.report.text()];
        v.extend(d.references.iter().map(|r| r.text()));
        v.push(report_variant(&d.facts, 11, index, 5).text());
        println!("{}", serde_json::to_string(&v).unwrap());
    }
}
