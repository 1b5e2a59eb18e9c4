//! A tree in memory and how it goes into and comes out of archives.

#![allow(dead_code, clippy::unwrap_used)]

use std::io::Read;

use relight_pxar::{
    Accessor, ContentPlace, DecodeError, Decoder, EncodeError, Encoder, Entry, EntryKind, EntryMetadata,
    Event, Metadata, Node, RawMetadata, Version, payload,
};

/// The original's archives of one tree: version 1, and version 2 made in its data and metadata modes.
pub const TREE_V1: &[u8] = include_bytes!("../fixtures/tree.pxar");
pub const TREE_DATA: &[u8] = include_bytes!("../fixtures/data.mpxar");
pub const TREE_METADATA: &[u8] = include_bytes!("../fixtures/metadata.mpxar");

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Directory,
    File {
        size: u64,
        content: Vec<u8>,
        payload: Option<u64>,
    },
    Symlink(Vec<u8>),
    Device(u64, u64),
    Fifo,
    Socket,
    Hardlink(Vec<u8>),
    End,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub path: Vec<u8>,
    pub what: What,
    pub metadata: Metadata,
    pub raw: Vec<u8>,
    pub position: u64,
    pub target_position: Option<u64>,
}

impl Item {
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }
}

fn item_of(entry: &Entry<'_>) -> Result<Item, DecodeError> {
    let mut target_position = None;
    let what = match entry.kind {
        EntryKind::Directory => What::Directory,
        EntryKind::File { size, content } => {
            let payload = match content {
                ContentPlace::Payload { offset } => Some(offset),
                ContentPlace::Inline { .. } => None,
            };
            What::File {
                size,
                content: Vec::new(),
                payload,
            }
        }
        EntryKind::Symlink { target } => What::Symlink(target.to_vec()),
        EntryKind::Device { major, minor } => What::Device(major, minor),
        EntryKind::Fifo => What::Fifo,
        EntryKind::Socket => What::Socket,
        EntryKind::Hardlink {
            target_position: position,
            target,
        } => {
            target_position = Some(position);
            What::Hardlink(target.to_vec())
        }
    };
    Ok(Item {
        path: entry.path.to_vec(),
        what,
        metadata: entry.decode_metadata()?,
        raw: entry.metadata.map(|raw| raw.items().to_vec()).unwrap_or_default(),
        position: entry.position,
        target_position,
    })
}

/// Everything an archive says, in its order, with inline contents.
pub fn decode<R: Read>(decoder: &mut Decoder<R>) -> Result<Vec<Item>, DecodeError> {
    let mut items = Vec::new();
    loop {
        let mut item = match decoder.next()? {
            None => return Ok(items),
            Some(Event::Entry(entry)) => item_of(&entry)?,
            Some(Event::EndDirectory { path, end }) => Item {
                path: path.to_vec(),
                what: What::End,
                metadata: Metadata::default(),
                raw: Vec::new(),
                position: end,
                target_position: None,
            },
        };
        if let What::File {
            content,
            payload: None,
            ..
        } = &mut item.what
        {
            let mut buffer = [0; 4000];
            loop {
                let count = decoder.read_content(&mut buffer)?;
                if count == 0 {
                    break;
                }
                content.extend_from_slice(&buffer[..count]);
            }
        }
        items.push(item);
    }
}

pub fn decode_bytes(archive: &[u8]) -> Vec<Item> {
    decode(&mut Decoder::new(archive).unwrap()).unwrap()
}

fn metadata_of(item: &Item, raw: bool) -> EntryMetadata<'_> {
    if raw {
        RawMetadata::new(&item.raw).unwrap().into()
    } else {
        (&item.metadata).into()
    }
}

/// Writes items as [`decode`] hands them out, copying raw metadata or encoding the decoded one.
pub fn encode(
    items: &[Item],
    version: Version,
    prelude: Option<&[u8]>,
    raw: bool,
) -> Result<Vec<u8>, EncodeError> {
    let root = metadata_of(&items[0], raw);
    let mut encoder = match version {
        Version::V1 => Encoder::new_v1(Vec::new(), root)?,
        Version::V2 => Encoder::new(Vec::new(), prelude, root)?,
    };
    let mut positions = std::collections::HashMap::new();
    for item in &items[1..] {
        let metadata = || metadata_of(item, raw);
        let name = item.name();
        let position = match &item.what {
            What::Directory => encoder.start_directory(name, metadata())?,
            What::File {
                size,
                payload: Some(offset),
                ..
            } => encoder.add_file_ref(name, metadata(), *offset, *size)?,
            What::File {
                size,
                content,
                payload: None,
            } => {
                let added = encoder.add_file(name, metadata(), *size, &mut content.as_slice())?;
                assert_eq!(added.missing, 0);
                added.position
            }
            What::Symlink(target) => encoder.add_symlink(name, metadata(), target)?,
            What::Device(major, minor) => encoder.add_device(name, metadata(), *major, *minor)?,
            What::Fifo => encoder.add_fifo(name, metadata())?,
            What::Socket => encoder.add_socket(name, metadata())?,
            What::Hardlink(target) => encoder.add_hardlink(name, target, positions[target])?,
            What::End => {
                encoder.end_directory()?;
                continue;
            }
        };
        positions.insert(item.path.clone(), position);
    }
    encoder.finish()
}

/// Everything an archive says, found by walking its look-up tables.
pub fn walk(accessor: &Accessor<&[u8]>) -> Result<Vec<Item>, DecodeError> {
    fn visit(
        accessor: &Accessor<&[u8]>,
        node: &Node,
        path: &[u8],
        items: &mut Vec<Item>,
    ) -> Result<(), DecodeError> {
        let entry = Entry {
            path,
            name: node.name(),
            kind: node.kind(),
            metadata: node.raw_metadata()?,
            position: node.position(),
        };
        let mut item = item_of(&entry)?;
        if let What::File {
            size,
            content,
            payload: None,
        } = &mut item.what
        {
            let reader = accessor.content(node, None)?;
            content.resize(*size as usize, 0);
            relight_pxar::read_at::ReadAt::read_exact_at(&reader, content, 0)?;
        }
        let directory = item.what == What::Directory;
        items.push(item);
        if directory {
            for child in accessor.children(&accessor.directory(node)?)? {
                let child = child?;
                let mut child_path = path.to_vec();
                if !path.is_empty() {
                    child_path.push(b'/');
                }
                child_path.extend_from_slice(child.name());
                visit(accessor, &child, &child_path, items)?;
            }
            items.push(Item {
                path: path.to_vec(),
                what: What::End,
                metadata: Metadata::default(),
                raw: Vec::new(),
                position: node.id().to_raw(),
                target_position: None,
            });
        }
        Ok(())
    }
    let mut items = Vec::new();
    visit(accessor, &accessor.root()?, b"", &mut items)?;
    Ok(items)
}

/// The payload stream that holds `contents` at the places given, zeros between them, ended at `length`.
pub fn payload_stream(contents: &[(u64, &[u8])], length: usize) -> Vec<u8> {
    let mut stream = payload::START_MARKER.to_vec();
    for (offset, content) in contents {
        stream.resize(*offset as usize, 0);
        stream.extend_from_slice(&payload::header(content.len() as u64));
        stream.extend_from_slice(content);
    }
    stream.resize(length - payload::TAIL_MARKER.len(), 0);
    stream.extend_from_slice(&payload::TAIL_MARKER);
    stream
}
