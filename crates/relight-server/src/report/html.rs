//! The report as one HTML file that needs nothing else: no scripts, nothing loaded, readable in light and dark and on paper.

use std::fmt::{self, Write};

use super::Report;
use super::document::{Block, Cell, Document, Section, Tone, document};

const STYLE: &str = include_str!("report.css");

/// A text, with nothing in it that is markup. Characters that cannot be seen are written as `\u{202e}`: some of them turn the
/// direction of what follows.
struct Text<'t>(&'t str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => f.write_char(' ')?,
                other if is_unsafe(other) => write!(f, "{}", other.escape_unicode())?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Control characters, and those that change the direction of text (Unicode Standard Annex 9, section 2).
pub(super) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes it.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(report: &Report, out: &mut impl Write) -> fmt::Result {
    let Document {
        title,
        subtitle,
        footer,
        sections,
    } = document(report);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"default-src \
         'none'; style-src 'unsafe-inline'\">\n<title>{} {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        Text(&title),
        Text(&subtitle)
    )?;
    write!(
        out,
        "<header><h1>{}</h1><p>{}</p></header>\n<nav><ul>",
        Text(&title),
        Text(&subtitle)
    )?;
    for (n, Section { title, .. }) in sections.iter().enumerate() {
        write!(out, "<li><a href=\"#s{n}\">{}</a></li>", Text(title))?;
    }
    out.write_str("</ul></nav>\n<main>\n")?;
    for (n, section) in sections.iter().enumerate() {
        writeln!(out, "<section id=\"s{n}\">\n<h2>{}</h2>", Text(section.title))?;
        for part in &section.blocks {
            block(part, out)?;
        }
        out.write_str("</section>\n")?;
    }
    writeln!(
        out,
        "</main>\n<footer>{}</footer>\n</body>\n</html>",
        Text(&footer)
    )
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Good => " class=\"good\"",
        Tone::Partly => " class=\"partly\"",
        Tone::Bad => " class=\"bad\"",
        Tone::Quiet => " class=\"quiet\"",
    }
}

fn tagged(tag: &str, cell: &Cell, out: &mut impl Write) -> fmt::Result {
    write!(out, "<{tag}{}>{}</{tag}>", class(cell.tone), Text(&cell.text))
}

fn block(block: &Block, out: &mut impl Write) -> fmt::Result {
    match block {
        Block::Heading(text) => writeln!(out, "<h3>{}</h3>", Text(text)),
        Block::Paragraph(cell) => {
            tagged("p", cell, out)?;
            out.write_char('\n')
        }
        Block::Facts(facts) => {
            out.write_str("<dl>\n")?;
            for (name, cell) in facts {
                write!(out, "<dt>{}</dt>", Text(name))?;
                tagged("dd", cell, out)?;
                out.write_char('\n')?;
            }
            out.write_str("</dl>\n")
        }
        Block::Table {
            heading,
            widths,
            rows,
        } => {
            out.write_str("<div class=\"scroll\"><table>\n<colgroup>")?;
            let all: u32 = widths.iter().map(|width| u32::from(*width)).sum();
            for width in widths {
                write!(
                    out,
                    "<col style=\"width:{}%\">",
                    u32::from(*width) * 100 / all.max(1)
                )?;
            }
            out.write_str("</colgroup>\n<thead><tr>")?;
            for name in heading {
                write!(out, "<th scope=\"col\">{}</th>", Text(name))?;
            }
            out.write_str("</tr></thead>\n<tbody>\n")?;
            for row in rows {
                out.write_str("<tr>")?;
                for cell in row {
                    tagged("td", cell, out)?;
                }
                out.write_str("</tr>\n")?;
            }
            out.write_str("</tbody>\n</table></div>\n")
        }
    }
}
