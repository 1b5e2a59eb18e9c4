//! Directories: who somebody is, by LDAP (RFC 4511). Users are looked for by a service's account, and prove their password by
//! a bind of their own on another connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions, ldap_escape,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Semaphore;

use super::Person;
use super::config::{DirectoryConfig, is_allowed};
use crate::error::{Result, ServerError};

/// Log-ins that are asked for at a time: a directory that does not answer must not gather all of them.
const AT_ONCE: usize = 8;
/// Results of LDAP (RFC 4511, appendix A.1).
const NO_SUCH_OBJECT: u32 = 32;
const INVALID_CREDENTIALS: u32 = 49;
const BUSY: u32 = 51;
const UNAVAILABLE: u32 = 52;
/// `LDAP_MATCHING_RULE_IN_CHAIN`: members of members too (MS-ADTS, section 3.1.1.3.4.4.3).
const IN_CHAIN: &str = "1.2.840.113556.1.4.1941";
/// `ACCOUNTDISABLE` in `userAccountControl` (MS-ADTS, section 2.2.16).
const DISABLED: u64 = 2;

/// Why somebody is not let in by a directory.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The name, the password, or not in a group that may.
    #[error("{0}")]
    Refused(String),
    /// It cannot be asked.
    #[error("{0}")]
    Down(String),
}

/// A directory.
pub struct Directory {
    /// Name of its realm.
    realm: String,
    pub(super) config: DirectoryConfig,
    is_ad: bool,
    tls: Arc<rustls::ClientConfig>,
    turns: Semaphore,
    /// The server that answered last.
    last: AtomicUsize,
}

/// A user as the directory has it.
struct Found {
    dn: String,
    person: Person,
}

/// TLS with the system's authorities, or those of a file.
pub(super) fn roots(file: Option<&std::path::Path>) -> Result<Vec<CertificateDer<'static>>> {
    match file {
        None => Ok(rustls_native_certs::load_native_certs().certs),
        Some(path) => {
            let refused = |why: String| ServerError::Certificate {
                path: path.to_path_buf(),
                why,
            };
            let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let certificates = read.map_err(|error| refused(error.to_string()))?;
            if certificates.is_empty() {
                return Err(refused("there is no certificate in it".into()));
            }
            Ok(certificates)
        }
    }
}

fn tls(config: &DirectoryConfig) -> Result<Arc<rustls::ClientConfig>> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(roots(config.ca_file.as_deref())?);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let failed = |error: rustls::Error| ServerError::System(format!("set up TLS for a directory: {error}"));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed)?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn down(server: &str, error: &LdapError) -> DirectoryError {
    DirectoryError::Down(format!("{server}: {error}"))
}

impl Directory {
    /// With its configuration.
    ///
    /// # Errors
    /// The certificates of the authorities cannot be read.
    pub fn new(realm: &str, config: DirectoryConfig, is_ad: bool) -> Result<Self> {
        Ok(Self {
            realm: realm.to_owned(),
            is_ad,
            tls: tls(&config)?,
            config,
            turns: Semaphore::new(AT_ONCE),
            last: AtomicUsize::new(0),
        })
    }

    /// Name of its realm.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// What people are shown.
    pub fn title(&self) -> &str {
        self.config.title.as_deref().unwrap_or(&self.realm)
    }

    /// How often its users are looked up.
    pub fn recheck(&self) -> Duration {
        self.config.recheck.0
    }

    fn attribute(&self) -> &str {
        let usual = if self.is_ad { "sAMAccountName" } else { "uid" };
        self.config.user_attribute.as_deref().unwrap_or(usual)
    }

    /// Who somebody is, if the password is right and the user may log in.
    ///
    /// # Errors
    /// It is not, or the directory cannot be asked.
    pub async fn log_in(&self, name: &str, password: &str) -> Result<Person, DirectoryError> {
        // A bind without a password is one of nobody, and succeeds (RFC 4513, section 5.1.2).
        if password.is_empty() || password.len() > 1024 || name.is_empty() {
            return Err(DirectoryError::Refused("no password".into()));
        }
        let _turn = self.turns.acquire().await;
        let (mut service, server) = self.service().await?;
        let found = self.find(&mut service, &server, name).await;
        let result = async {
            let found = found?.ok_or_else(|| DirectoryError::Refused("there is no such user".into()))?;
            let mut own = self.connect(&server).await?;
            let bound = own
                .simple_bind(&found.dn, password)
                .await
                .map_err(|error| down(&server, &error))?;
            let _ = own.unbind().await;
            match bound.rc {
                0 => {}
                BUSY | UNAVAILABLE => return Err(DirectoryError::Down(format!("{server}: {bound}"))),
                INVALID_CREDENTIALS => return Err(DirectoryError::Refused(format!("bind: {}", bound.text))),
                _ => return Err(DirectoryError::Refused(format!("bind: {bound}"))),
            }
            self.with_groups(&mut service, &server, found).await
        };
        let result = result.await;
        let _ = service.unbind().await;
        result
    }

