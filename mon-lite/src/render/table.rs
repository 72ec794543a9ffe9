//! Tables in plain text: two spaces between columns, every cell padded, the heading above. Pure.

/// Where a cell's text sits in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At the left.
    Left,
    /// At the right.
    Right,
}

/// A table under construction.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Adds a row of any length.
    pub fn row_of(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, a line per row, the heading first; every line ends with a newline.
    pub fn render(&self) -> String {
        let width = |(column, (title, _)): (usize, &(&str, Align))| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([title.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = self.columns.iter().enumerate().map(width).collect();
        let heading: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let mut out = String::new();
        for row in std::iter::once(&heading).chain(&self.rows) {
            for (column, ((_, align), width)) in self.columns.iter().zip(&widths).enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                if column > 0 {
                    out.push_str("  ");
                }
                let aligned = if *align == Align::Left { [cell, &padding] } else { [&padding, cell] };
                out.extend(aligned);
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cell_is_padded_to_its_column() {
        let mut table = Table::new(&[("ID", Align::Right), ("TYPE NAME", Align::Left), ("UP", Align::Right)]);
        table.row(["-1".to_owned(), "root default".to_owned()]);
        table.row(["0".to_owned(), "osd.0".to_owned(), "up".to_owned()]);
        assert_eq!(table.render(), "ID  TYPE NAME     UP\n-1  root default    \n 0  osd.0         up\n");
    }
}
