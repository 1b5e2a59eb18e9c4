//! Who is told what, and when: new problems at once, or after a while where a route says so; what is still wrong again only
//! after a quiet time; that it is over to whoever was told of it. One letter for everything of one look.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relight_model::TimeSpan;
use relight_model::plan::{Route, RouteEvent};
use serde::Serialize;

use super::problem::Problem;

/// So many lines of a letter are shown; of more it is said how many there are.
const MOST: usize = 50;
/// A line is no longer, in characters.
const LONGEST: usize = 500;

/// What one route has been told of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Since when it is so.
    pub since: Timestamp,
    /// When it was last told.
    pub told: Option<Timestamp>,
    /// What was told.
    pub problem: Problem,
}

/// What a route has been told, by the key of the problem.
pub type Memory = BTreeMap<String, Told>;

/// What a line of a letter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum News {
    /// Something is wrong.
    New,
    /// It still is.
    Still,
    /// It is not any more.
    Over,
    /// Something went well, or is only told.
    Told,
}

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Line {
    pub news: News,
    pub event: RouteEvent,
    pub subject: String,
    pub policy: Option<String>,
    pub text: String,
    pub since: Timestamp,
}

/// What is sent at once over one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Letter {
    /// The server's name.
    pub server: String,
    /// The route's name.
    pub route: String,
    pub time: Timestamp,
    /// In a line.
    pub summary: String,
    pub lines: Vec<Line>,
    /// How many lines more there would be.
    pub more: usize,
}

/// Whether a route is for such a thing.
pub(super) fn is_for(route: &Route, event: RouteEvent, policy: Option<&str>) -> bool {
    route.events.contains(&event)
        && (route.policies.is_empty()
            || policy.is_some_and(|policy| route.policies.iter().any(|named| named.value == policy)))
}

/// What to tell a route now, and what it has been told when that was sent.
pub(super) fn decide(
    route: &Route,
    problems: &[Problem],
    memory: &Memory,
    now: Timestamp,
) -> (Vec<Line>, Memory) {
    let (mut lines, mut next) = (Vec::new(), Memory::new());
    let line = |news, problem: &Problem, since| Line {
        news,
        event: problem.event,
        subject: problem.subject.clone(),
        policy: problem.policy.clone(),
        text: problem.text.chars().take(LONGEST).collect(),
        since,
    };
    // A clock that was set back must not silence anybody: what lies ahead counts as long ago.
    let passed = |since: Timestamp, span: TimeSpan| {
        let span = SignedDuration::try_from(span.0).unwrap_or(SignedDuration::MAX);
        let age = now.duration_since(since);
        age >= span || age < SignedDuration::ZERO
    };
    for problem in problems {
        if !is_for(route, problem.event, problem.policy.as_deref()) {
            continue;
        }
        let known = memory.get(&problem.key);
        let since = known.map_or(now, |known| known.since);
        let mut told = known.and_then(|known| known.told);
        match told {
            None if passed(since, route.after) => {
                lines.push(line(News::New, problem, since));
                told = Some(now);
            }
            Some(last) if passed(last, route.repeat) => {
                lines.push(line(News::Still, problem, since));
                told = Some(now);
            }
            _ => {}
        }
        let problem = problem.clone();
        next.insert(problem.key.clone(), Told { since, told, problem });
    }
    for (key, known) in memory {
        if !next.contains_key(key) && known.told.is_some() {
            lines.push(line(News::Over, &known.problem, known.since));
        }
    }
    lines.sort_by(|a, b| (a.news, a.event, &a.subject).cmp(&(b.news, b.event, &b.subject)));
    (lines, next)
}

impl Letter {
    pub fn new(server: &str, route: &str, time: Timestamp, mut lines: Vec<Line>) -> Self {
        let summary = summary(&lines);
        let more = lines.len().saturating_sub(MOST);
        lines.truncate(MOST);
        Self {
            server: server.to_owned(),
            route: route.to_owned(),
            time,
            summary,
            lines,
            more,
        }
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let head = match line.news {
                News::New => String::new(),
                News::Still => format!("still, since {:.0}: ", line.since),
                News::Over => format!("over, it began {:.0}: ", line.since),
                News::Told => String::new(),
            };
            text.push_str(&format!("{}: {head}{}\n", line.subject, line.text));
        }
        if self.more > 0 {
            text.push_str(&format!("and {} more\n", self.more));
        }
        text
    }
}

