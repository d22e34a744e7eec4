//! Text with a little emphasis, cut to a terminal's width; and tables of it.

use std::fmt::Write as _;

/// How a piece of text stands out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// It does not.
    #[default]
    Plain,
    /// Less than the rest.
    Dim,
    /// A heading.
    Bold,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Wrong.
    Bad,
}

impl Style {
    /// Parameters of the control sequence that switches to it (ECMA-48, select graphic rendition).
    fn code(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Dim => "2",
            Style::Bold => "1",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "31",
        }
    }
}

/// One line: pieces in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// A line of one piece.
    pub fn new(style: Style, text: &str) -> Self {
        Self::default().and(style, text)
    }

    /// Adds a piece. What a terminal would act upon is replaced: texts come from files and programs.
    pub fn and(mut self, style: Style, text: &str) -> Self {
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        self.0.push((style, text.chars().map(harmless).collect()));
        self
    }

    /// Characters in it.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// Cut to `width` characters.
    fn cut(self, width: usize) -> Self {
        let mut left = width;
        let mut kept = Vec::new();
        for (style, text) in self.0 {
            let text = clipped(&text, left);
            left -= text.chars().count();
            kept.push((style, text));
        }
        Self(kept)
    }

    /// Without emphasis, and without blanks at its end.
    pub fn plain(&self) -> String {
        let all: String = self.0.iter().map(|(_, text)| text.as_str()).collect();
        all.trim_end().to_owned()
    }

    /// With control sequences for emphasis.
    pub fn coloured(&self) -> String {
        let mut all = String::new();
        for (style, text) in &self.0 {
            match style.code() {
                "" => all.push_str(text),
                // Writing to a String cannot fail.
                code => drop(write!(all, "\x1b[{code}m{text}\x1b[0m")),
            }
        }
        all
    }
}

/// A text that has to be read whole: as many lines as it takes at this width, up to `most`.
pub fn wrapped(style: Style, text: &str, width: usize, most: usize) -> Vec<Line> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| line.chars().count() + 1 + word.chars().count() > width);
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if !full => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.iter().take(most).map(|line| Line::new(style, line)).collect()
}

/// What fills a terminal: never more lines than it has, none wider than it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Screen {
    /// From the top.
    pub lines: Vec<Line>,
}

impl Screen {
    /// The first `height` of `lines`, each cut to `width`.
    pub fn cut(lines: Vec<Line>, width: usize, height: usize) -> Self {
        Self { lines: lines.into_iter().take(height).map(|line| line.cut(width)).collect() }
    }

    /// Without emphasis.
    pub fn plain(&self) -> String {
        self.lines.iter().map(|line| line.plain() + "\n").collect()
    }
}

/// A text cut to `width` characters; a cut one ends with `…`.
fn clipped(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    match width.checked_sub(1) {
        Some(keep) => text.chars().take(keep).chain(['…']).collect(),
        None => String::new(),
    }
}

/// Which side of its column a cell keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// A cell of a table.
pub type Cell = (Style, String);

/// Rows below a head, each column as wide as its widest cell. A table wider than `width` takes what it lacks
/// from its widest column of texts, again and again, down to a few characters.
pub fn table(head: &[(&str, Side)], rows: &[Vec<Cell>], width: usize) -> Vec<Line> {
    const GAP: usize = 2;
    const LEAST: usize = 8;
    let count = |text: &str| text.chars().count();
    let mut widths: Vec<usize> = head.iter().map(|(title, _)| count(title)).collect();
    for row in rows {
        for (widest, (_, text)) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(count(text));
        }
    }
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > width {
        let texts = widths.iter_mut().zip(head).filter(|(_, (_, side))| *side == Side::Left);
        match texts.map(|(width, _)| width).max() {
            Some(widest) if *widest > LEAST => *widest -= 1,
            _ => break,
        }
    }
    let line = |cells: &[Cell]| {
        let mut line = Line::default();
        for (index, ((style, text), (column, (_, side)))) in
            cells.iter().zip(widths.iter().zip(head)).enumerate()
        {
            let text = clipped(text, *column);
            let blanks = " ".repeat(column - count(&text));
            if index > 0 {
                line = line.and(Style::Plain, "  ");
            }
            line = match side {
                Side::Left => line.and(*style, &text).and(Style::Plain, &blanks),
                Side::Right => line.and(Style::Plain, &blanks).and(*style, &text),
            };
        }
        line
    };
    let titles: Vec<Cell> = head.iter().map(|(title, _)| (Style::Bold, (*title).to_owned())).collect();
    std::iter::once(&titles).chain(rows).map(|cells| line(cells)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_wider_or_higher_than_the_terminal() {
        let line = Line::new(Style::Bold, "one two").and(Style::Bad, "three");
        let screen = Screen::cut(vec![line.clone(), line.clone(), line], 9, 2);
        assert_eq!(screen.plain(), "one twot…\none twot…\n");
        assert_eq!(Screen::cut(vec![Line::new(Style::Plain, "x")], 0, 1).plain(), "\n");
    }

    #[test]
    fn texts_cannot_steer_the_terminal() {
        let line = Line::new(Style::Plain, "a\x1b[2Jb\r\nc\u{9b}d");
        assert_eq!(line.coloured(), "a [2Jb  c d");
    }

    #[test]
    fn what_has_to_be_read_whole_is_wrapped() {
        let lines = |text, width| -> Vec<String> {
            wrapped(Style::Plain, text, width, 3).iter().map(Line::plain).collect()
        };
        assert_eq!(lines("one two three", 8), ["one two", "three"]);
        assert_eq!(lines("a-long-word b", 4), ["a-long-word", "b"]);
        assert_eq!(lines("a b c d e", 1), ["a", "b", "c"]);
    }

    #[test]
    fn emphasis_ends_where_its_piece_does() {
        let line = Line::new(Style::Good, "ok").and(Style::Plain, " then");
        assert_eq!(line.coloured(), "\x1b[32mok\x1b[0m then");
        assert_eq!(line.plain(), "ok then");
    }

    #[test]
    fn a_narrow_table_takes_from_its_widest_text() {
        let head = [("name", Side::Left), ("note", Side::Left), ("n", Side::Right)];
        let cell = |text: &str| (Style::Plain, text.to_owned());
        let rows = [vec![cell("a-rather-long-name"), cell("short"), cell("12")]];
        let show =
            |width| table(&head, &rows, width).iter().map(|line| line.plain() + "\n").collect::<String>();
        assert_eq!(show(80), "name                note    n\na-rather-long-name  short  12\n");
        assert_eq!(show(22), "name         note    n\na-rather-l…  short  12\n");
    }
}
