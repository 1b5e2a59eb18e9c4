//! TLS as clients of the protocol use it: no ALPN, and a certificate that is trusted by its chain or known by its
//! fingerprint.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::address::authority;
use super::wire::{BoxIo, Connecting, Transport};
use super::{ClientError, Result, ServerAddress};
use crate::formats::crypt::Fingerprint;

/// How long a connection and its handshake may take, each.
const CONNECT: Duration = Duration::from_secs(30);

/// Which certificate of a server is trusted.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Only the one with this SHA-256 fingerprint, whoever signed it.
    Fingerprint(Fingerprint),
    /// One that this host's certificate authorities vouch for.
    Chain,
}

/// Connections over TCP and TLS.
pub struct TlsTransport {
    host: String,
    port: u16,
    server: String,
    trust: Trust,
    roots: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl TlsTransport {
    /// To this server. This host's certificate authorities are read now if they are needed.
    ///
    /// # Errors
    /// [`ClientError::Tls`] if this host has no certificate authorities.
    pub fn new(address: &ServerAddress, trust: Trust) -> Result<Self> {
        Self::to(&address.host, address.port, trust)
    }

    /// To a port of a host, which may be an address of IPv6 without brackets.
    ///
    /// # Errors
    /// Those of [`TlsTransport::new`].
    pub fn to(host: &str, port: u16, trust: Trust) -> Result<Self> {
        let provider = Arc::new(provider::default_provider());
        let roots = match trust {
            Trust::Fingerprint(_) => None,
            Trust::Chain => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
                Some(verifier.map_err(|error| {
                    ClientError::Tls(format!(
                        "this host has no certificate authorities ({error}); install ca-certificates, or give the \
                         fingerprint of the server's certificate"
                    ))
                })?)
            }
        };
        Ok(Self {
            host: host.to_string(),
            port,
            server: authority(host, port),
            trust,
            roots,
            provider,
        })
    }

    async fn open(&self) -> Result<BoxIo> {
        let connect = |source| ClientError::Connect {
            server: self.server.clone(),
            source,
        };
        let late = || connect(std::io::ErrorKind::TimedOut.into());
        let tcp = TcpStream::connect((self.host.as_str(), self.port));
        let tcp = tokio::time::timeout(CONNECT, tcp).await;
        let tcp = tcp.map_err(|_| late())?.map_err(connect)?;
        tcp.set_nodelay(true).map_err(connect)?;

        let check = Arc::new(Check {
            trust: self.trust.clone(),
            roots: self.roots.clone(),
            provider: self.provider.clone(),
            refused: Mutex::default(),
        });
        let tls = |error: rustls::Error| ClientError::Tls(error.to_string());
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(check.clone())
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| ClientError::Tls(format!("{} is not the name of a host", self.host)))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        match tokio::time::timeout(CONNECT, handshake).await {
            Err(_) => Err(late()),
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => {
                let refused = check
                    .refused
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                Err(match refused {
                    Some((fingerprint, why)) => ClientError::Untrusted {
                        server: self.server.clone(),
                        fingerprint,
                        why,
                    },
                    None => connect(error),
                })
            }
        }
    }
}

impl Transport for TlsTransport {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(self.open())
    }

    fn authority(&self) -> String {
        self.server.clone()
    }
}

/// Looks at the certificate of one connection, and remembers why it was refused.
#[derive(Debug)]
struct Check {
    trust: Trust,
    roots: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    refused: Mutex<Option<(Fingerprint, String)>>,
}

fn fingerprint_of(certificate: &CertificateDer<'_>) -> Fingerprint {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    Fingerprint(bytes)
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let found = fingerprint_of(certificate);
        let refuse = |why: String, error: rustls::Error| {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some((found, why));
            error
        };
        match (&self.trust, &self.roots) {
            (Trust::Fingerprint(expected), _) if *expected == found => Ok(ServerCertVerified::assertion()),
            (Trust::Chain, Some(roots)) => roots
                .verify_server_cert(certificate, intermediates, name, ocsp, now)
                .map_err(|error| refuse(error.to_string(), error)),
            _ => Err(refuse(
                "it is not the one whose fingerprint was given".into(),
                rustls::CertificateError::ApplicationVerificationFailure.into(),
            )),
        }
    }

    // Whoever shows the certificate must also have its key.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
