//! The tokeniser of the caption evaluation.

use swinseek_evals::tokenize::ptb::{PUNCTUATION, tokenize, tokenize_all, treebank, treebank_all};

use super::{golden, strings};

#[test]
fn thousands_of_captions_come_out_as_from_corenlp() {
    let golden = golden("ptb");
    let rows: Vec<Vec<&str>> = golden["captions"].as_array().unwrap().iter().map(strings).collect();
    assert!(rows.len() >= 8000);
    let captions: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    for (row, line) in rows.iter().zip(treebank_all(&captions)) {
        assert_eq!(line, row[1], "{:?}", row[0]);
    }
}

#[test]
fn the_last_caption_of_a_file_has_no_line_break_behind_it() {
    for row in golden("ptb")["alone"].as_array().unwrap() {
        let row = strings(row);
        assert_eq!(treebank(row[0]), row[1], "{:?}", row[0]);
    }
}

#[test]
fn punctuation_is_left_out_but_brackets_stay() {
    assert_eq!(strings(&golden("ptb")["dropped"]), PUNCTUATION);
    assert_eq!(tokenize("(no cardiomegaly), [x] \"y\"..."), "-lrb- no cardiomegaly -rrb- -lsb- x -rsb- y");
    assert_eq!(
        tokenize("Cannot, gonna; 1/2 3.5-cm t-spine & 10:30"),
        "can not gon na 1/2 3.5-cm t-spine & 10:30"
    );
    assert_eq!(tokenize("50% $5 --- clear.no Dr. e.g. U.S."), "50 % $ 5 clear.no dr. e.g. u.s.");
}

#[test]
fn a_caption_looks_at_the_next_one_only() {
    // A single letter before one of a few words is not an abbreviation.
    let captions = ["vitamin C.", "", "The dog", "vitamin C.", "dogs"];
    assert_eq!(tokenize_all(&captions), ["vitamin c", "", "the dog", "vitamin c.", "dogs"]);
}

#[test]
fn every_line_break_is_white_space() {
    for text in ["a\nb", "a\r\nb", "a\rb", "a\u{b}b", "a\u{c}b", "a\u{2028}b", "a\u{2029}b"] {
        assert_eq!(tokenize_all(&[text, "c"]), ["a b", "c"], "{text:?}");
    }
    // What is open at the end of a caption ends there.
    let tag = "<a b=\"x.";
    assert_eq!(tokenize_all(&[tag, "\"> c"])[0], tokenize_all(&[tag, "c"])[0]);
    assert_eq!(tokenize_all(&["<.[^x= a", "<>] b"])[1], "< > -rsb- b");
}
