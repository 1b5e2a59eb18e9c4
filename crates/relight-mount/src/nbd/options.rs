//! The content of options, as clients send it.

/// Takes parts off the front of an option's data.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(first)
    }

    /// The next number of 32 bits.
    pub fn u32(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    /// The next number of 16 bits.
    pub fn u16(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*first))
    }

    /// The next string behind its length of 32 bits.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).ok()?)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// `NBD_OPT_INFO` and `NBD_OPT_GO`: the export's name, and what the client wants to know.
pub fn info(data: &[u8]) -> Option<(&[u8], Vec<u16>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u16()?;
    let wanted: Vec<u16> = (0..count).map_while(|_| fields.u16()).collect();
    (wanted.len() == usize::from(count) && fields.is_empty()).then_some((name, wanted))
}

/// `NBD_OPT_LIST_META_CONTEXT` and `NBD_OPT_SET_META_CONTEXT`: the export's name, and the contexts.
pub fn contexts(data: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u32()?;
    let mut queries = Vec::new();
    // Not allocated by the count, which may be a lie.
    for _ in 0..count {
        queries.push(fields.string()?);
    }
    fields.is_empty().then_some((name, queries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_garbage_is_refused() {
        assert_eq!(
            info(b"\0\0\0\x01x\0\x02\0\x03\0\x01"),
            Some((&b"x"[..], vec![3, 1]))
        );
        assert_eq!(info(b"\0\0\0\0\0\0"), Some((&b""[..], vec![])));
        for bad in [
            &b""[..],
            b"\0\0\0\x05x\0\0",
            b"\0\0\0\0\0\x01",
            b"\0\0\0\0\0\0x",
            b"\xff\xff\xff\xff\0\0",
        ] {
            assert_eq!(info(bad), None, "{bad:?}");
        }
        assert_eq!(
            contexts(b"\0\0\0\0\0\0\0\x01\0\0\0\x01y"),
            Some((&b""[..], vec![&b"y"[..]]))
        );
        for bad in [
            &b""[..],
            b"\0\0\0\0\xff\xff\xff\xff",
            b"\0\0\0\0\0\0\0\x01\0\0\0\x02y",
            b"\0\0\0\0\0\0\0\0z",
        ] {
            assert_eq!(contexts(bad), None, "{bad:?}");
        }
    }
}
