use std::net::SocketAddr;
use std::sync::Arc;

use relight_pbs::access::{Role, Rule};

use super::*;
use crate::state::{PasswordHash, RecordFilter, TokenChange, UserChange};

struct Lab {
    _folder: tempfile::TempDir,
    gate: Gate,
}

fn lab() -> Lab {
    let folder = tempfile::tempdir().unwrap();
    let state = Arc::new(State::open(&folder.path().join("state")).unwrap());
    let password = PasswordHash::new(b"correct horse").unwrap();
    state
        .add_user(&"a@pbs".parse().unwrap(), Some(&password), &UserChange::default())
        .unwrap();
    state
        .add_user(&"b@pbs".parse().unwrap(), None, &UserChange::default())
        .unwrap();
    let gate = Gate::new(state).unwrap();
    Lab {
        _folder: folder,
        gate,
    }
}

fn rule(path: &str, who: &str, role: Role) -> Rule {
    Rule {
        path: path.parse().unwrap(),
        who: who.parse().unwrap(),
        role: role.into(),
        propagate: true,
    }
}

fn peer(last: u8) -> Option<SocketAddr> {
    Some(([192, 0, 2, last], 1000).into())
}

impl Lab {
    async fn log_in(&self, user: &str, password: &str) -> Result<Issued, Refusal> {
        match self.gate.log_in(user, password, peer(1)).await? {
            LogIn::Done(done) => Ok(done.issued),
            LogIn::SecondFactor(_) => panic!("a second factor is asked for"),
        }
    }

    fn with(
        &self,
        authorization: Option<&str>,
        cookie: Option<&str>,
        csrf: Option<&str>,
        changing: bool,
    ) -> Option<String> {
        let credentials = Credentials {
            authorization,
            cookie,
            csrf,
            changing,
            peer: peer(1),
        };
        self.gate
            .authenticate(&credentials)
            .ok()
            .map(|who| who.to_string())
    }
}

#[tokio::test]
async fn a_password_gives_a_ticket_that_ends_with_it() {
    let lab = lab();
    let issued = lab.log_in("a@pbs", "correct horse").await.unwrap();
    let cookie = format!("x=y; PBSAuthCookie={}", issued.ticket.replace('+', "%2B"));
    assert_eq!(
        lab.with(None, Some(&cookie), None, false).as_deref(),
        Some("a@pbs")
    );
    // What changes something needs the other token, too.
    assert_eq!(lab.with(None, Some(&cookie), None, true), None);
    assert_eq!(lab.with(None, Some(&cookie), Some("6B0357E9:AAAA"), true), None);
    assert_eq!(
        lab.with(None, Some(&cookie), Some(&issued.csrf), true).as_deref(),
        Some("a@pbs")
    );
    // A ticket renews itself, but not another user's.
    let renewed = lab.log_in("a@pbs", &issued.ticket).await.unwrap();
    assert_eq!(
        lab.log_in("b@pbs", &issued.ticket).await.err(),
        Some(Refusal::Wrong)
    );
    // Disabled: at once. Enabled again: good again. A new password: never again.
    let id: UserId = "a@pbs".parse().unwrap();
    let state = lab.gate.state();
    let enable = |enabled| UserChange {
        enabled: Some(enabled),
        ..UserChange::default()
    };
    state.change_user(&id, &enable(false)).unwrap();
    assert_eq!(lab.with(None, Some(&cookie), None, false), None);
    assert_eq!(
        lab.log_in("a@pbs", "correct horse").await.err(),
        Some(Refusal::Wrong)
    );
    state.change_user(&id, &enable(true)).unwrap();
    assert!(lab.with(None, Some(&cookie), None, false).is_some());
    state
        .set_password(&id, &PasswordHash::new(b"battery staple").unwrap())
        .unwrap();
    for ticket in [&issued.ticket, &renewed.ticket] {
        assert_eq!(
            lab.with(None, Some(&format!("PBSAuthCookie={ticket}")), None, false),
            None
        );
    }
    // A user of the same name that is made again is another one.
    let issued = lab.log_in("a@pbs", "battery staple").await.unwrap();
    state.remove_user(&id).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2));
    state
        .add_user(
            &id,
            Some(&PasswordHash::new(b"battery staple").unwrap()),
            &UserChange::default(),
        )
        .unwrap();
    assert_eq!(
        lab.with(
            None,
            Some(&format!("PBSAuthCookie={}", issued.ticket)),
            None,
            false
        ),
        None
    );
}

