//! One part of an event (its hours, its months…) as the values that it allows.

use std::fmt;

/// Values from `from` to `to`, every `step`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) from: u16,
    /// `None` with a step: to the end of the part. `None` without one: `from` alone.
    pub(super) to: Option<u16>,
    pub(super) step: Option<u16>,
}

impl Item {
    /// The last value it can reach, in a part that ends with `max`.
    fn last(self, max: u16) -> u16 {
        match (self.to, self.step) {
            (Some(to), _) => to,
            (None, Some(_)) => max,
            (None, None) => self.from,
        }
    }

    /// Its smallest value from `value` on.
    fn next(self, value: u16, max: u16) -> Option<u16> {
        let step = self.step.unwrap_or(1);
        let steps = value.saturating_sub(self.from).div_ceil(step);
        let next = self.from.checked_add(steps.checked_mul(step)?)?;
        (next <= self.last(max)).then_some(next)
    }
}

/// The values of one part. No items: every value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) items: Vec<Item>,
    pub(super) min: u16,
    pub(super) max: u16,
}

impl Field {
    /// Exactly one value.
    pub(super) fn one(value: u16, min: u16, max: u16) -> Self {
        let item = Item {
            from: value,
            to: None,
            step: None,
        };
        Self {
            items: vec![item],
            min,
            max,
        }
    }

    /// The smallest allowed value from `value` on.
    pub(super) fn next(&self, value: u16) -> Option<u16> {
        let value = value.max(self.min);
        if self.items.is_empty() {
            return (value <= self.max).then_some(value);
        }
        let nexts = self.items.iter().filter_map(|item| item.next(value, self.max));
        nexts.min()
    }

    /// The smallest allowed value.
    pub(super) fn first(&self) -> Option<u16> {
        self.next(self.min)
    }

    /// Whether it allows `value`.
    pub(super) fn allows(&self, value: u16) -> bool {
        self.next(value) == Some(value)
    }

    /// Whether it allows every value of the part.
    pub(super) fn is_full(&self) -> bool {
        (self.min..=self.max).all(|value| self.allows(value))
    }

    /// Whether the day that is `from_end` days from the end of its month (1 is the last) is allowed. Ranges may be
    /// written in either order; a step goes towards the end of the month.
    pub(super) fn allows_from_end(&self, from_end: u16) -> bool {
        self.items.is_empty()
            || self.items.iter().any(|item| {
                let (far, near) = match (item.to, item.step) {
                    (Some(to), _) => (item.from.max(to), item.from.min(to)),
                    (None, Some(_)) => (item.from, 1),
                    (None, None) => (item.from, item.from),
                };
                (near..=far).contains(&from_end) && (far - from_end).is_multiple_of(item.step.unwrap_or(1))
            })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.items.is_empty() {
            return f.write_str("*");
        }
        for (at, item) in self.items.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{:02}", item.from)?;
            if let Some(to) = item.to {
                write!(f, "..{to:02}")?;
            }
            if let Some(step) = item.step {
                write!(f, "/{step}")?;
            }
        }
        Ok(())
    }
}
