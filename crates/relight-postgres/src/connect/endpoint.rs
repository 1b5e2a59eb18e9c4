//! What binds a log-in to the TLS connection it is made over: a digest of the server's certificate
//! (`tls-server-end-point`, RFC 5929, section 4).

use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

/// Object identifiers of signature algorithms, as DER encodes them, and the digest each uses. MD5 and SHA-1 are replaced by
/// SHA-256 (RFC 5929, section 4.1).
static ALGORITHMS: &[(&[u8], &Algorithm)] = &[
    // RSA (RFC 8017, appendix C) with MD5, SHA-1, SHA-256, SHA-384, SHA-512.
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b", &SHA256),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c", &SHA384),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d", &SHA512),
    // ECDSA (RFC 5758, section 3.2) with SHA-1, SHA-256, SHA-384, SHA-512.
    (b"\x2a\x86\x48\xce\x3d\x04\x01", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", &SHA256),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", &SHA384),
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", &SHA512),
];

/// The digest of a certificate in DER. None: it is signed in a way that names no digest (Ed25519), so that nothing can be bound
/// to it.
pub(super) fn binding(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, whole, _) = element(certificate, 0x30)?;
    let (_, _, rest) = element(whole, 0x30)?;
    let (_, algorithm, _) = element(rest, 0x30)?;
    let (_, identifier, _) = element(algorithm, 0x06)?;
    let (_, algorithm) = ALGORITHMS.iter().find(|(known, _)| *known == identifier)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

/// The element of this kind at the beginning (ITU-T X.690): its tag, its content, and what follows it.
fn element(bytes: &[u8], wanted: u8) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (tag == wanted).then_some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_signature() {
        let signed = |algorithm: &'static rcgen::SignatureAlgorithm| {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let parameters = rcgen::CertificateParams::new(["db.example".to_string()]).unwrap();
            parameters.self_signed(&key).unwrap().der().to_vec()
        };
        let certificate = signed(&rcgen::PKCS_ECDSA_P256_SHA256);
        assert_eq!(
            binding(&certificate).unwrap(),
            digest(&SHA256, &certificate).as_ref()
        );
        let certificate = signed(&rcgen::PKCS_ECDSA_P384_SHA384);
        assert_eq!(
            binding(&certificate).unwrap(),
            digest(&SHA384, &certificate).as_ref()
        );
        assert_eq!(binding(&signed(&rcgen::PKCS_ED25519)), None);
        for cut in 0..40 {
            assert_eq!(binding(&certificate[..cut]), None);
        }
        assert_eq!(binding(b"\x30\x84\xff\xff\xff\xff"), None);
    }
}
