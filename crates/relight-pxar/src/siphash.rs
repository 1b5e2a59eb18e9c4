//! SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), keyed as the format demands.

/// First key of the format's name hash.
const KEY_0: u64 = 0x83ac_3f1c_fbb4_50db;
/// Second key of the format's name hash.
const KEY_1: u64 = 0xaa4f_1b68_7936_9fbd;

/// Hash of a file name as it stands in look-up tables.
pub fn hash_name(name: &[u8]) -> u64 {
    sip_hash_2_4(KEY_0, KEY_1, name)
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }

    fn absorb(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }
}

fn sip_hash_2_4(key_0: u64, key_1: u64, message: &[u8]) -> u64 {
    let mut state = State {
        v0: key_0 ^ 0x736f_6d65_7073_6575,
        v1: key_1 ^ 0x646f_7261_6e64_6f6d,
        v2: key_0 ^ 0x6c79_6765_6e65_7261,
        v3: key_1 ^ 0x7465_6462_7974_6573,
    };
    let (words, rest) = message.as_chunks::<8>();
    for word in words {
        state.absorb(u64::from_le_bytes(*word));
    }
    let mut last = (message.len() as u64) << 56;
    for (index, &byte) in rest.iter().enumerate() {
        last |= u64::from(byte) << (8 * index);
    }
    state.absorb(last);
    state.v2 ^= 0xff;
    for _ in 0..4 {
        state.round();
    }
    state.v0 ^ state.v1 ^ state.v2 ^ state.v3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors of the reference implementation: key 00..0f, message 00..n.
    #[test]
    fn matches_the_reference_vectors() {
        let key_0 = 0x0706_0504_0302_0100;
        let key_1 = 0x0f0e_0d0c_0b0a_0908;
        let message: Vec<u8> = (0..15).collect();
        assert_eq!(sip_hash_2_4(key_0, key_1, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(sip_hash_2_4(key_0, key_1, &message[..8]), 0x93f5_f579_9a93_2462);
        assert_eq!(sip_hash_2_4(key_0, key_1, &message), 0xa129_ca61_49be_45e5);
    }
}