#[tokio::test]
async fn wrong_log_ins_are_all_alike_and_soon_not_looked_at() {
    let lab = lab();
    let times: Vec<_> = [
        ("a@pbs", "wrong"),
        ("nobody@pbs", "wrong"),
        ("b@pbs", ""),
        ("no name", "wrong"),
    ]
    .into_iter()
    .map(|(user, password)| (user.to_string(), password.to_string()))
    .collect();
    let mut took = Vec::new();
    for (user, password) in &times {
        let begin = std::time::Instant::now();
        assert_eq!(lab.log_in(user, password).await.err(), Some(Refusal::Wrong));
        took.push(begin.elapsed());
    }
    let (least, most) = (took.iter().min().unwrap(), took.iter().max().unwrap());
    assert!(*most < *least * 20, "{took:?}");
    for _ in 0..9 {
        assert_eq!(lab.log_in("a@pbs", "wrong").await.err(), Some(Refusal::Wrong));
    }
    // Even the right one now, from there; from elsewhere nobody is kept out.
    assert!(matches!(
        lab.log_in("a@pbs", "correct horse").await.err(),
        Some(Refusal::TooMany(1..=300))
    ));
    assert!(lab.gate.log_in("a@pbs", "correct horse", peer(2)).await.is_ok());
}

#[test]
fn a_token_is_known_by_its_secret() {
    let lab = lab();
    let id: AuthId = "a@pbs!t".parse().unwrap();
    let state = lab.gate.state();
    let secret = state.add_token(&id, &TokenChange::default()).unwrap();
    let secret = secret.text();
    assert_eq!(secret.len(), 36);
    for text in ["PBSAPIToken a@pbs!t:SECRET", "PBSAPIToken=a@pbs!t:SECRET"] {
        assert_eq!(
            lab.with(Some(&text.replace("SECRET", secret)), None, None, true)
                .as_deref(),
            Some("a@pbs!t")
        );
    }
    for text in [
        "PBSAPIToken a@pbs!t:wrong",
        "PBSAPIToken a@pbs!t:",
        "PBSAPIToken a@pbs!t",
        "PBSAPIToken a@pbs!u:SECRET",
        "PBSAPIToken b@pbs!t:SECRET",
        "PBSAPIToken a@pbs:SECRET",
        "PBSAPITokena@pbs!t:SECRET",
        "Basic a@pbs!t:SECRET",
        "PBSAPIToken ",
        "",
    ] {
        assert_eq!(
            lab.with(Some(&text.replace("SECRET", secret)), None, None, false),
            None,
            "{text}"
        );
    }
    let good = format!("PBSAPIToken a@pbs!t:{secret}");
    let change = |change: TokenChange| state.change_token(&id, &change).unwrap();
    change(TokenChange {
        expires: Some(1),
        ..TokenChange::default()
    });
    assert_eq!(lab.with(Some(&good), None, None, false), None);
    change(TokenChange {
        expires: Some(0),
        ..TokenChange::default()
    });
    assert!(lab.with(Some(&good), None, None, false).is_some());
    let new = change(TokenChange {
        new_secret: true,
        ..TokenChange::default()
    })
    .unwrap();
    assert_eq!(lab.with(Some(&good), None, None, false), None);
    assert!(
        lab.with(
            Some(&format!("PBSAPIToken a@pbs!t:{}", new.text())),
            None,
            None,
            false
        )
        .is_some()
    );
    // With the user its tokens end, and the rules that name them.
    state.set_rule(&rule("/", "a@pbs!t", Role::Admin)).unwrap();
    state.remove_user(&"a@pbs".parse().unwrap()).unwrap();
    let known = state.known().unwrap();
    assert!(known.tokens.is_empty() && known.rules.is_empty());
}

