//! The certificate: one of the operator's, or one that the server makes for itself at its first start.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use aws_lc_rs::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::ServerConfig;
use crate::error::{Result, ServerError};

/// The certificate that is shown to clients; it can be exchanged while the server runs.
pub(crate) struct Certificate {
    path: PathBuf,
    key_path: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.path.display())
    }
}

impl Certificate {
    /// Reads that of the configuration, or the server's own, which is made if it is not there.
    pub(crate) fn open(config: &ServerConfig, host: &str) -> Result<Arc<Self>> {
        let (path, key_path) = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            _ => {
                let path = config.state.join("server.pem");
                let key_path = config.state.join("server.key");
                if !path.exists() || !key_path.exists() {
                    make(&path, &key_path, host, &config.names)?;
                }
                (path, key_path)
            }
        };
        let current = load(&path, &key_path)?;
        Ok(Arc::new(Self {
            path,
            key_path,
            current: RwLock::new(Arc::new(current)),
        }))
    }

    /// Reads it again, for connections from now on.
    pub(crate) fn reload(&self) -> Result<()> {
        let new = Arc::new(load(&self.path, &self.key_path)?);
        *self
            .current
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = new;
        Ok(())
    }

    fn current(&self) -> Arc<CertifiedKey> {
        self.current
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// SHA-256 of the certificate, as clients are told to expect it: `aa:bb:…`.
    pub(crate) fn fingerprint(&self) -> String {
        let key = self.current();
        let der = key.cert.first().map_or(&[][..], |first| first.as_ref());
        let digest = digest::digest(&digest::SHA256, der);
        let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(":")
    }

    /// What listeners need. TLS 1.2 and 1.3; no ALPN, since clients offer none and both protocols begin as HTTP/1.1.
    pub(crate) fn acceptor(self: &Arc<Self>) -> Result<tokio_rustls::TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ServerError::System(format!("TLS: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        Ok(Arc::new(config).into())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

fn load(path: &Path, key_path: &Path) -> Result<CertifiedKey> {
    let refused = |path: &Path, why: String| ServerError::Certificate {
        path: path.to_path_buf(),
        why,
    };
    let read = |path: &Path| fs::read(path).map_err(ServerError::file("read", path));
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<_, _>>()
        .map_err(|error| refused(path, format!("no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(refused(path, "there is no certificate in it".into()));
    }
    let key = zeroize::Zeroizing::new(read(key_path)?);
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| refused(key_path, format!("there is no private key (PEM) in it: {error}")))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // It also checks that the two belong together.
    CertifiedKey::from_der(chain, key, &provider).map_err(|error| {
        refused(
            path,
            format!("it does not go with the key in {}: {error}", key_path.display()),
        )
    })
}

/// Makes a key (ECDSA P-256, which every client knows) and a certificate for it that it signs itself.
fn make(path: &Path, key_path: &Path, host: &str, names: &[String]) -> Result<()> {
    let failed = |error: rcgen::Error| ServerError::System(format!("make a certificate: {error}"));
    let mut all: Vec<String> = names.to_vec();
    let own = [
        host,
        host.split('.').next().unwrap_or_default(),
        "localhost",
        "127.0.0.1",
        "::1",
    ];
    all.extend(
        own.iter()
            .filter(|name| !name.is_empty())
            .map(ToString::to_string),
    );
    all.sort();
    all.dedup();
    let mut parameters = rcgen::CertificateParams::new(all).map_err(failed)?;
    let name = if host.is_empty() { "relight" } else { host };
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::OrganizationName, "Relight backup server");
    subject.push(rcgen::DnType::CommonName, name);
    parameters.distinguished_name = subject;
    parameters.is_ca = rcgen::IsCa::ExplicitNoCa;
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    // Clients know it by its fingerprint; one that expired would only break backups in a few years.
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(9999, 12, 31);
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let certificate = parameters.self_signed(&key).map_err(failed)?;
    // The certificate last: with it there, both are.
    write(
        key_path,
        zeroize::Zeroizing::new(key.serialize_pem()).as_bytes(),
        0o600,
    )?;
    write(path, certificate.pem().as_bytes(), 0o644)
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let _ = fs::remove_file(&temporary);
    let attempt = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().map_err(ServerError::file("write", path))
}
