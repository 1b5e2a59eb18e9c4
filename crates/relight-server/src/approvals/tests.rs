use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relight_pbs::access::{Action, AuthId, Guarded, Pass, Role, Rule, Unapproved};

use super::{Glass, Standing};
use crate::config::ApprovalsConfig;
use crate::evidence::Kind;
use crate::gate::Gate;
use crate::state::{ApprovalFilter, EvidenceFilter, State, TokenChange, UserChange};

struct Lab {
    gate: Gate,
    _folder: tempfile::TempDir,
}

fn id(text: &str) -> AuthId {
    text.parse().unwrap()
}

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(500_000) + SignedDuration::from_mins(minutes)
}

const DELETE: Guarded<'_> = Guarded {
    action: Action::Delete,
    path: "/datastore/main/lab",
    subject: "delete the recovery point host/a/2026-01-01T00:00:00Z in main",
    exact: "host/a/2026-01-01T00:00:00Z",
    reason: None,
};

impl Lab {
    /// ann, bob: administrators; eve: an operator.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(State::open(folder.path()).unwrap());
        for (name, role) in [
            ("ann@pbs", Role::Admin),
            ("bob@pbs", Role::Admin),
            ("eve@pbs", Role::DatastoreAdmin),
        ] {
            let user = name.parse().unwrap();
            state.add_user(&user, None, &UserChange::default()).unwrap();
            let token = AuthId::of_token(user, "tool").unwrap();
            state.add_token(&token, &TokenChange::default()).unwrap();
            for who in [id(name), token] {
                let path = "/".parse().unwrap();
                let rule = Rule {
                    path,
                    who: who.into(),
                    role: role.into(),
                    propagate: true,
                };
                state.set_rule(&rule).unwrap();
            }
        }
        let config = ApprovalsConfig {
            required: [Action::Delete].into(),
            ..ApprovalsConfig::default()
        };
        let gate = Gate::new(state).unwrap().with_approvals(config);
        Self {
            gate,
            _folder: folder,
        }
    }

    fn ask(&self, who: &str, what: &Guarded<'_>, minutes: i64) -> Result<Pass, Unapproved> {
        self.gate.leave(&id(who), what, at(minutes))
    }

    fn decide(&self, who: &str, number: u64, approve: bool, minutes: i64) -> Result<(), String> {
        let decided = self.gate.decide(&id(who), number, approve, "seen", at(minutes));
        decided.map(drop).map_err(|error| error.to_string())
    }

    fn standing(&self, number: u64, minutes: i64) -> Standing {
        let found = self.gate.state().approval(number).unwrap().unwrap();
        found.standing(at(minutes))
    }
}

#[test]
fn what_another_user_approved_can_be_done_once_by_the_one_who_asked() {
    let lab = Lab::new();
    let waiting = Err(Unapproved::Waiting { number: 1 });
    assert_eq!(lab.ask("ann@pbs", &DELETE, 0), waiting);
    assert_eq!(lab.ask("ann@pbs", &DELETE, 1), waiting, "the same is one request");
    // Neither who asked, nor a token of anybody, nor who may not decide.
    assert!(
        lab.decide("ann@pbs", 1, true, 2)
            .unwrap_err()
            .contains("your own")
    );
    assert!(
        lab.decide("ann@pbs!tool", 1, true, 2)
            .unwrap_err()
            .contains("token")
    );
    assert!(
        lab.decide("bob@pbs!tool", 1, true, 2)
            .unwrap_err()
            .contains("token")
    );
    let unseen = lab.decide("eve@pbs", 1, true, 2).unwrap_err();
    assert_eq!(unseen, "there is no request 1");
    lab.decide("bob@pbs", 1, true, 3).unwrap();
    assert!(lab.decide("bob@pbs", 1, false, 3).is_err(), "decided is decided");
    // Not for anybody else, nor for anything else.
    let of_bob = lab.ask("bob@pbs", &DELETE, 4);
    assert_eq!(of_bob, Err(Unapproved::Waiting { number: 2 }));
    let other = Guarded {
        exact: "host/b",
        ..DELETE
    };
    assert_eq!(
        lab.ask("ann@pbs", &other, 4),
        Err(Unapproved::Waiting { number: 3 })
    );
    assert_eq!(
        lab.ask("ann@pbs!tool", &DELETE, 4),
        Err(Unapproved::Waiting { number: 4 })
    );
    assert_eq!(lab.standing(1, 5), Standing::Approved);
    assert_eq!(lab.ask("ann@pbs", &DELETE, 5), Ok(Pass(Some(1))));
    assert_eq!(lab.standing(1, 6), Standing::Used);
    assert_eq!(
        lab.ask("ann@pbs", &DELETE, 6),
        Err(Unapproved::Waiting { number: 5 })
    );
    // What was not done after all can be done still.
    lab.gate.give_back(Pass(Some(1)), at(7));
    assert_eq!(lab.standing(1, 7), Standing::Approved);
    // What is not guarded needs nobody.
    let restore = Guarded {
        action: Action::Restore,
        ..DELETE
    };
    assert_eq!(lab.ask("ann@pbs", &restore, 8), Ok(Pass(None)));
}

