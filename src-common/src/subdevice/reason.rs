//! Why a device is not handed out: of a kind, which programs count, and in words, which people read.

use std::fmt::{self, Display};

/// What a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What it should stand on is gone, or another thing.
    Parent,
    /// It can't be seen what it is.
    Unreadable,
    /// It is on another driver than its mode takes, or on none.
    Driver,
    /// Nothing shows that its DMA and interrupts are confined.
    Isolation,
    /// Its doorbell shares a page, or can't be found.
    Doorbell,
    /// Its vDPA device is missing, another's, or not alone.
    Vdpa,
    /// Its mdev is missing or another's.
    Mdev,
    /// The node that its consumer would open is missing.
    Node,
    /// It has no network interface to give, or the host uses it.
    Interface,
    /// Its pool does not select it any more.
    Unselected,
    /// Its PF has no link, which its pool asks for.
    Link,
    /// A process has it open that is no pod's.
    Stranger,
}

impl Kind {
    /// All kinds, in the order in which they come first.
    pub const ALL: [Self; 12] = [
        Self::Parent,
        Self::Unreadable,
        Self::Driver,
        Self::Isolation,
        Self::Doorbell,
        Self::Vdpa,
        Self::Mdev,
        Self::Node,
        Self::Interface,
        Self::Unselected,
        Self::Link,
        Self::Stranger,
    ];

    /// Its name, as a metric's label has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parent => "parent",
            Self::Unreadable => "unreadable",
            Self::Driver => "driver",
            Self::Isolation => "isolation",
            Self::Doorbell => "doorbell",
            Self::Vdpa => "vdpa",
            Self::Mdev => "mdev",
            Self::Node => "node",
            Self::Interface => "interface",
            Self::Unselected => "unselected",
            Self::Link => "link",
            Self::Stranger => "stranger",
        }
    }

    /// A reason of this kind.
    pub fn because(self, text: impl Display) -> Reason {
        Reason { kind: self, text: text.to_string() }
    }
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it is about.
    pub kind: Kind,
    /// What it says, on one line.
    pub text: String,
}

impl Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// All reasons there are against a device, at least one. They read as one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasons(Vec<Reason>);

impl Reasons {
    /// Those that are there, if any is.
    pub fn of(reasons: impl IntoIterator<Item = Reason>) -> Option<Self> {
        let reasons: Vec<Reason> = reasons.into_iter().collect();
        (!reasons.is_empty()).then_some(Self(reasons))
    }

    /// What the first is about, by which the device is counted.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0[0].kind
    }

    /// The same behind another.
    #[must_use]
    pub fn behind(mut self, first: Reason) -> Self {
        self.0.insert(0, first);
        self
    }

    /// Adds others.
    pub fn add(&mut self, others: &Self) {
        self.0.extend(others.0.iter().cloned());
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Reason> {
        self.0.iter()
    }
}

impl From<Reason> for Reasons {
    fn from(reason: Reason) -> Self {
        Self(vec![reason])
    }
}

impl Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { "; " };
            write!(f, "{gap}{reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_as_one_line_and_count_as_the_first() {
        assert_eq!(Reasons::of([]), None);
        let mut reasons = Reasons::from(Kind::Doorbell.because("no doorbell"));
        reasons.add(&Kind::Stranger.because("process 7 has it open").into());
        let reasons = reasons.behind(Kind::Parent.because("no virtual function"));
        assert_eq!(reasons.to_string(), "no virtual function; no doorbell; process 7 has it open");
        assert_eq!(reasons.kind().name(), "parent");
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
