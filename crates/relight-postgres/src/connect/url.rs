//! Connection URLs: `postgresql://user@host1:5432,host2/database?sslmode=verify-full`.

use percent_encoding::percent_decode_str;

use crate::error::{PostgresError, Result};

/// What comes behind the scheme, if the text is such a URL.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    ["postgresql://", "postgres://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
}

/// Keywords and values that a URL (without its scheme) stands for.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let (text, query) = text.split_once('?').unwrap_or((text, ""));
    let (authority, database) = text.split_once('/').unwrap_or((text, ""));
    let hosts = match authority.rsplit_once('@') {
        Some((user, hosts)) => {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            push(&mut pairs, "user", user)?;
            push(&mut pairs, "password", password)?;
            hosts
        }
        None => authority,
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = split_port(host)?;
        names.push(decode(name)?);
        ports.push(decode(port)?);
    }
    if names.iter().any(|name| !name.is_empty()) {
        pairs.push(("host".into(), names.join(",")));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".into(), ports.join(",")));
    }
    push(&mut pairs, "dbname", database)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(wrong("has a parameter without '='"));
        };
        let (key, value) = (decode(key)?, decode(value)?);
        match (key.as_str(), value.as_str()) {
            ("ssl", "true") => pairs.push(("sslmode".into(), "require".into())),
            _ => pairs.push((key, value)),
        }
    }
    Ok(pairs)
}

fn push(pairs: &mut Vec<(String, String)>, key: &str, encoded: &str) -> Result<()> {
    if !encoded.is_empty() {
        pairs.push((key.into(), decode(encoded)?));
    }
    Ok(())
}

/// Host and port; an IPv6 address stands in brackets.
fn split_port(text: &str) -> Result<(&str, &str)> {
    if let Some(inner) = text.strip_prefix('[') {
        let Some((address, rest)) = inner.split_once(']') else {
            return Err(wrong("has a '[' without ']'"));
        };
        return match rest.strip_prefix(':') {
            Some(port) => Ok((address, port)),
            None if rest.is_empty() => Ok((address, "")),
            None => Err(wrong("has something other than a port behind ']'")),
        };
    }
    Ok(text.split_once(':').unwrap_or((text, "")))
}

fn decode(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    match decoded {
        Ok(decoded) if !decoded.contains('\0') => Ok(decoded.into_owned()),
        _ => Err(wrong("has percent-encoded bytes that are no text")),
    }
}

fn wrong(why: &str) -> PostgresError {
    PostgresError::Settings(format!("the connection URL {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> String {
        let pairs = parse(strip_scheme(text).unwrap()).unwrap();
        let pairs: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(" ")
    }

    #[test]
    fn parts_of_urls() {
        assert_eq!(pairs("postgresql://"), "");
        assert_eq!(pairs("postgres://localhost"), "host=localhost");
        assert_eq!(
            pairs("postgresql://back%20up@db1:5433/sales?connect_timeout=10&ssl=true"),
            "user=back up host=db1 port=5433 dbname=sales connect_timeout=10 sslmode=require"
        );
        assert_eq!(
            pairs("postgresql://a:1,b,[::1]:3/x"),
            "host=a,b,::1 port=1,,3 dbname=x"
        );
        assert_eq!(
            pairs("postgresql://%2Fvar%2Frun%2Fpostgresql/x"),
            "host=/var/run/postgresql dbname=x"
        );
        assert_eq!(
            pairs("postgresql:///x?host=/tmp&port=5"),
            "dbname=x host=/tmp port=5"
        );
        for wrong in ["[::1", "[::1]x", "h?x", "%ff/"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
