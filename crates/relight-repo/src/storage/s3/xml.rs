//! The little XML that S3 speaks.

use std::io::BufRead;

use quick_xml::Reader;
use quick_xml::events::Event;

/// No document of S3 is nested deeper.
const DEPTH: usize = 16;

/// An element with its text and the elements in it. Attributes and name spaces do not matter to S3.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub name: String,
    pub text: String,
    pub children: Vec<Element>,
}

impl Element {
    /// Reads a whole document. One that ends early is an error, not a shorter document.
    pub fn parse(document: impl BufRead) -> Result<Self, String> {
        let mut reader = Reader::from_reader(document);
        let mut buffer = Vec::new();
        let mut open: Vec<Self> = Vec::new();
        loop {
            buffer.clear();
            let event = reader
                .read_event_into(&mut buffer)
                .map_err(|error| format!("bad XML: {error}"))?;
            match event {
                Event::Start(start) if open.len() < DEPTH => {
                    open.push(Self {
                        name: start.local_name().into_inner().into(),
                        ..Self::default()
                    });
                }
                Event::Start(_) => return Err("bad XML: nested too deeply".into()),
                Event::Empty(start) => {
                    let element = Self {
                        name: start.local_name().into_inner().into(),
                        ..Self::default()
                    };
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => return Ok(element),
                    }
                }
                Event::End(_) => {
                    let Some(element) = open.pop() else {
                        return Err("bad XML: an end without a start".into());
                    };
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => return Ok(element),
                    }
                }
                Event::Text(text) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&text.xml10_content());
                    }
                }
                Event::CData(text) => {
                    if let Some(element) = open.last_mut() {
                        element.text.push_str(&text.xml10_content());
                    }
                }
                Event::GeneralRef(reference) => {
                    let character = match reference.resolve_char_ref() {
                        Ok(Some(character)) => Some(character),
                        Ok(None) => match reference.xml10_content().as_ref() {
                            "amp" => Some('&'),
                            "lt" => Some('<'),
                            "gt" => Some('>'),
                            "quot" => Some('"'),
                            "apos" => Some('\''),
                            _ => None,
                        },
                        Err(_) => None,
                    };
                    let character = character.ok_or("bad XML: an unknown entity")?;
                    if let Some(element) = open.last_mut() {
                        element.text.push(character);
                    }
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
                Event::Eof => return Err("bad XML: it ends in the middle".into()),
            }
        }
    }

    /// The first element of that name in this one.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The elements of that name in this one.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The text of the first element of that name, trimmed; empty if there is none.
    pub fn text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.trim())
    }

    /// The text of the first element of that name exactly as it is: keys may begin or end with a space.
    pub fn raw_text_of(&self, name: &str) -> &str {
        self.child(name).map_or("", |child| child.text.as_str())
    }
}

/// Escapes text for an element.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read() {
        let document = "<?xml version=\"1.0\"?>\n<!-- x --><a:List xmlns:a=\"urn\"><Key> a&amp;b&#x2F;&quot;c </Key>\
            <Empty/><Key><![CDATA[<raw>]]></Key></a:List>";
        let list = Element::parse(document.as_bytes()).unwrap();
        assert_eq!(list.name, "List");
        assert_eq!(list.raw_text_of("Key"), " a&b/\"c ");
        assert_eq!(list.text_of("Key"), "a&b/\"c");
        assert_eq!(list.all("Key").nth(1).unwrap().text, "<raw>");
        assert_eq!(list.text_of("Empty"), "");
        assert!(list.child("None").is_none());
        assert_eq!(escape("a&<\">"), "a&amp;&lt;&quot;&gt;");
    }

    #[test]
    fn what_ends_early_or_is_something_else_is_refused() {
        let deep = "<a>".repeat(100);
        for document in [
            "",
            "no xml",
            "<a><b></b>",
            "<a><b></a>",
            "<a>&bogus;</a>",
            "</a>",
            "<html><p></html>",
            &deep,
        ] {
            assert!(Element::parse(document.as_bytes()).is_err(), "{document}");
        }
    }
}
