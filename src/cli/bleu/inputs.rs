//! References and hypotheses of `bleu`, read side by side, a batch of lines at a time.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use swinseek_evals::lines::{Chunk, Lines};
use swinseek_evals::metric::Segment;
use swinseek_evals::tokenize::strip_end;

/// Lines of a batch: enough to keep the cores busy, few enough to hold in memory.
const BATCH: usize = 1 << 15;

/// Where the texts come from.
pub(super) struct Inputs {
    references: Files,
    hypotheses: Files,
}

/// Files that give the texts of a segment: one line each, or the columns of the lines of one file.
struct Files {
    readers: Vec<Lines>,
    chunks: Vec<Chunk>,
    columns: Columns,
}

/// How the texts of a line are told apart.
#[derive(Clone, Copy)]
enum Columns {
    /// The line is the text.
    One,
    /// This many references between tabs; a tab too many belongs to the last.
    References(usize),
    /// As many systems as the first line has between tabs.
    Systems(Option<usize>),
}

/// Some segments of every system.
pub(super) struct Batch<'a> {
    /// One segment after the other, in each the systems in order.
    hypotheses: Vec<&'a str>,
    references: Vec<&'a str>,
    segments: usize,
}

impl Batch<'_> {
    /// How many systems there are.
    pub(super) fn systems(&self) -> usize {
        self.hypotheses.len() / self.segments
    }

    /// The segments of one system.
    pub(super) fn of_system(&self, system: usize) -> Vec<Segment<'_>> {
        let hypotheses = self.hypotheses.iter().skip(system).step_by(self.systems());
        let references = self.references.chunks_exact(self.references.len() / self.segments);
        hypotheses
            .zip(references)
            .map(|(&hypothesis, references)| Segment { hypothesis, references })
            .collect()
    }
}

impl Inputs {
    /// Opens the files; without hypothesis files standard input is read.
    pub(super) fn open(references: &[PathBuf], columns: usize, hypotheses: &[PathBuf]) -> Result<Self> {
        if references.is_empty() {
            bail!("no reference file: they stand before -i, as in `swinseek bleu REF... -i HYP...`");
        }
        if columns == 0 || columns > 1 && references.len() > 1 {
            bail!("--num-refs {columns} with {} files, expected columns of one file", references.len());
        }
        let columns = if columns == 1 { Columns::One } else { Columns::References(columns) };
        let references = Files::open(references, columns)?;
        let hypotheses = match hypotheses {
            [] => Files::open(&[Path::new("-").to_owned()], Columns::Systems(None))?,
            files => Files::open(files, Columns::One)?,
        };
        Ok(Self { references, hypotheses })
    }

    /// The next segments; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Batch<'_>>> {
        let first = self.references.readers[0].count();
        self.references.read()?;
        self.hypotheses.read()?;
        let segments = self.references.chunks[0].len();
        let mut chunks = self.references.chunks.iter().chain(&self.hypotheses.chunks);
        if !chunks.all(|chunk| chunk.len() == segments) {
            return Err(self.different_counts());
        }
        match (segments, first) {
            (0, 0) => bail!("{}: empty, expected a segment on each line", self.hypotheses.readers[0].name()),
            (0, _) => Ok(None),
            _ => Ok(Some(Batch {
                hypotheses: self.hypotheses.texts(first)?,
                references: self.references.texts(first)?,
                segments,
            })),
        }
    }

    /// The error that says which file has how many lines.
    fn different_counts(&mut self) -> anyhow::Error {
        let mut found = Vec::new();
        for file in self.references.readers.iter_mut().chain(&mut self.hypotheses.readers) {
            match file.count_all() {
                Ok(0) => return anyhow::anyhow!("{}: empty, expected a segment on each line", file.name()),
                Ok(count) => found.push(format!("{} has {count}", file.name())),
                Err(error) => return error.into(),
            }
        }
        anyhow::anyhow!("line counts differ: {}", found.join(", "))
    }
}

impl Files {
    fn open(paths: &[PathBuf], columns: Columns) -> Result<Self> {
        let readers = paths.iter().map(|path| Lines::open(path)).collect::<Result<Vec<_>, _>>()?;
        let chunks = readers.iter().map(|_| Chunk::default()).collect();
        Ok(Self { readers, chunks, columns })
    }

    fn read(&mut self) -> Result<()> {
        for (file, chunk) in self.readers.iter_mut().zip(&mut self.chunks) {
            file.read(chunk, BATCH)?;
        }
        Ok(())
    }

    /// The texts of all files, one segment after the other; `first` lines came before.
    fn texts(&mut self, first: u64) -> Result<Vec<&str>> {
        if let Columns::Systems(count @ None) = &mut self.columns {
            *count = self.chunks[0].iter().next().map(|line| line.split('\t').count());
        }
        let mut streams: Vec<_> = self.chunks.iter().map(Chunk::iter).collect();
        let mut texts = Vec::with_capacity(self.chunks[0].len() * streams.len());
        for number in 0..self.chunks[0].len() as u64 {
            for line in streams.iter_mut().filter_map(Iterator::next) {
                let before = texts.len();
                let (expected, what) = match self.columns {
                    Columns::One => {
                        texts.push(line);
                        continue;
                    }
                    Columns::References(count) => {
                        texts.extend(line.splitn(count, '\t'));
                        (count, "references (--num-refs)")
                    }
                    Columns::Systems(count) => {
                        texts.extend(line.split('\t').map(strip_end));
                        (count.unwrap_or(1), "systems, as on the first line")
                    }
                };
                if texts.len() - before != expected {
                    let (name, line) = (self.readers[0].name(), first + number + 1);
                    let found = texts.len() - before;
                    bail!("{name}:{line}: {found} columns between tabs, expected {expected} {what}");
                }
            }
        }
        Ok(texts)
    }
}
