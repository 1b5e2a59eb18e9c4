//! Puts a document on pages.

use pdf_writer::{Content, Name, Str};

use super::font::Font;
use crate::report::document::{Block, Cell, Document, Tone};

/// A4, across, in points.
pub(super) const WIDTH: f32 = 842.0;
pub(super) const HEIGHT: f32 = 595.0;
const MARGIN: f32 = 36.0;
/// Where the footer stands.
const FOOT: f32 = 22.0;
const BODY: f32 = 9.0;
const SMALL: f32 = 7.5;
/// Between lines, as a share of the size.
const LEADING: f32 = 1.25;
/// Between the line of a cell and its text.
const PADDING: f32 = 2.5;

type Lines = Vec<Vec<u8>>;

/// The pages of a document, each as its content.
pub(super) struct Pages {
    done: Vec<Content>,
    page: Content,
    /// How far down the page is used.
    y: f32,
}

fn rgb(tone: Tone) -> [f32; 3] {
    match tone {
        Tone::Plain => [0.0, 0.0, 0.0],
        Tone::Good => [0.04, 0.36, 0.13],
        Tone::Partly => [0.45, 0.27, 0.0],
        Tone::Bad => [0.6, 0.04, 0.12],
        Tone::Quiet => [0.33, 0.36, 0.4],
    }
}

/// Puts all of it on pages.
pub(super) fn pages(document: &Document) -> Vec<Content> {
    let mut pages = Pages {
        done: Vec::new(),
        page: Content::new(),
        y: HEIGHT - MARGIN,
    };
    pages.text(&document.title, Font::Bold, 16.0, Tone::Plain);
    pages.text(&document.subtitle, Font::Regular, 11.0, Tone::Quiet);
    for section in &document.sections {
        pages.space(10.0);
        pages.keep(70.0);
        pages.text(section.title, Font::Bold, 13.0, Tone::Plain);
        pages.space(3.0);
        for block in &section.blocks {
            pages.block(block);
        }
    }
    pages.done.push(pages.page);
    let count = pages.done.len();
    for (n, page) in pages.done.iter_mut().enumerate() {
        footer(page, &document.footer, &format!("{} of {count}", n + 1));
    }
    pages.done
}

fn footer(page: &mut Content, left: &str, right: &str) {
    let right = super::font::encode(right);
    let wide = Font::Regular.width(&right) as f32 * SMALL / 1000.0;
    let lines = Font::Regular.lines(left, SMALL, WIDTH - 2.0 * MARGIN - wide - 20.0);
    if let Some(line) = lines.first() {
        show(page, line, Font::Regular, SMALL, Tone::Quiet, MARGIN, FOOT);
    }
    let at = WIDTH - MARGIN - wide;
    show(page, &right, Font::Regular, SMALL, Tone::Quiet, at, FOOT);
}

fn show(page: &mut Content, text: &[u8], font: Font, size: f32, tone: Tone, x: f32, y: f32) {
    let name: &[u8] = match font {
        Font::Regular => b"R",
        Font::Bold => b"B",
    };
    let [r, g, b] = rgb(tone);
    page.begin_text();
    page.set_font(Name(name), size);
    page.set_fill_rgb(r, g, b);
    page.next_line(x, y);
    page.show(Str(text));
    page.end_text();
}

impl Pages {
    fn left(&self) -> f32 {
        self.y - MARGIN - SMALL
    }

    fn next_page(&mut self) {
        self.done.push(std::mem::replace(&mut self.page, Content::new()));
        self.y = HEIGHT - MARGIN;
    }

    /// Goes to the next page unless so much fits on this one.
    fn keep(&mut self, height: f32) {
        if self.left() < height {
            self.next_page();
        }
    }

    fn space(&mut self, height: f32) {
        self.y -= height;
    }

    fn text(&mut self, text: &str, font: Font, size: f32, tone: Tone) {
        for line in font.lines(text, size, WIDTH - 2.0 * MARGIN) {
            self.keep(size * LEADING);
            self.y -= size * LEADING;
            show(&mut self.page, &line, font, size, tone, MARGIN, self.y);
        }
    }

