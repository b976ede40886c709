//! A contact sheet to look at: `cargo run -p swinseek-phantom --example sheet -- OUT.png [SEED] [FIRST] [COLUMNS] [ROWS] [SIZE]`,
//! with the reports on standard output.

use swinseek_phantom::{Study, StudyOptions};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).and_then(|a| a.parse().ok()).unwrap_or(default);
    let Some(path) = arguments.first() else {
        eprintln!("usage: sheet OUT.png [SEED] [FIRST] [COLUMNS] [ROWS] [SIZE]");
        return;
    };
    let (seed, first) = (number(1, 1), number(2, 0));
    let (columns, rows, size) = (number(3, 4) as usize, number(4, 3) as usize, number(5, 384) as usize);
    let width = columns * size;
    let mut sheet = vec![0u8; width * rows * size];
    for cell in 0..columns * rows {
        let index = first + cell as u64;
        let (pixels, description) = Study::example(seed, index, &StudyOptions { size });
        println!("{index}: {}", description.report.text());
        let corner = (cell / columns) * size * width + (cell % columns) * size;
        for (y, row) in pixels.chunks_exact(size).enumerate() {
            sheet[corner + y * width..][..size].copy_from_slice(row);
        }
    }
    if let Err(error) =
        image::save_buffer(path, &sheet, width as u32, (rows * size) as u32, image::ColorType::L8)
    {
        eprintln!("{path}: {error}");
    }
}
