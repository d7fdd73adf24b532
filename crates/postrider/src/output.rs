//! The only writer to standard output.
//!
//! Decides how values look as a table for people, as JSON and as YAML for programs, and that
//! nothing that came from outside can steer a terminal.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

/// The value of `-o`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; streams are one object per line.
    Json,
    /// For both; streams are one document each.
    Yaml,
}

/// A colour that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Faint,
}

/// Standard output, with the form chosen once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: Format,
    colour: bool,
}

impl Output {
    /// Colour needs a terminal, and nobody who set `NO_COLOR`.
    pub(crate) fn new(format: Format, no_color: bool) -> Self {
        Self {
            format,
            colour: !no_color && io::stdout().is_terminal(),
        }
    }

    pub(crate) const fn format(self) -> Format {
        self.format
    }

    /// A list. In a table only `columns`, which are fields of each row; in JSON and YAML all.
    pub(crate) fn rows<T: Serialize>(self, columns: &[&str], rows: &[T]) -> io::Result<()> {
        write_rows(&mut io::stdout().lock(), self.format, columns, rows)?;
        if self.format == Format::Table && rows.is_empty() {
            eprintln!("none");
        }
        Ok(())
    }

    /// One value. In a table a line for each field.
    pub(crate) fn one<T: Serialize>(self, value: &T) -> io::Result<()> {
        write_one(&mut io::stdout().lock(), self.format, value)
    }

    /// One item of a stream, visible at once. In a table it is `line`.
    pub(crate) fn item<T: Serialize>(self, value: &T, line: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self.format {
            Format::Table => writeln!(out, "{line}")?,
            Format::Json => {
                serde_json::to_writer(&mut out, value)?;
                writeln!(out)?;
            }
            Format::Yaml => write!(out, "---\n{}", yaml(value)?)?,
        }
        out.flush()
    }

    /// Text as it is: scripts, pages.
    pub(crate) fn raw(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// A line for people; nothing in JSON and YAML.
    pub(crate) fn note(self, line: &str) -> io::Result<()> {
        match self.format {
            Format::Table => self.raw(&format!("{line}\n")),
            Format::Json | Format::Yaml => Ok(()),
        }
    }

    /// Coloured on a terminal.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Text from outside, with control characters written out.
pub(crate) fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

fn write_rows<T: Serialize>(
    out: &mut impl Write,
    format: Format,
    columns: &[&str],
    rows: &[T],
) -> io::Result<()> {
    match format {
        Format::Table => {
            let mut table = plain_table();
            table.set_header(
                columns
                    .iter()
                    .map(|name| name.replace('_', " ").to_uppercase()),
            );
            for row in rows {
                let row = serde_json::to_value(row)?;
                table.add_row(columns.iter().map(|name| cell(&row[*name])));
            }
            lines(out, &table)
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, rows)?;
            writeln!(out)
        }
        Format::Yaml => out.write_all(yaml(&rows)?.as_bytes()),
    }
}

fn write_one<T: Serialize>(out: &mut impl Write, format: Format, value: &T) -> io::Result<()> {
    match format {
        Format::Table => {
            let mut table = plain_table();
            match serde_json::to_value(value)? {
                Value::Object(fields) => {
                    for (name, value) in fields {
                        table.add_row([name.replace('_', " "), cell(&value)]);
                    }
                }
                other => {
                    table.add_row([cell(&other)]);
                }
            }
            lines(out, &table)
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut *out, value)?;
            writeln!(out)
        }
        Format::Yaml => out.write_all(yaml(value)?.as_bytes()),
    }
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table
}

/// Without the blanks a table without borders begins and ends its lines with.
fn lines(out: &mut impl Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end().trim_start_matches(' '))?;
    }
    Ok(())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.iter().all(|item| !item.is_object()) => {
            let cells: Vec<String> = items.iter().map(cell).collect();
            if cells.is_empty() {
                "-".to_owned()
            } else {
                cells.join(",")
            }
        }
        other => printable(&other.to_string()),
    }
}

fn yaml<T: Serialize>(value: &T) -> io::Result<String> {
    let mut text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Row {
        name: &'static str,
        types: Vec<&'static str>,
        not_after: Option<u32>,
        hidden: u32,
    }

    const ROWS: [Row; 1] = [Row {
        name: "a\x1b[31mb",
        types: Vec::new(),
        not_after: None,
        hidden: 7,
    }];

    fn rendered(format: Format) -> String {
        let mut out = Vec::new();
        write_rows(&mut out, format, &["name", "types", "not_after"], &ROWS).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_shows_the_columns_and_no_control_characters() {
        let text = rendered(Format::Table);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["NAME", "TYPES", "NOT", "AFTER"]);
        assert_eq!(lines[1], ["a\\u{1b}[31mb", "-", "-"]);
    }

    #[test]
    fn programs_get_every_field() {
        let json: Value = serde_json::from_str(&rendered(Format::Json)).unwrap();
        assert_eq!(json[0]["hidden"], 7);
        let yaml: Value = serde_saphyr::from_str(&rendered(Format::Yaml)).unwrap();
        assert_eq!(yaml, json);
    }

    #[test]
    fn colour_is_for_terminals() {
        let output = Output {
            format: Format::Table,
            colour: false,
        };
        assert_eq!(output.paint(Tone::Bad, "no"), "no");
        let output = Output {
            colour: true,
            ..output
        };
        assert_eq!(output.paint(Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