fn summary(lines: &[Line]) -> String {
    let count = |news| lines.iter().filter(|line| line.news == news).count();
    let (wrong, over) = (count(News::New) + count(News::Still), count(News::Over));
    match (lines, wrong, over) {
        ([one], _, _) if one.news == News::Over => format!("{}: {} is over", one.subject, one.event),
        ([one], _, _) => format!("{}: {}", one.subject, one.event),
        (_, 0, 0) => format!("{} things went well", lines.len()),
        (_, wrong, 0) => format!("{wrong} problems"),
        (_, 0, over) => format!("{over} problems are over"),
        (_, wrong, over) => format!("{wrong} problems, {over} are over"),
    }
}

#[cfg(test)]
mod tests {
    use relight_model::plan::Plan;

    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap()
    }

    fn routes() -> Vec<Route> {
        let text = "
            [[repository]]
            name = 'main'
            [policy.a]
            schedule = 'daily'
            repository = 'main'
            retention = { keep-last = 1 }
            [[route]]
            name = 'team'
            to = 'mailto:a@b'
            events = ['rpo', 'alarm']
            repeat = '4 h'
            [[route]]
            name = 'boss'
            to = 'https://x/'
            events = ['rpo']
            policies = ['a']
            after = '1 h'
        ";
        Plan::parse(text).unwrap().routes
    }

    fn problem(event: RouteEvent, subject: &str, policy: Option<&str>) -> Problem {
        Problem {
            key: format!("{event} {subject}"),
            event,
            subject: subject.into(),
            policy: policy.map(str::to_owned),
            text: "is wrong".into(),
        }
    }

    /// What is told at these minutes, while the same is wrong until it is not.
    fn told(route: &Route, problems: &[Problem], minutes: &[i64], until: i64) -> Vec<(i64, News)> {
        let mut memory = Memory::new();
        let mut told = Vec::new();
        for minute in minutes {
            let now: &[Problem] = if *minute < until { problems } else { &[] };
            let (lines, next) = decide(route, now, &memory, at(*minute));
            told.extend(lines.iter().map(|line| (*minute, line.news)));
            memory = next;
        }
        told
    }

    #[test]
    fn what_is_wrong_is_told_once_repeated_quietly_and_ended() {
        let wrong = [problem(RouteEvent::Rpo, "vm/1", Some("a"))];
        let every: Vec<i64> = (0..=600).collect();
        let expected = [
            (0, News::New),
            (240, News::Still),
            (480, News::Still),
            (500, News::Over),
        ];
        assert_eq!(told(&routes()[0], &wrong, &every, 500), expected);
    }

    #[test]
    fn who_is_told_later_is_not_told_what_was_mended_before() {
        let wrong = [problem(RouteEvent::Rpo, "vm/1", Some("a"))];
        let every: Vec<i64> = (0..=120).collect();
        assert_eq!(told(&routes()[1], &wrong, &every, 50), []);
        assert_eq!(
            told(&routes()[1], &wrong, &every, 90),
            [(60, News::New), (90, News::Over)]
        );
        // Of other policies, and of what has none, this route is told nothing.
        for other in [Some("b"), None] {
            let wrong = [problem(RouteEvent::Rpo, "vm/1", other)];
            assert_eq!(told(&routes()[1], &wrong, &every, 200), []);
        }
        let alarm = [problem(RouteEvent::Alarm, "clock", None)];
        assert_eq!(told(&routes()[0], &alarm, &[0, 1], 9), [(0, News::New)]);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody() {
        let wrong = [problem(RouteEvent::Rpo, "vm/1", Some("a"))];
        let minutes = [0, -5_000_000];
        let expected = [(0, News::New), (-5_000_000, News::Still)];
        assert_eq!(told(&routes()[0], &wrong, &minutes, 9), expected);
    }

    #[test]
    fn an_outage_of_everything_is_one_letter() {
        let wrong: Vec<Problem> = (0..1000)
            .map(|n| problem(RouteEvent::Rpo, &format!("vm/{n}"), Some("a")))
            .collect();
        let (lines, _) = decide(&routes()[0], &wrong, &Memory::new(), at(0));
        let letter = Letter::new("srv", "team", at(0), lines);
        assert_eq!(letter.summary, "1000 problems");
        assert_eq!((letter.lines.len(), letter.more), (50, 950));
        assert!(letter.text().ends_with("and 950 more\n"));
    }
}
