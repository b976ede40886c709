//! Systems side by side: a table for people or for LaTeX.

/// Cells of one column; a cell may have several lines.
pub(super) struct Column {
    pub(super) title: String,
    pub(super) cells: Vec<String>,
}

impl Column {
    /// Width of the content; a title has a blank on either side more.
    fn width(&self) -> usize {
        let lines = self.cells.iter().flat_map(|cell| cell.lines());
        lines.map(width).chain([width(&self.title) + 2]).max().unwrap_or(0)
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// `text` in `wide` characters: the first column ends at the right, the others stand in the middle.
fn padded(text: &str, wide: usize, first: bool) -> String {
    let missing = wide.saturating_sub(width(text));
    let left = if first { missing } else { missing / 2 };
    format!("{}{text}{}", " ".repeat(left), " ".repeat(missing - left))
}

/// A table with lines around it.
pub(super) fn framed(columns: &[Column]) -> String {
    let widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let rule = |[left, line, cross, right]: [&str; 4]| {
        let lines: Vec<String> = widths.iter().map(|wide| line.repeat(wide + 2)).collect();
        format!("{left}{}{right}\n", lines.join(cross))
    };
    let row = |cells: &[&str]| {
        let height = cells.iter().map(|cell| cell.lines().count()).max().unwrap_or(1);
        let line_of = |line: usize| {
            let parts = cells.iter().zip(&widths).enumerate();
            let parts = parts.map(|(at, (cell, wide))| {
                format!(" {} ", padded(cell.lines().nth(line).unwrap_or(""), *wide, at == 0))
            });
            format!("│{}│\n", parts.collect::<Vec<String>>().join("│"))
        };
        (0..height).map(line_of).collect::<String>()
    };
    let mut table = rule(["╒", "═", "╤", "╕"]);
    table += &row(&columns.iter().map(|column| column.title.as_str()).collect::<Vec<&str>>());
    for index in 0..columns[0].cells.len() {
        table +=
            &if index == 0 { rule(["╞", "═", "╪", "╡"]) } else { rule(["├", "─", "┼", "┤"]) };
        table += &row(&columns.iter().map(|column| column.cells[index].as_str()).collect::<Vec<&str>>());
    }
    table + &rule(["╘", "═", "╧", "╛"])
}

/// A `tabular` with the rules of booktabs.
pub(super) fn latex(columns: &[Column]) -> String {
    let row = |cells: Vec<&str>| {
        let parts = cells.iter().zip(columns).enumerate();
        let parts = parts
            .map(|(at, (cell, column))| format!(" {} ", escaped(&padded(cell, column.width(), at == 0))));
        format!("{}\\\\\n", parts.collect::<Vec<String>>().join("&"))
    };
    let mut table = format!("\\begin{{tabular}}{{r{}}}\n\\toprule\n", "c".repeat(columns.len() - 1));
    table += &row(columns.iter().map(|column| column.title.as_str()).collect());
    table += "\\midrule\n";
    for index in 0..columns[0].cells.len() {
        table += &row(columns.iter().map(|column| column.cells[index].as_str()).collect());
    }
    table + "\\bottomrule\n\\end{tabular}\n"
}

fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '&' | '%' | '$' | '#' | '_' | '{' | '}' => format!("\\{c}"),
        '^' => "\\^{}".to_owned(),
        '~' => "\\textasciitilde{}".to_owned(),
        '\\' => "\\textbackslash{}".to_owned(),
        '<' | '>' => format!("\\ensuremath{{{c}}}"),
        _ => c.to_string(),
    };
    text.chars().map(escape).collect()
}
