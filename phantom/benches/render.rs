//! Images a second: `cargo bench -p swinseek-phantom`, sizes as arguments (default 128 256 512 1024).

use rayon::prelude::*;
use std::time::Instant;
use swinseek_phantom::{Study, StudyOptions};

fn main() {
    let mut sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![128, 256, 512, 1024];
    }
    println!("threads {}", rayon::current_num_threads());
    for size in sizes {
        let options = StudyOptions { size };
        let count = (40_000_000 / (size * size)).clamp(40, 1_000) as u64;
        let start = Instant::now();
        for index in 0..count / 4 {
            std::hint::black_box(Study::windowed(1, index, &options));
        }
        let one = start.elapsed().as_secs_f64() / (count / 4) as f64;
        let start = Instant::now();
        (0..count).into_par_iter().for_each(|index| {
            std::hint::black_box(Study::windowed(1, index, &options));
        });
        let all = count as f64 / start.elapsed().as_secs_f64();
        println!("{size:5} px: {:8.2} ms on one thread, {all:8.1} images/s on all", 1e3 * one);
    }
    let start = Instant::now();
    for index in 0..1_000 {
        std::hint::black_box(Study::describe(1, index, &StudyOptions::default()));
    }
    println!("describe: {:8.3} ms", start.elapsed().as_secs_f64());
}
