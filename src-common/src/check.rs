//! Checks: what an examination looked at, what it found, and what that rests on.
//!
//! One code path judges and explains: each step of a verdict passes through [`Checks::step`], which keeps it where
//! somebody wants to read the whole way and costs nothing where only the verdict counts.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

/// One step of an examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// Stable name: lower case, words joined by dashes.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, or why it failed.
    pub found: String,
    /// The file, ioctl or call that shows it.
    pub rests_on: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// As it has to be.
    Passed,
    /// Not as it has to be: the device is not handed out.
    Failed,
    /// A fact that decides nothing by itself.
    Noted,
}

/// The steps of an examination, kept or not.
#[derive(Debug)]
pub struct Checks(Option<Vec<Check>>);

impl Checks {
    /// Keeps every step.
    #[must_use]
    pub fn kept() -> Self {
        Self(Some(Vec::new()))
    }

    /// Keeps none, and formats none.
    #[must_use]
    pub fn unkept() -> Self {
        Self(None)
    }

    /// Passes an outcome on, keeping it. `found` says what a good one found; a bad one says it itself.
    pub fn step<T, E: Display>(
        &mut self,
        name: &str,
        rests_on: fmt::Arguments<'_>,
        result: Result<T, E>,
        found: impl FnOnce(&T) -> String,
    ) -> Result<T, E> {
        if let Some(kept) = &mut self.0 {
            let (outcome, found) = match &result {
                Ok(value) => (Outcome::Passed, found(value)),
                Err(refusal) => (Outcome::Failed, refusal.to_string()),
            };
            kept.push(Check { name: name.to_owned(), outcome, found, rests_on: rests_on.to_string() });
        }
        result
    }

    /// Makes facts of what has failed so far: something else has decided, in its favour.
    pub fn overrule(&mut self) {
        for check in self.0.iter_mut().flatten().filter(|check| check.outcome == Outcome::Failed) {
            check.outcome = Outcome::Noted;
        }
    }

    /// Keeps a fact.
    pub fn note(&mut self, name: &str, rests_on: fmt::Arguments<'_>, found: impl FnOnce() -> String) {
        if let Some(kept) = &mut self.0 {
            let (name, rests_on) = (name.to_owned(), rests_on.to_string());
            kept.push(Check { name, outcome: Outcome::Noted, found: found(), rests_on });
        }
    }

    /// What was kept, in order.
    #[must_use]
    pub fn into_list(self) -> Vec<Check> {
        self.0.unwrap_or_default()
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Noted => "noted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_steps_say_what_was_found_and_where() {
        let mut checks = Checks::kept();
        assert_eq!(checks.step("a", format_args!("/sys/a"), Ok::<_, String>(7), |n| format!("{n}")), Ok(7));
        assert!(checks.step("b", format_args!("/sys/b"), Err::<(), _>("no"), |()| String::new()).is_err());
        let list = checks.into_list();
        assert_eq!((list[0].outcome, list[0].found.as_str()), (Outcome::Passed, "7"));
        assert_eq!((list[1].outcome, list[1].found.as_str()), (Outcome::Failed, "no"));
        assert_eq!(list[1].rests_on, "/sys/b");
    }

    #[test]
    fn what_was_overruled_has_failed_nobody() {
        let mut checks = Checks::kept();
        let failing = |checks: &mut Checks, name| {
            assert!(
                checks.step(name, format_args!("/sys/a"), Err::<(), _>("no"), |()| String::new()).is_err()
            );
        };
        failing(&mut checks, "a");
        checks.overrule();
        failing(&mut checks, "b");
        let outcomes: Vec<Outcome> = checks.into_list().iter().map(|check| check.outcome).collect();
        assert_eq!(outcomes, [Outcome::Noted, Outcome::Failed]);
    }

    #[test]
    fn unkept_steps_format_nothing() {
        let mut checks = Checks::unkept();
        let result = checks.step("a", format_args!("/sys/a"), Ok::<_, String>(()), |()| unreachable!());
        assert!(result.is_ok() && checks.into_list().is_empty());
    }
}