#[test]
fn a_token_may_never_do_more_than_its_user() {
    let lab = lab();
    let state = lab.gate.state();
    let token: AuthId = "a@pbs!t".parse().unwrap();
    state.add_token(&token, &TokenChange::default()).unwrap();
    let at = |who: &AuthId, path: &str| lab.gate.privileges(who, path);
    state
        .set_rule(&rule("/datastore/main", "a@pbs!t", Role::DatastoreAdmin))
        .unwrap();
    assert_eq!(at(&token, "/datastore/main"), Privileges::NONE);
    state
        .set_rule(&rule("/datastore", "a@pbs", Role::DatastorePowerUser))
        .unwrap();
    assert_eq!(
        at(&token, "/datastore/main"),
        Role::DatastorePowerUser.privileges()
    );
    assert_eq!(at(&token, "/datastore/other"), Privileges::NONE);
    assert_eq!(
        at(&"a@pbs".parse().unwrap(), "/datastore/other"),
        Role::DatastorePowerUser.privileges()
    );
    assert!(
        lab.gate
            .has_below(&token, "/datastore", Privileges::DATASTORE_BACKUP)
    );
    assert!(
        !lab.gate
            .has_below(&token, "/datastore", Privileges::DATASTORE_READ)
    );
    assert!(
        !lab.gate
            .has_below(&token, "/datastore/mai", Privileges::DATASTORE_BACKUP)
    );
    assert!(state.set_rule(&rule("/", "nobody@pbs", Role::Admin)).is_err());
    assert!(lab.gate.exists(&token) && !lab.gate.exists(&"a@pbs!u".parse().unwrap()));
}

#[test]
fn another_process_changes_rules_and_it_holds_at_once() {
    let lab = lab();
    let who: AuthId = "b@pbs".parse().unwrap();
    assert_eq!(lab.gate.privileges(&who, "/"), Privileges::NONE);
    let other = State::open(&lab._folder.path().join("state")).unwrap();
    other.set_rule(&rule("/", "b@pbs", Role::Audit)).unwrap();
    assert_eq!(lab.gate.privileges(&who, "/"), Role::Audit.privileges());
    other
        .remove_rule(&"/".parse().unwrap(), &who.clone().into(), None)
        .unwrap();
    assert_eq!(lab.gate.privileges(&who, "/"), Privileges::NONE);
}

#[test]
fn records_are_kept_and_a_flood_of_strangers_is_counted() {
    let lab = lab();
    let who: AuthId = "a@pbs".parse().unwrap();
    let event = |who, status| AuditEvent {
        who,
        peer: peer(9),
        what: "DELETE /x",
        parameters: "a=1",
        status,
        message: "",
    };
    lab.gate.audit(&event(Some(&who), 200));
    for _ in 0..500 {
        lab.gate.audit(&event(None, 401));
    }
    lab.gate.close();
    let state = lab.gate.state();
    let denied = state
        .records(&RecordFilter {
            denied: true,
            ..RecordFilter::default()
        })
        .unwrap();
    assert_eq!(denied.len(), 61);
    assert_eq!(
        (denied[0].what.as_str(), denied[0].peer.as_deref()),
        ("440 more requests", Some("192.0.2.9"))
    );
    let of_a = state
        .records(&RecordFilter {
            who: Some("a@pbs".into()),
            ..RecordFilter::default()
        })
        .unwrap();
    assert_eq!(
        (of_a.len(), of_a[0].status, of_a[0].parameters.as_str()),
        (1, 200, "a=1")
    );
}

#[tokio::test]
async fn a_second_factor_is_asked_for_after_the_password() {
    let lab = lab();
    let (id, now) = ("a@pbs".parse().unwrap(), Timestamp::now().as_second());
    let secret = lab.gate.state().begin_totp(&id).unwrap();
    // Begun is not yet done: nobody is locked out by an app that was not set up.
    let before = lab.log_in("a@pbs", "correct horse").await.unwrap();
    let done = lab
        .gate
        .confirm_totp(&id, &secret.code_at(now - 30))
        .unwrap()
        .unwrap();
    assert_eq!(done.codes.unwrap().len(), 10);
    let cookie = |ticket: &str| format!("PBSAuthCookie={ticket}");
    assert_eq!(lab.with(None, Some(&cookie(&before.ticket)), None, false), None);
    assert!(
        lab.with(None, Some(&cookie(&done.issued.ticket)), None, false)
            .is_some()
    );
    let challenge = async |password: &str| match lab.gate.log_in("a@pbs", password, peer(1)).await? {
        LogIn::SecondFactor(challenge) => Ok::<_, Refusal>(challenge),
        LogIn::Done(_) => panic!("the password alone lets in"),
    };
    assert_eq!(challenge("wrong").await.err(), Some(Refusal::Wrong));
    let asked = challenge("correct horse").await.unwrap();
    assert_eq!(asked.factor.map(|factor| factor.codes), Some(10));
    // What asks is no ticket.
    assert_eq!(lab.with(None, Some(&cookie(&asked.ticket)), None, false), None);
    assert!(lab.gate.log_in("a@pbs", &asked.ticket, peer(1)).await.is_err());
    let answer =
        async |user: &str, code: &str| lab.gate.second_factor(user, &asked.ticket, code, peer(1)).await;
    assert_eq!(answer("a@pbs", "12345").await.err(), Some(Refusal::WrongCode));
    let code = secret.code_at(now);
    assert_eq!(answer("b@pbs", &code).await.err(), Some(Refusal::Wrong));
    assert_eq!(answer("nobody@pbs", &code).await.err(), Some(Refusal::Wrong));
    let done = answer("a@pbs", &code).await.unwrap();
    assert!(
        lab.with(None, Some(&cookie(&done.issued.ticket)), None, false)
            .is_some()
    );
    assert_eq!(
        answer("a@pbs", &code).await.err(),
        Some(Refusal::WrongCode),
        "a code is good once"
    );
    // The ticket renews itself without another code.
    assert!(lab.log_in("a@pbs", &done.issued.ticket).await.is_ok());
}

