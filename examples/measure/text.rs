//! Formats numbers and tables as text for a terminal.

use std::time::Duration;

/// Aligns columns: the first to the left, all others to the right.
pub(crate) fn table(header: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let lines: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width =
        |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        text += &format!("  {:<1$}", line[0], widths[0]);
        for (cell, width) in line.iter().zip(&widths).skip(1) {
            text += &format!("  {cell:>width$}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// Formats a number with a comma at every third digit.
pub(crate) fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let (sign, digits) = digits.split_at(usize::from(digits.starts_with('-')));
    let mut text = sign.to_owned();
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a count with its noun, for nouns that take an s.
pub(crate) fn count(number: usize, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        let numbers = [0, 999, 1_000, -123, -1_234, 336_776, 1_000_000].map(|n: i32| grouped(n));
        assert_eq!(numbers, ["0", "999", "1,000", "-123", "-1,234", "336,776", "1,000,000"]);
    }

    #[test]
    fn columns_line_up() {
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = table(cells(["name", "n"]), vec![cells(["a", "1"]), cells(["bcdef", "23"])]);
        assert_eq!(text, "  name    n\n  a       1\n  bcdef  23\n");
    }
}
