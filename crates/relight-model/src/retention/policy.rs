//! A retention policy: which rules, with which numbers, and how it is written.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::within::{Within, WithinError};
use crate::size::shortened;

/// The rules by which snapshots are kept. Empty keeps everything.
///
/// Written in configuration as `keep-last = 3`, `keep-within = "30d"`…, in a text as `keep-last=3,keep-daily=7`. A
/// misspelled rule is an error and never an empty policy, and a number of zero is one too: it would read as "keep
/// none" and mean "no such rule".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policy {
    /// Keep so many of the newest snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<NonZeroU32>,
    /// Keep everything so far back from the newest snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_within: Option<Within>,
    /// Keep the newest of so many hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<NonZeroU32>,
    /// Keep the newest of so many days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<NonZeroU32>,
    /// Keep the newest of so many ISO weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<NonZeroU32>,
    /// Keep the newest of so many months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<NonZeroU32>,
    /// Keep the newest of so many years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_yearly: Option<NonZeroU32>,
}

/// One of the rules, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleKind {
    /// `keep-last`
    KeepLast,
    /// `keep-within`
    KeepWithin,
    /// `keep-hourly`
    KeepHourly,
    /// `keep-daily`
    KeepDaily,
    /// `keep-weekly`
    KeepWeekly,
    /// `keep-monthly`
    KeepMonthly,
    /// `keep-yearly`
    KeepYearly,
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No rule has this name.
    #[error(
        "there is no retention rule {name:?}; the rules are keep-last, keep-within, keep-hourly, keep-daily, keep-weekly, keep-monthly and keep-yearly"
    )]
    UnknownRule {
        /// The name as given, shortened.
        name: String,
    },
    /// The same rule twice.
    #[error("the retention rule {rule} is given twice")]
    Repeated {
        /// The rule.
        rule: RuleKind,
    },
    /// A rule without `=`.
    #[error("the retention rule {text:?} lacks its number: write for instance keep-daily=7")]
    NoValue {
        /// What was given, shortened.
        text: String,
    },
    /// The value is no number from 1 on.
    #[error("{value:?} is no number for {rule}: give a number from 1 to 4294967295, or leave the rule out")]
    BadCount {
        /// The rule.
        rule: RuleKind,
        /// The value as given, shortened.
        value: String,
    },
    /// The value of `keep-within` is no span.
    #[error("keep-within: {0}")]
    BadSpan(#[from] WithinError),
    /// There is no rule in the text. Whoever wants to keep everything leaves the policy out.
    #[error("the retention policy is empty: name at least one rule, such as keep-daily=7")]
    Empty,
}

impl RuleKind {
    /// All rules, in the order in which they are applied.
    pub const ALL: [Self; 7] = [
        Self::KeepLast,
        Self::KeepWithin,
        Self::KeepHourly,
        Self::KeepDaily,
        Self::KeepWeekly,
        Self::KeepMonthly,
        Self::KeepYearly,
    ];

    /// The name in configuration, command line and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeepLast => "keep-last",
            Self::KeepWithin => "keep-within",
            Self::KeepHourly => "keep-hourly",
            Self::KeepDaily => "keep-daily",
            Self::KeepWeekly => "keep-weekly",
            Self::KeepMonthly => "keep-monthly",
            Self::KeepYearly => "keep-yearly",
        }
    }
}

impl fmt::Display for RuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RuleKind {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == text)
            .ok_or_else(|| PolicyError::UnknownRule {
                name: shortened(text),
            })
    }
}

impl Policy {
    /// Whether no rule is set, so that everything is kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The number of a counting rule; `None` when it is not set, and for `keep-within`.
    pub fn count(&self, rule: RuleKind) -> Option<NonZeroU32> {
        match rule {
            RuleKind::KeepLast => self.keep_last,
            RuleKind::KeepWithin => None,
            RuleKind::KeepHourly => self.keep_hourly,
            RuleKind::KeepDaily => self.keep_daily,
            RuleKind::KeepWeekly => self.keep_weekly,
            RuleKind::KeepMonthly => self.keep_monthly,
            RuleKind::KeepYearly => self.keep_yearly,
        }
    }

    /// Sets a rule from its written value. Setting it a second time is an error, as it is in configuration.
    pub fn set(&mut self, rule: RuleKind, value: &str) -> Result<(), PolicyError> {
        if self.count(rule).is_some() || (rule == RuleKind::KeepWithin && self.keep_within.is_some()) {
            return Err(PolicyError::Repeated { rule });
        }
        let field = match rule {
            RuleKind::KeepWithin => {
                self.keep_within = Some(value.parse()?);
                return Ok(());
            }
            RuleKind::KeepLast => &mut self.keep_last,
            RuleKind::KeepHourly => &mut self.keep_hourly,
            RuleKind::KeepDaily => &mut self.keep_daily,
            RuleKind::KeepWeekly => &mut self.keep_weekly,
            RuleKind::KeepMonthly => &mut self.keep_monthly,
            RuleKind::KeepYearly => &mut self.keep_yearly,
        };
        let count = value.parse().map_err(|_| PolicyError::BadCount {
            rule,
            value: shortened(value),
        })?;
        *field = Some(count);
        Ok(())
    }
}

impl FromStr for Policy {
    type Err = PolicyError;

    /// Reads `keep-last=3,keep-within=30d,…`, separated by commas or white space.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self::default();
        for item in text.split([',', ' ', '\t', '\n']).filter(|item| !item.is_empty()) {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let rule: RuleKind = name.parse()?;
            if value.is_empty() {
                return Err(PolicyError::NoValue {
                    text: shortened(item),
                });
            }
            policy.set(rule, value)?;
        }
        if policy.is_empty() {
            Err(PolicyError::Empty)
        } else {
            Ok(policy)
        }
    }
}

impl fmt::Display for Policy {
    /// The form that parses back; `keep everything` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules = Vec::new();
        for rule in RuleKind::ALL {
            if let Some(count) = self.count(rule) {
                rules.push(format!("{rule}={count}"));
            } else if let (RuleKind::KeepWithin, Some(within)) = (rule, self.keep_within) {
                rules.push(format!("{rule}={within}"));
            }
        }
        if rules.is_empty() {
            f.write_str("keep everything")
        } else {
            f.write_str(&rules.join(","))
        }
    }
}
