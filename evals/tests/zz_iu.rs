//! scratch
use swinseek_evals::bleu::{Bleu, Segment};
use swinseek_evals::dataset::*;
use swinseek_evals::floors::*;
#[test]
fn iu() {
    let p = "/work/shared/data/iu-xray-text/annotation.json";
    let a = Annotations::from_json(&std::fs::read(p).unwrap(), p).unwrap();
    println!("{} {} {}", a.train.len(), a.val.len(), a.test.len());
    let train: Vec<&str> = a.train.iter().map(|e| e.report.as_str()).collect();
    let test: Vec<&str> = a.test.iter().map(|e| e.report.as_str()).collect();
    let val: Vec<Vec<&str>> = a.val.iter().map(Entry::targets).collect();
    let val: Vec<&[&str]> = val.iter().map(Vec::as_slice).collect();
    println!("verbatim {}", verbatim_share(&test, &train));
    for lowercase in [false, true] {
        let bleu = Bleu { lowercase, ..Bleu::default() };
        let t = std::time::Instant::now();
        let c = constant_text(&bleu, &train, &val, 600, 0).unwrap();
        let refs: Vec<[&str; 1]> = test.iter().map(|t| [*t]).collect();
        let score = |h: &dyn Fn(usize) -> &'static str| -> f64 { let _ = h; 0.0 };
        let _ = score;
        let segs: Vec<Segment> = refs.iter().map(|r| Segment { hypothesis: c, references: r }).collect();
        println!("constant {} {:?} {c}", bleu.corpus(&segs).unwrap(), t.elapsed());
        let random = random_texts(&train, test.len(), 1).unwrap();
        let segs: Vec<Segment> = refs.iter().zip(&random).map(|(r, h)| Segment { hypothesis: h, references: r }).collect();
        println!("random {}", bleu.corpus(&segs).unwrap());
    }
}