    fn block(&mut self, block: &Block) {
        match block {
            Block::Heading(text) => {
                self.space(5.0);
                self.keep(45.0);
                self.text(text, Font::Bold, 10.0, Tone::Plain);
            }
            Block::Paragraph(Cell { text, tone }) => {
                self.text(text, Font::Regular, BODY, *tone);
                self.space(2.0);
            }
            Block::Facts(facts) => {
                for (name, cell) in facts {
                    let cells = [
                        (name.to_string(), Tone::Quiet, Font::Regular),
                        (cell.text.clone(), cell.tone, Font::Regular),
                    ];
                    self.row(&cells, &[130.0, WIDTH - 2.0 * MARGIN - 130.0], BODY, false, None);
                }
                self.space(4.0);
            }
            Block::Table {
                heading,
                widths,
                rows,
            } => self.table(heading, widths, rows),
        }
    }

    fn table(&mut self, heading: &[&'static str], widths: &[u8], rows: &[Vec<Cell>]) {
        let all: f32 = widths.iter().map(|width| f32::from(*width)).sum();
        let share = |width: &u8| f32::from(*width) * (WIDTH - 2.0 * MARGIN) / all.max(1.0);
        let widths: Vec<f32> = widths.iter().map(share).collect();
        let bold = |name: &&str| ((*name).to_owned(), Tone::Plain, Font::Bold);
        let heading: Vec<_> = heading.iter().map(bold).collect();
        self.keep(40.0);
        self.row(&heading, &widths, SMALL, true, None);
        for row in rows {
            let cells = row
                .iter()
                .map(|cell| (cell.text.clone(), cell.tone, Font::Regular));
            let cells: Vec<_> = cells.collect();
            self.row(&cells, &widths, SMALL, true, Some(&heading));
        }
        self.space(6.0);
    }

    /// A row; one that is higher than the rest of the page goes on on the next, under the heading again.
    fn row(
        &mut self,
        cells: &[(String, Tone, Font)],
        widths: &[f32],
        size: f32,
        ruled: bool,
        heading: Option<&[(String, Tone, Font)]>,
    ) {
        let lines: Vec<Lines> = cells
            .iter()
            .zip(widths)
            .map(|((text, _, font), width)| font.lines(text, size, width - 2.0 * PADDING))
            .collect();
        let highest = lines.iter().map(Vec::len).max().unwrap_or(0);
        let leading = size * LEADING;
        let whole = leading * highest as f32 + 2.0 * PADDING;
        // What would fit on an empty page is not torn.
        let torn = whole > (HEIGHT - 2.0 * MARGIN) / 2.0;
        if self.left() < whole && !torn || self.left() < leading + 2.0 * PADDING {
            self.turn(heading, widths, size);
        }
        let mut from = 0;
        while from < highest {
            let fit = ((self.left() - 2.0 * PADDING) / leading).floor().max(1.0) as usize;
            let to = highest.min(from + fit);
            self.part(cells, &lines, widths, size, (from, to), ruled);
            from = to;
            if from < highest {
                self.turn(heading, widths, size);
            }
        }
    }

    fn turn(&mut self, heading: Option<&[(String, Tone, Font)]>, widths: &[f32], size: f32) {
        self.next_page();
        if let Some(heading) = heading {
            self.row(heading, widths, size, true, None);
        }
    }

    fn part(
        &mut self,
        cells: &[(String, Tone, Font)],
        lines: &[Lines],
        widths: &[f32],
        size: f32,
        (from, to): (usize, usize),
        ruled: bool,
    ) {
        let leading = size * LEADING;
        let mut x = MARGIN;
        for (((_, tone, font), lines), width) in cells.iter().zip(lines).zip(widths) {
            let shown = lines.iter().skip(from).take(to - from);
            for (n, line) in shown.enumerate().filter(|(_, line)| !line.is_empty()) {
                let y = self.y - PADDING - leading * (n as f32 + 1.0) + (leading - size) / 2.0 + size * 0.2;
                show(&mut self.page, line, *font, size, *tone, x + PADDING, y);
            }
            x += width;
        }
        self.y -= leading * (to - from) as f32 + 2.0 * PADDING;
        if ruled {
            self.page.set_stroke_rgb(0.75, 0.78, 0.82);
            self.page.set_line_width(0.5);
            self.page.move_to(MARGIN, self.y);
            self.page.line_to(WIDTH - MARGIN, self.y);
            self.page.stroke();
        }
    }
}
