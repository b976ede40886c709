//! Text files, plain and compressed, good and bad.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use swinseek_evals::Result;
use swinseek_evals::lines::{Chunk, Lines};

/// All lines, read `most` at a time.
fn read(bytes: &[u8], most: usize) -> Result<Vec<String>> {
    let (mut lines, mut chunk, mut all) =
        (Lines::new("x.txt", Cursor::new(bytes.to_vec()))?, Chunk::default(), Vec::new());
    loop {
        lines.read(&mut chunk, most)?;
        if chunk.is_empty() {
            assert_eq!(lines.count(), all.len() as u64);
            return Ok(all);
        }
        all.extend(chunk.iter().map(str::to_owned));
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const TEXT: &str = "one\r\n\n two \u{2028}x\u{1f}\nthree\tmore\n\u{feff}last";

#[test]
fn lines_end_at_line_feeds_only_and_lose_blanks_at_their_ends() {
    let expected = ["one", "", " two \u{2028}x", "three\tmore", "\u{feff}last"];
    for most in [1, 2, 5, 100] {
        assert_eq!(read(TEXT.as_bytes(), most).unwrap(), expected);
    }
    assert_eq!(read(b"", 3).unwrap(), [""; 0]);
    assert_eq!(read(b"\n", 3).unwrap(), [""]);
    // Shorter than a magic number.
    assert_eq!(read(b"ab", 3).unwrap(), ["ab"]);
}

#[test]
fn compressed_files_read_alike_even_in_several_parts() {
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let (first, second) = TEXT.as_bytes().split_at(9);
    let expected = read(TEXT.as_bytes(), 100).unwrap();
    for whole in [
        gzip(TEXT.as_bytes()),
        [gzip(first), gzip(second)].concat(),
        zstd(TEXT.as_bytes()),
        [zstd(first), zstd(second)].concat(),
    ] {
        assert_eq!(read(&whole, 2).unwrap(), expected);
    }
    let cut = gzip(TEXT.as_bytes());
    let message = read(&cut[..cut.len() - 9], 100).unwrap_err().to_string();
    assert!(message.starts_with("x.txt: cannot be read"), "{message}");
}

#[test]
fn a_bad_byte_is_named_by_line_and_place() {
    for most in [1, 2, 100] {
        let message = read(b"fine\nalso \xc3\xa9\nab\xffc\nmore", most).unwrap_err().to_string();
        assert_eq!(message, "x.txt:3: byte 3 is 0xff, expected UTF-8");
        let message = read(b"a\n\xe4\xbd", most).unwrap_err().to_string();
        assert_eq!(message, "x.txt:2: byte 1 is 0xe4, expected UTF-8");
    }
    let message = Lines::open(std::path::Path::new("no/such.txt")).err().unwrap().to_string();
    assert!(message.starts_with("no/such.txt: cannot be opened"), "{message}");
}

#[test]
fn the_rest_of_a_file_can_be_counted() {
    let (mut lines, mut chunk) = (Lines::new("x", Cursor::new("a\nb\nc\nd")).unwrap(), Chunk::default());
    lines.read(&mut chunk, 2).unwrap();
    assert_eq!((lines.count(), lines.count_all().unwrap()), (2, 4));
}
