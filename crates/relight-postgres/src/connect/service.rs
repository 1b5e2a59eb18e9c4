//! The service file: named sections of connection parameters.

use std::path::{Path, PathBuf};

use super::environment::Environment;
use crate::error::{PostgresError, Result};

/// Where Debian keeps the file of the whole system; others keep it in their `sysconfdir`.
const SYSTEM: [&str; 2] = ["/etc/postgresql-common", "/etc"];

/// Keywords and values of a service.
pub(super) fn load(name: &str, environment: &Environment) -> Result<Vec<(String, String)>> {
    let own = match environment.get("PGSERVICEFILE") {
        Some(path) => Some(PathBuf::from(path)),
        None => environment
            .home
            .as_ref()
            .map(|home| home.join(".pg_service.conf")),
    };
    let system = match environment.get("PGSYSCONFDIR") {
        Some(directory) => vec![PathBuf::from(directory)],
        None => SYSTEM.iter().map(PathBuf::from).collect(),
    };
    let files = own.into_iter().chain(
        system
            .into_iter()
            .map(|directory| directory.join("pg_service.conf")),
    );
    let mut looked = Vec::new();
    for path in files {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                if let Some(pairs) = section(&text, name, &path)? {
                    return Ok(pairs);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(PostgresError::io("read", &path)(source)),
        }
        looked.push(path.display().to_string());
    }
    Err(PostgresError::Settings(format!(
        "there is no service {name:?} in {}",
        looked.join(" nor in ")
    )))
}

fn section(text: &str, name: &str, path: &Path) -> Result<Option<Vec<(String, String)>>> {
    let (mut within, mut pairs) = (false, Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            if within {
                break;
            }
            within = header.strip_suffix(']') == Some(name);
        } else if within {
            let Some((key, value)) = line.split_once('=') else {
                return Err(PostgresError::Settings(format!(
                    "line {} of {} is no KEYWORD=VALUE",
                    number + 1,
                    path.display()
                )));
            };
            pairs.push((key.trim().to_string(), value.trim().to_string()));
        }
    }
    Ok(within.then_some(pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections() {
        let text = "# one\n[a]\nhost=h1\n\n[b]\nhost = h2\nport=1\n[c]\n";
        let of = |name| section(text, name, Path::new("f")).unwrap();
        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
        assert_eq!(of("a"), Some(vec![pair("host", "h1")]));
        assert_eq!(of("b"), Some(vec![pair("host", "h2"), pair("port", "1")]));
        assert_eq!(of("c"), Some(vec![]));
        assert_eq!(of("d"), None);
        assert!(section("[a]\nhost\n", "a", Path::new("f")).is_err());
    }
}
