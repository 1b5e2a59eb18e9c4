//! Keys of clients: what they encrypted is content only to whoever brings their key.

/// Opens what a client encrypted. The key stays with whoever reads; nothing of it gets into the repository.
pub trait Unseal: Send + Sync + std::fmt::Debug {
    /// The content of the chunk for which the client gave this digest: the one content that has it, of `length` bytes.
    /// None if the client used another key, or sent something else than it said.
    fn unseal(&self, digest: &[u8; 32], blob: &[u8], length: usize) -> Option<Vec<u8>>;
}
