//! How a connection comes about: the first place that will do, encryption as it is asked for, and the log-in.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::authenticate::{Login, Step};
use super::super::inbox::Inbox;
use super::super::server_message::ServerMessage;
use super::{Connection, Mode, TICK, is_loopback};
use crate::connect::{Encryption, Host, Settings, Socket, SslMode, TargetSession, name, open};
use crate::error::{PostgresError, Result};

/// Version 3.0 of the protocol.
const PROTOCOL: u32 = 3 << 16;
/// Refusals after which libpq tries again with or without encryption: the rules of pg_hba.conf may tell them apart.
const INVALID_AUTHORIZATION: &str = "28000";

/// That none of several servers could be used, if it is nothing but that: one of them may be back, or promoted, in a moment.
fn nowhere(problems: &[PostgresError]) -> Option<PostgresError> {
    let each: Option<Vec<_>> = problems
        .iter()
        .map(|problem| match problem {
            PostgresError::Connect { server, why } => Some((server.as_str(), format!("{server}: {why}"))),
            _ => None,
        })
        .collect();
    let (servers, reasons): (Vec<_>, Vec<_>) = each?.into_iter().unzip();
    Some(PostgresError::Connect {
        server: servers.join(" or "),
        why: reasons.join("; "),
    })
}

impl Connection {
    /// Connects to the first place that will do, and logs in.
    pub fn open(settings: &Settings, mode: Mode) -> Result<Self> {
        let mut problems = Vec::new();
        let wanted = match settings.target {
            TargetSession::PreferStandby => &[TargetSession::Standby, TargetSession::Any][..],
            ref other => std::slice::from_ref(other),
        };
        for target in wanted {
            for (host, port) in &settings.hosts {
                match Self::open_at(settings, host, *port, mode) {
                    Ok(connection) if connection.is(*target) => return Ok(connection),
                    Ok(connection) => problems.push(PostgresError::Connect {
                        server: connection.server.clone(),
                        why: match target {
                            TargetSession::Standby => "it is not a standby".into(),
                            _ => "it is a standby, but a primary is wanted".into(),
                        },
                    }),
                    Err(error) => problems.push(error),
                }
            }
        }
        if problems.len() > 1
            && let Some(error) = nowhere(&problems)
        {
            return Err(error);
        }
        Err(problems
            .pop()
            .unwrap_or_else(|| PostgresError::Settings("no server is named".into())))
    }

    fn open_at(settings: &Settings, host: &Host, port: u16, mode: Mode) -> Result<Self> {
        let attempts = match (host, settings.ssl_mode) {
            (Host::Socket(_), _) | (_, SslMode::Disable) => &[Encryption::Plain][..],
            (_, SslMode::Allow) => &[Encryption::Plain, Encryption::Required],
            (_, SslMode::Prefer) => &[Encryption::IfOffered, Encryption::Plain],
            _ => &[Encryption::Required],
        };
        let mut first = None;
        for attempt in attempts {
            let opened = open(settings, host, port, *attempt)
                .and_then(|socket| Self::log_in(socket, settings, host, port, mode));
            match opened {
                Ok(connection) => return Ok(connection),
                // Nobody is there: with or without encryption.
                Err(error) if first.is_some() => return Err(first.unwrap_or(error)),
                Err(error)
                    if error.sql_state() == Some(INVALID_AUTHORIZATION)
                        || matches!(&error, PostgresError::Connect { why, .. } if why.starts_with("TLS")) =>
                {
                    first = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first.unwrap_or_else(|| PostgresError::Settings("no server is named".into())))
    }

    fn log_in(socket: Socket, settings: &Settings, host: &Host, port: u16, mode: Mode) -> Result<Self> {
        let private = socket.is_encrypted() || matches!(host, Host::Socket(_)) || is_loopback(host);
        let mut connection = Self {
            socket,
            inbox: Inbox::default(),
            server: name(host, port),
            place: (host.clone(), port),
            parameters: BTreeMap::new(),
            key: None,
            cancelled: None,
            busy: true,
            lost: false,
        };
        connection
            .socket
            .set_read_timeout(TICK)
            .map_err(|source| connection.broken(source))?;
        connection.send_startup(settings, mode)?;
        let database = match mode {
            Mode::Queries => settings.database.as_str(),
            // What the password file calls it.
            Mode::Replication => "replication",
        };
        let mut login = Login::new(&settings.user, settings.password(host, port, database), private);
        login.bind(settings.channel_binding, connection.socket.binding());
        let deadline = Instant::now() + settings.connect_timeout;
        loop {
            let Some(found) = connection.receive(Some(deadline))? else {
                return Err(PostgresError::Connect {
                    server: connection.server.clone(),
                    why: "it did not complete the log-in in time".into(),
                });
            };
            let body = connection.inbox.body(&found);
            match found.kind {
                b'R' => match login.answer(body) {
                    Ok(Step::Send(message)) => connection.send(b'p', &message)?,
                    Ok(Step::Wait | Step::Done) => {}
                    Err(why) => {
                        return Err(PostgresError::Connect {
                            server: connection.server.clone(),
                            why,
                        });
                    }
                },
                b'K' => {
                    if let Some((pid, key)) = body.split_first_chunk::<4>() {
                        connection.key = Some((u32::from_be_bytes(*pid), key.to_vec()));
                    }
                }
                b'E' => {
                    let message = ServerMessage::parse(body);
                    connection.lost = true;
                    return Err(connection.refused(Box::new(message)));
                }
                // A server that knows no newer minor version says so; 3.0 is what was asked for.
                b'v' => {}
                b'Z' => {
                    connection.busy = false;
                    return Ok(connection);
                }
                kind => return Err(connection.unexpected(kind)),
            }
        }
    }

    fn send_startup(&mut self, settings: &Settings, mode: Mode) -> Result<()> {
        let mut parameters = vec![
            ("user", settings.user.as_str()),
            ("client_encoding", "UTF8"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("application_name", settings.application.as_str()),
        ];
        match mode {
            Mode::Queries => parameters.push(("database", settings.database.as_str())),
            Mode::Replication => parameters.push(("replication", "true")),
        }
        if let Some(options) = &settings.options {
            parameters.push(("options", options));
        }
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for (key, value) in parameters {
            if value.contains('\0') {
                return Err(PostgresError::Settings(format!("{key} has a zero byte")));
            }
            body.extend([key.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        body.push(0);
        let mut message = (body.len() as u32 + 4).to_be_bytes().to_vec();
        message.extend(body);
        self.write(&message)
    }

    fn is(&self, target: TargetSession) -> bool {
        let standby = self.parameter("in_hot_standby") == Some("on");
        match target {
            TargetSession::Any | TargetSession::PreferStandby => true,
            TargetSession::Primary => !standby,
            TargetSession::Standby => standby,
        }
    }
}
