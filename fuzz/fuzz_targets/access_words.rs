//! Names of users, tokens, roles and paths of rules; tickets; parameters of queries and bodies. What is accepted prints and
//! parses again to the same, and no ticket is genuine that was not made here.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use relight_fuzz::known::Everything;
use relight_pbs::access::{AclPath, AuthId, Grantee, Role, Rule, UserId, granted};
use relight_pbs::service::http::Parameters;
use relight_server::gate::Tickets;

static TICKETS: LazyLock<Tickets> = LazyLock::new(|| Tickets::new(&[7; 32]));
const NOW: i64 = 1_700_000_000;

fn comes_back<T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().ok(), Some(value));
    }
}

fuzz_target!(|text: &str| {
    comes_back::<UserId>(text);
    comes_back::<AuthId>(text);
    comes_back::<Grantee>(text);
    comes_back::<AclPath>(text);
    comes_back::<Role>(text);
    if let (Ok(path), Ok(who)) = (text.parse::<AclPath>(), "a@pbs".parse::<AuthId>()) {
        let rule = Rule {
            path,
            who: who.into(),
            role: Role::Audit.into(),
            propagate: true,
        };
        assert_eq!(
            granted([&rule], |_| true, rule.path.as_str()).privileges,
            Role::Audit.privileges()
        );
        let _ = granted([&rule], |_| true, text);
    }
    if let Ok(ticket) = TICKETS.verify(text, NOW) {
        assert!(!TICKETS.is_of(&ticket, 1), "a ticket was forged: {text}");
    }
    if let Ok(user) = "a@pbs".parse() {
        assert!(
            TICKETS.verify_csrf(text, &user, 1, NOW).is_err(),
            "a token was forged: {text}"
        );
    }
    if let Ok(parameters) = Parameters::from_query(text) {
        assert!(!parameters.for_log().contains(char::is_control));
        let _ = parameters.read::<Everything>();
    }
    let mut parameters = Parameters::new();
    if parameters.add_json(text.as_bytes()).is_ok() {
        let _ = parameters.read::<Everything>();
    }
});
