//! sacreBLEU's flags as people type them: several letters behind one dash.

use std::ffi::OsString;

/// The flags of more than one letter behind one dash, and what they are called in full.
const FLAGS: [(&str, &str); 15] = [
    ("-nr", "--num-refs"),
    ("-sl", "--sentence-level"),
    ("-sv", "--smooth-value"),
    ("-tok", "--tokenize"),
    ("-lc", "--lowercase"),
    ("-cc", "--chrf-char-order"),
    ("-cw", "--chrf-word-order"),
    ("-ci", "--confidence"),
    ("-cin", "--confidence-n"),
    ("-par", "--paired-ar"),
    ("-parn", "--paired-ar-n"),
    ("-pbs", "--paired-bs"),
    ("-pbsn", "--paired-bs-n"),
    ("-sh", "--short"),
    ("-nc", "--no-color"),
];

/// The command line with such flags of `bleu` in full; that of any other command as it is.
pub(in crate::cli) fn in_full(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.get(1).is_some_and(|command| command == "bleu") {
        for argument in arguments.iter_mut().skip(2).take_while(|argument| *argument != "--") {
            let Some(text) = argument.to_str() else { continue };
            let (flag, value) = text.split_at(text.find('=').unwrap_or(text.len()));
            if let Some((_, full)) = FLAGS.iter().find(|(short, _)| *short == flag) {
                *argument = OsString::from(format!("{full}{value}"));
            }
        }
    }
    arguments
}