#[tokio::test]
async fn a_second_factor_that_is_required_is_made_at_the_next_log_in() {
    let mut lab = lab();
    lab.gate.sign_in.second_factor_required = true;
    let LogIn::SecondFactor(asked) = lab.gate.log_in("a@pbs", "correct horse", peer(1)).await.unwrap() else {
        panic!("the password alone lets in");
    };
    assert_eq!(asked.factor, None);
    let answer = async |code: &str| {
        lab.gate
            .second_factor("a@pbs", &asked.ticket, code, peer(1))
            .await
    };
    assert_eq!(answer("123456").await.err(), Some(Refusal::WrongCode));
    assert!(lab.gate.begin_by_challenge("b@pbs", &asked.ticket).is_err());
    let (_, secret) = lab.gate.begin_by_challenge("a@pbs", &asked.ticket).unwrap();
    let done = answer(&secret.code_at(Timestamp::now().as_second()))
        .await
        .unwrap();
    assert_eq!(done.codes.unwrap().len(), 10);
    // The question has ended with it.
    assert!(lab.gate.begin_by_challenge("a@pbs", &asked.ticket).is_err());
}

#[tokio::test]
async fn a_session_that_cannot_be_written_down_is_listed_and_can_be_ended() {
    let lab = lab();
    let state = lab._folder.path().join("state/state.db");
    let beside = rusqlite::Connection::open(state).unwrap();
    let now = Timestamp::now();
    let listed = |gate: &Gate| {
        let found = gate.sessions(None, now).unwrap();
        found.into_iter().map(|session| session.id).collect::<Vec<_>>()
    };
    let sees = |issued: &Issued| {
        let cookie = format!("PBSAuthCookie={}", issued.ticket.replace('+', "%2B"));
        lab.with(None, Some(&cookie), None, false).is_some()
    };
    let before = lab.log_in("a@pbs", "correct horse").await.unwrap();
    for of in ["INSERT", "UPDATE"] {
        let full =
            format!("CREATE TRIGGER full{of} BEFORE {of} ON sessions BEGIN SELECT RAISE(ABORT, 'full'); END");
        beside.execute_batch(&full).unwrap();
    }
    let one = lab.log_in("a@pbs", "correct horse").await.unwrap();
    let other = lab.log_in("a@pbs", "correct horse").await.unwrap();
    let ids = [&before, &one, &other].map(|issued| sessions::id_of(&issued.ticket));
    assert_eq!(listed(&lab.gate).len(), 3);
    // One that was never written down, and one of which only its end is not.
    lab.gate.end_session(&ids[1], now).unwrap();
    lab.gate.end_session(&ids[0], now).unwrap();
    assert_eq!((sees(&before), sees(&one), sees(&other)), (false, false, true));
    assert_eq!(listed(&lab.gate), [ids[2].clone()]);
    assert!(lab.gate.end_session(&ids[1], now).is_err());
    // As soon as there is room it is written down.
    beside
        .execute_batch("DROP TRIGGER fullINSERT; DROP TRIGGER fullUPDATE")
        .unwrap();
    let _ = lab.log_in("a@pbs", "correct horse").await.unwrap();
    assert_eq!(lab.gate.state().sessions(None, now).unwrap().len(), 2);
    assert!(lab.gate.state().known().unwrap().ended.contains(&ids[1]));
    assert_eq!((sees(&before), sees(&one), sees(&other)), (false, false, true));
}
