//! Rows of scores, as Markdown and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Data set, split and size.
    pub set: String,
    /// What was scored: the model, a floor, a ceiling.
    pub system: String,
    /// Name of the measure.
    pub measure: String,
    /// The figure.
    pub value: f64,
    /// 95 % interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// What the figure should reach, if a goal was set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<f64>,
}

/// The table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Table {
    /// Its rows, in reading order.
    pub rows: Vec<Row>,
    /// Signatures and other facts that a figure needs.
    pub notes: Vec<String>,
}

impl Table {
    /// Adds a row without a goal.
    pub fn push(&mut self, set: &str, system: &str, measure: &str, value: f64, interval: Option<[f64; 2]>) {
        let (set, system, measure) = (set.to_owned(), system.to_owned(), measure.to_owned());
        self.rows.push(Row { set, system, measure, value, interval, goal: None });
    }

    /// Sets the goal of the row added last.
    pub fn goal(&mut self, goal: f64) {
        if let Some(row) = self.rows.last_mut() {
            row.goal = Some(goal);
        }
    }

    /// Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| set | system | measure | value | 95 % interval | goal |\n|---|---|---|---|---|---|\n",
        );
        for row in &self.rows {
            let interval =
                row.interval.map_or("–".to_owned(), |[low, high]| format!("{low:.3} – {high:.3}"));
            let goal = row.goal.map_or("–".to_owned(), |goal| {
                format!("{goal:.3} ({})", if row.value >= goal { "met" } else { "not met" })
            });
            let _ = writeln!(
                text,
                "| {} | {} | {} | {:.3} | {interval} | {goal} |",
                row.set, row.system, row.measure, row.value
            );
        }
        for note in &self.notes {
            let _ = write!(text, "\n- {note}");
        }
        text.push('\n');
        text
    }
}
