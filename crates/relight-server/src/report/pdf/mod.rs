//! The report as a PDF (ISO 32000-1), with the JSON of it attached.

mod font;
mod layout;

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use pdf_writer::{Date, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::Report;
use super::document::document;

/// Under this name the JSON is attached.
const ATTACHED: &str = "report.json";

fn deflated(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn date(time: Timestamp) -> Date {
    let shown = TimeZone::UTC.to_datetime(time);
    let part = |value: i8| u8::try_from(value).unwrap_or(0);
    Date::new(u16::try_from(shown.year()).unwrap_or(0))
        .month(part(shown.month()))
        .day(part(shown.day()))
        .hour(part(shown.hour()))
        .minute(part(shown.minute()))
        .second(part(shown.second()))
        .utc_offset_hour(0)
        .utc_offset_minute(0)
}

/// Writes it.
///
/// # Errors
/// The report cannot be written as JSON, or not be compressed.
pub fn write(report: &Report) -> std::io::Result<Vec<u8>> {
    let document = document(report);
    let json = serde_json::to_vec_pretty(report).map_err(std::io::Error::other)?;
    let mut last = 0;
    let mut next = || {
        last += 1;
        Ref::new(last)
    };
    let (catalog, tree, info) = (next(), next(), next());
    let (regular, bold, attached, attachment) = (next(), next(), next(), next());
    let mut pdf = Pdf::new();
    pdf.set_version(1, 7);

    let mut kids = Vec::new();
    for content in layout::pages(&document) {
        let (page, stream) = (next(), next());
        kids.push(page);
        let data = deflated(&content.finish())?;
        pdf.stream(stream, &data).filter(Filter::FlateDecode);
        let mut page = pdf.page(page);
        page.media_box(Rect::new(0.0, 0.0, layout::WIDTH, layout::HEIGHT));
        page.parent(tree).contents(stream);
        let mut resources = page.resources();
        let mut fonts = resources.fonts();
        fonts.pair(Name(b"R"), regular).pair(Name(b"B"), bold);
    }
    let count = i32::try_from(kids.len()).map_err(std::io::Error::other)?;
    pdf.pages(tree).kids(kids).count(count);
    for (id, name) in [(regular, &b"Helvetica"[..]), (bold, &b"Helvetica-Bold"[..])] {
        pdf.type1_font(id)
            .base_font(Name(name))
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }

    let data = deflated(&json)?;
    let mut file = pdf.embedded_file(attached, &data);
    file.filter(Filter::FlateDecode);
    file.subtype(Name(b"application/json"));
    file.finish();
    let mut spec = pdf.file_spec(attachment);
    spec.path(Str(ATTACHED.as_bytes())).unic_file(TextStr(ATTACHED));
    spec.embedded_file(attached);
    spec.finish();

    let mut root = pdf.catalog(catalog);
    root.pages(tree).lang(TextStr("en"));
    root.names()
        .embedded_files()
        .names()
        .insert(Str(ATTACHED.as_bytes()), attachment);
    root.finish();
    pdf.document_info(info)
        .title(TextStr(&format!("{} {}", document.title, document.subtitle)))
        .creator(TextStr(&report.program))
        .creation_date(date(report.made));
    Ok(pdf.finish())
}
