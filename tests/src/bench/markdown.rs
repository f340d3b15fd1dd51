//! Tables in Markdown that are tables on a screen, too.

/// A table, its columns aligned: the first `texts` of them to the left, the others, which are numbers, to the right.
#[must_use]
pub fn table(texts: usize, columns: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).chain([columns[column].chars().count(), 3]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::from("|");
        for (column, cell) in cells.enumerate() {
            let room = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            let cell = if column < texts { format!(" {cell}{room} |") } else { format!(" {room}{cell} |") };
            out.push_str(&cell);
        }
        out + "\n"
    };
    let mut out = line(&mut columns.iter().copied());
    out.push('|');
    for (column, width) in widths.iter().enumerate() {
        let rule = "-".repeat(*width);
        out.push_str(&if column < texts { format!(" {rule} |") } else { format!(" {}: |", &rule[1..]) });
    }
    out.push('\n');
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["meltemi".to_owned(), "5.1".to_owned()], vec!["µ".to_owned(), "120.0".to_owned()]];
        let expected = "\
| proxy   | CPU µs |
| ------- | -----: |
| meltemi |    5.1 |
| µ       |  120.0 |
";
        assert_eq!(table(1, &["proxy", "CPU µs"], &rows), expected);
    }
}