#[test]
fn what_was_denied_or_is_too_old_is_not_done() {
    let lab = Lab::new();
    assert!(lab.ask("ann@pbs", &DELETE, 0).is_err());
    lab.decide("bob@pbs", 1, false, 1).unwrap();
    let denied = lab.ask("ann@pbs", &DELETE, 2).unwrap_err();
    assert_eq!(denied.to_string(), "this was denied by bob@pbs (request 1): seen");
    // A day later it may be asked for again.
    assert_eq!(
        lab.ask("ann@pbs", &DELETE, 24 * 60 + 2),
        Err(Unapproved::Waiting { number: 2 })
    );
    assert!(
        lab.decide("bob@pbs", 2, true, 49 * 60).is_err(),
        "nobody decided in time"
    );
    assert_eq!(lab.standing(2, 49 * 60), Standing::Expired);
    assert!(lab.ask("ann@pbs", &DELETE, 50 * 60).is_err());
    lab.decide("bob@pbs", 3, true, 51 * 60).unwrap();
    // An approval is too old after a day, too.
    assert_eq!(
        lab.ask("ann@pbs", &DELETE, 76 * 60),
        Err(Unapproved::Waiting { number: 4 })
    );
}

#[test]
fn who_may_not_decide_any_more_has_approved_nothing() {
    let lab = Lab::new();
    assert!(lab.ask("ann@pbs", &DELETE, 0).is_err());
    lab.decide("bob@pbs", 1, true, 1).unwrap();
    let off = UserChange {
        enabled: Some(false),
        ..UserChange::default()
    };
    lab.gate
        .state()
        .change_user(&"bob@pbs".parse().unwrap(), &off)
        .unwrap();
    assert_eq!(
        lab.ask("ann@pbs", &DELETE, 2),
        Err(Unapproved::Waiting { number: 2 })
    );
}

#[test]
fn requests_that_wait_are_limited() {
    let lab = Lab::new();
    for n in 0..super::WAITING {
        let exact = n.to_string();
        let what = Guarded {
            exact: &exact,
            ..DELETE
        };
        let who = if n % 2 == 0 { "ann@pbs" } else { "ann@pbs!tool" };
        assert!(matches!(lab.ask(who, &what, 0), Err(Unapproved::Waiting { .. })));
    }
    assert!(matches!(
        lab.ask("ann@pbs", &DELETE, 0),
        Err(Unapproved::TooMany(_))
    ));
    assert!(matches!(
        lab.ask("bob@pbs", &DELETE, 0),
        Err(Unapproved::Waiting { .. })
    ));
}

#[test]
fn with_broken_glass_one_is_enough_for_a_time_and_everything_is_written_down() {
    let lab = Lab::new();
    let state = lab.gate.state();
    let glass = Glass {
        who: "command line, uid 0".into(),
        reason: "bob is ill".into(),
        since: at(0),
        until: at(60),
    };
    state.break_glass(&glass).unwrap();
    assert_eq!(lab.ask("ann@pbs", &DELETE, 1), Ok(Pass(None)));
    assert!(lab.ask("ann@pbs", &DELETE, 60).is_err());
    lab.decide("bob@pbs", 1, true, 61).unwrap();
    let pass = lab.ask("ann@pbs", &DELETE, 62).unwrap();
    lab.gate.give_back(pass, at(63));
    let filter = EvidenceFilter {
        kind: Some(Kind::Approval),
        ..EvidenceFilter::default()
    };
    let mut told: Vec<String> = state
        .evidence(&filter)
        .unwrap()
        .into_iter()
        .map(|body| body.what)
        .collect();
    told.reverse();
    let begins = [
        "broke the glass: ",
        "went without approval, as the glass is broken: delete: delete the recovery point",
        "asked for approval: request 1, delete: ",
        "approved: request 1",
        "an approval was used: request 1",
        "an approval was given back",
    ];
    assert_eq!(told.len(), begins.len(), "{told:?}");
    for (told, begins) in told.iter().zip(begins) {
        assert!(told.starts_with(begins), "{told}");
    }
    // Mended before its time.
    state
        .break_glass(&Glass {
            since: at(100),
            until: at(160),
            ..glass
        })
        .unwrap();
    assert!(state.mend_glass("command line, uid 0", at(110)).unwrap());
    assert!(state.broken_glass(at(111)).unwrap().is_none());
    assert_eq!(state.approvals(&ApprovalFilter::default()).unwrap().len(), 1);
}
