//! Where messages go: `to` of a `[[route]]`.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// In which shape something is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// JSON of our own.
    Json,
    /// As Slack takes it (incoming webhooks).
    Slack,
    /// As Microsoft Teams takes it (an adaptive card, by a workflow).
    Teams,
    /// As Mattermost takes it (incoming webhooks).
    Mattermost,
}

impl Shape {
    const ALL: [(&'static str, Self); 4] = [
        ("", Self::Json),
        ("slack+", Self::Slack),
        ("teams+", Self::Teams),
        ("mattermost+", Self::Mattermost),
    ];
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// `mailto:a@example.org,b@example.org`
    Mail(Vec<String>),
    /// `https://…`, `slack+https://…`. The address may hold a secret.
    Web(Shape, String),
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(addresses) = text.strip_prefix("mailto:") {
            let addresses: Vec<String> = addresses.split(',').map(|one| one.trim().to_owned()).collect();
            let is_address = |one: &String| {
                let parts = one.split_once('@');
                let bad = |c: char| c.is_whitespace() || c.is_control() || "<>\"@?&".contains(c);
                parts.is_some_and(|(name, host)| {
                    !name.is_empty() && !host.is_empty() && !name.contains(bad) && !host.contains(bad)
                })
            };
            return match addresses.iter().all(is_address) {
                true => Ok(Self::Mail(addresses)),
                false => Err("write mailto:NAME@HOST, or several with commas between them".into()),
            };
        }
        for (prefix, shape) in Shape::ALL {
            let url = text.strip_prefix(prefix);
            let host = url.and_then(|url| {
                url.strip_prefix("https://")
                    .or_else(|| url.strip_prefix("http://"))
            });
            if let (Some(url), Some(host)) = (url, host) {
                let bad = |c: char| c.is_whitespace() || c.is_control();
                return match host.starts_with('/') || host.is_empty() || host.contains(bad) {
                    true => Err("the address has no host, or blanks".into()),
                    false => Ok(Self::Web(shape, url.to_owned())),
                };
            }
        }
        Err("must begin with mailto:, https://, slack+https://, teams+https:// or mattermost+https://".into())
    }
}

impl fmt::Display for Channel {
    /// Without what may be secret: the path of a webhook is its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(addresses) => write!(f, "mailto:{}", addresses.join(",")),
            Self::Web(shape, url) => {
                let prefix = Shape::ALL.iter().find(|(_, known)| known == shape);
                let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let host = host.rsplit('@').next().unwrap_or_default();
                write!(
                    f,
                    "{}{scheme}://{host}/…",
                    prefix.map_or("", |(prefix, _)| prefix)
                )
            }
        }
    }
}

impl Serialize for Channel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_read_and_shown_without_their_secrets() {
        for (text, shown) in [
            ("mailto:a@b.example, c@d", "mailto:a@b.example,c@d"),
            ("https://x.example/hook?key=1", "https://x.example/…"),
            ("https://user:word@x.example", "https://x.example/…"),
            (
                "slack+https://hooks.slack.com/services/T/B/X",
                "slack+https://hooks.slack.com/…",
            ),
            ("teams+http://localhost:1/x", "teams+http://localhost:1/…"),
        ] {
            assert_eq!(text.parse::<Channel>().unwrap().to_string(), shown);
        }
        for text in [
            "",
            "mailto:",
            "mailto:a",
            "mailto:a@b@c",
            "mailto:a@b,",
            "mailto:a@b\r\nRCPT TO:<x@y>",
            "ftp://x",
            "https://",
            "https:///x",
            "slack+mailto:a@b",
            "irc+https://x",
            "https://x y/",
        ] {
            assert!(text.parse::<Channel>().is_err(), "{text:?}");
        }
    }
}
