//! TLS as libpq does it: depending on the mode, the server's certificate is not checked, checked against authorities, or
//! moreover against the host's name.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

use super::settings::{Settings, SslMode};
use crate::error::{PostgresError, Result};

/// Begins a session with the server of that name.
pub(super) fn session(settings: &Settings, host: &str, server: &str) -> Result<ClientConnection> {
    let failed = |why: String| PostgresError::Connect {
        server: server.to_string(),
        why,
    };
    let provider = Arc::new(provider::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(check(settings, provider)?));
    let config = match &settings.ssl_client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let unusable = |path: &Path, error: &dyn std::fmt::Display| {
                PostgresError::Settings(format!("{}: {error}", path.display()))
            };
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(|found| found.collect::<Result<Vec<_>, _>>())
                .map_err(|error| unusable(certificate, &error))?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            config
                .with_client_auth_cert(chain, secret)
                .map_err(|error| unusable(certificate, &error))?
        }
    };
    let name = ServerName::try_from(host.to_string())
        .map_err(|_| PostgresError::Settings(format!("{host} is not the name of a host")))?;
    ClientConnection::new(Arc::new(config), name).map_err(|error| failed(error.to_string()))
}

fn check(settings: &Settings, provider: Arc<CryptoProvider>) -> Result<Check> {
    let demands = match settings.ssl_mode {
        SslMode::VerifyFull => Demands::Name,
        SslMode::VerifyCa => Demands::Chain,
        // With a file of authorities, libpq checks in this mode too.
        SslMode::Require if settings.ssl_root.is_some() => Demands::Chain,
        _ => Demands::Nothing,
    };
    let mut pinned = Vec::new();
    let chain = if demands == Demands::Nothing {
        None
    } else {
        let mut roots = RootCertStore::empty();
        match settings.ssl_root.as_deref() {
            Some(path) if path == Path::new("system") => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Some(path) => {
                let unusable = |error: &dyn std::fmt::Display| {
                    PostgresError::Settings(format!("sslrootcert {}: {error}", path.display()))
                };
                pinned = CertificateDer::pem_file_iter(path)
                    .and_then(|found| found.collect::<Result<Vec<_>, _>>())
                    .map_err(|error| unusable(&error))?;
                roots.add_parsable_certificates(pinned.clone());
            }
            None => {
                return Err(PostgresError::Settings(
                    "to check the server's certificate, name the file of its authority with sslrootcert (or \
                     sslrootcert=system), or put it at ~/.postgresql/root.crt"
                        .into(),
                ));
            }
        }
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        Some(built.map_err(|error| {
            PostgresError::Settings(format!("sslrootcert holds no usable certificates: {error}"))
        })?)
    };
    Ok(Check {
        demands,
        chain,
        pinned,
        provider,
    })
}

/// What is demanded of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demands {
    Nothing,
    Chain,
    Name,
}

#[derive(Debug)]
struct Check {
    demands: Demands,
    chain: Option<Arc<WebPkiServerVerifier>>,
    /// The certificates of the file of authorities: the server's own may be among them.
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
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
        let Some(chain) = &self.chain else {
            return Ok(ServerCertVerified::assertion());
        };
        if self.demands == Demands::Chain && self.pinned.iter().any(|known| known == certificate) {
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            // The name is looked at last: everything else was in order.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.demands == Demands::Chain => Ok(ServerCertVerified::assertion()),
            other => other,
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