    /// Users by their names, as the directory has them now: none for those who are not there, are disabled, or may not log in
    /// any more.
    ///
    /// # Errors
    /// The directory cannot be asked.
    pub async fn look_up(&self, names: &[String]) -> Result<Vec<Option<Person>>, DirectoryError> {
        let (mut service, server) = self.service().await?;
        let mut people = Vec::with_capacity(names.len());
        for name in names {
            let person = match self.find(&mut service, &server, name).await? {
                None => None,
                Some(found) => match self.with_groups(&mut service, &server, found).await {
                    Ok(person) => Some(person),
                    Err(DirectoryError::Refused(_)) => None,
                    Err(error) => return Err(error),
                },
            };
            people.push(person);
        }
        let _ = service.unbind().await;
        Ok(people)
    }

    /// A connection to the first server that answers, as the service's account.
    async fn service(&self) -> Result<(Ldap, String), DirectoryError> {
        let password = self.config.bind_password().read().map_err(DirectoryError::Down)?;
        let password = password.unwrap_or_default();
        let (servers, last) = (&self.config.servers, self.last.load(Ordering::Relaxed));
        let mut failed = Vec::new();
        for at in (0..servers.len()).map(|at| (at + last) % servers.len()) {
            let server = &servers[at];
            let bound = async {
                let mut ldap = self.connect(server).await?;
                let bound = ldap.simple_bind(&self.config.bind_dn, &password).await;
                match bound.map_err(|error| down(server, &error))? {
                    bound if bound.rc == 0 => Ok(ldap),
                    bound => Err(DirectoryError::Down(format!(
                        "{server}: the bind of bind-dn: {bound}"
                    ))),
                }
            };
            match bound.await {
                Ok(ldap) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok((ldap, server.clone()));
                }
                Err(error) => failed.push(error.to_string()),
            }
        }
        Err(DirectoryError::Down(failed.join("; ")))
    }

    async fn connect(&self, server: &str) -> Result<Ldap, DirectoryError> {
        let timeout: Duration = self.config.timeout.0;
        let settings = LdapConnSettings::new()
            .set_conn_timeout(timeout)
            .set_config(self.tls.clone())
            .set_starttls(server.starts_with("ldap://") && !self.config.danger_plain);
        // The library's own limit is for the connection of TCP only.
        let connected = tokio::time::timeout(timeout, LdapConnAsync::with_settings(settings, server)).await;
        let connected = connected
            .map_err(|_| DirectoryError::Down(format!("{server}: no answer in {} s", timeout.as_secs())))?;
        let (connection, mut ldap) = connected.map_err(|error| down(server, &error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.drive().await {
                tracing::debug!("directory: {error}");
            }
        });
        ldap.with_timeout(timeout);
        Ok(ldap)
    }

    async fn search(
        &self,
        ldap: &mut Ldap,
        server: &str,
        (base, scope, filter): (&str, Scope, &str),
        attributes: &[&str],
    ) -> Result<Vec<SearchEntry>, DirectoryError> {
        // Two are enough to see that a name is not one user's.
        ldap.with_search_options(SearchOptions::new().sizelimit(2))
            .with_timeout(self.config.timeout.0);
        let answer = ldap.search(base, scope, filter, attributes).await;
        let ldap3::SearchResult(entries, result) = answer.map_err(|error| down(server, &error))?;
        // Referrals are not followed: another server would be told a password of this one.
        let entries: Vec<SearchEntry> = entries
            .into_iter()
            .filter(|entry| !entry.is_ref() && !entry.is_intermediate())
            .map(SearchEntry::construct)
            .collect();
        match result.rc {
            // 4: more than two, of which two are here. 10: all of it is elsewhere.
            0 | 4 | 10 => Ok(entries),
            NO_SUCH_OBJECT => Ok(Vec::new()),
            _ => Err(DirectoryError::Down(format!(
                "{server}: search under {base}: {result}"
            ))),
        }
    }

    /// The user of a name, if there is one that is not disabled.
    async fn find(&self, ldap: &mut Ldap, server: &str, name: &str) -> Result<Option<Found>, DirectoryError> {
        let (attribute, escaped) = (self.attribute(), ldap_escape(name));
        let usual = if self.is_ad {
            "(&(objectCategory=person)(objectClass=user))"
        } else {
            "(objectClass=person)"
        };
        let more = self.config.user_filter.as_deref().unwrap_or(usual);
        let filter = format!("(&({attribute}={escaped}){more})");
        let subject = if self.is_ad { "objectGUID" } else { "entryUUID" };
        let attributes = [
            attribute,
            subject,
            "userAccountControl",
            "accountExpires",
            "pwdAccountLockedTime",
            "nsAccountLock",
        ];
        let entries = self
            .search(
                ldap,
                server,
                (&self.config.base, Scope::Subtree, &filter),
                &attributes,
            )
            .await?;
        let [entry] = &entries[..] else {
            if entries.len() > 1 {
                tracing::warn!(
                    "realm {}: {name} is several users; none of them is let in",
                    self.realm
                );
            }
            return Ok(None);
        };
        let first = |name: &str| value(entry, name);
        // By this the user is known here; letters of both sizes are the same to a directory.
        let Some(known_as) = first(attribute).filter(|found| found.eq_ignore_ascii_case(name)) else {
            return Ok(None);
        };
        let is_off = if self.is_ad {
            let flags: u64 = first("userAccountControl")
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
            flags & DISABLED != 0 || has_expired(first("accountExpires"))
        } else {
            first("pwdAccountLockedTime").is_some()
                || first("nsAccountLock").is_some_and(|locked| locked.eq_ignore_ascii_case("true"))
        };
        if is_off {
            return Ok(None);
        }
        let subject = entry
            .bin_attrs
            .get(subject)
            .and_then(|values| values.first())
            .map(hex::encode);
        Ok(Some(Found {
            dn: entry.dn.clone(),
            person: Person {
                name: known_as.to_ascii_lowercase(),
                // Without one it is known by its place.
                subject: subject
                    .or_else(|| first("entryUUID").map(str::to_owned))
                    .unwrap_or_else(|| entry.dn.clone()),
                groups: Vec::new(),
            },
        }))
    }

    /// Adds the groups of which the user is a member.
    async fn with_groups(
        &self,
        ldap: &mut Ldap,
        server: &str,
        found: Found,
    ) -> Result<Person, DirectoryError> {
        let Found { dn, mut person } = found;
        for (name, group) in &self.config.groups {
            let (user, escaped) = (ldap_escape(dn.as_str()), ldap_escape(group.as_str()));
            let (base, filter) = if self.is_ad {
                (&dn, format!("(memberOf:{IN_CHAIN}:={escaped})"))
            } else {
                let uid = ldap_escape(person.name.as_str());
                (
                    group,
                    format!("(|(member={user})(uniqueMember={user})(memberUid={uid}))"),
                )
            };
            let members = self
                .search(ldap, server, (base, Scope::Base, &filter), &["1.1"])
                .await?;
            if !members.is_empty() {
                person.groups.push(name.clone());
            }
        }
        if is_allowed(&person.groups, self.config.allow.as_deref()) {
            Ok(person)
        } else {
            Err(DirectoryError::Refused(
                "in none of the groups that may log in".into(),
            ))
        }
    }
}

/// The first value of an attribute, whose name may be written otherwise by the directory.
fn value<'a>(entry: &'a SearchEntry, name: &str) -> Option<&'a str> {
    let found = entry
        .attrs
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.and_then(|(_, values)| values.first()).map(String::as_str)
}

/// Whether an `accountExpires` is over: 100 ns since 1601; 0 and the largest are never (MS-ADA1, section 2.1).
fn has_expired(text: Option<&str>) -> bool {
    let Some(end) = text.and_then(|text| text.parse::<i64>().ok()) else {
        return false;
    };
    if end == 0 || end == i64::MAX {
        return false;
    }
    end / 10_000_000 - 11_644_473_600 <= jiff::Timestamp::now().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_expire_by_the_clock_of_active_directory() {
        // 2020-01-01T00:00:00Z and 2100-01-01T00:00:00Z.
        assert!(has_expired(Some("132223104000000000")));
        assert!(!has_expired(Some("157469184000000000")));
        for never in [None, Some("0"), Some("9223372036854775807"), Some("soon")] {
            assert!(!has_expired(never));
        }
    }
}
