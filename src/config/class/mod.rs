//! Classes: the kinds of notification, what each means for its mail, and by what it is recognised. Built in, laid over by
//! `[[class]]` of waxseal.toml, and that by a tenant's file.

mod built_in;
mod effect;
mod rule;
mod written;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub use self::effect::{Hides, certain};
pub use self::rule::{FromRule, LinkRule, SubjectRule, Term};
pub(crate) use self::written::Written;
use crate::mail::message::Lane;
use crate::mail::priority::Priority;

/// Classes there may be: each is a row for people to keep apart.
pub const CLASSES_MAX: usize = 32;
/// Octets of a class's name: a control address (RFC 5321 section 4.5.3.1.1: 64 octets before the @) must hold it.
pub const NAME_MAX: usize = 32;

/// All classes that a tenant's mail may be of, the more urgent first among those of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    all: Arc<[Class]>,
    default: Option<Arc<str>>,
}

/// One kind of notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name in headers, addresses and logs.
    pub name: Arc<str>,
    /// How its mail takes turns.
    pub lane: Lane,
    /// How urgent its mail is to the servers behind us, where its sender does not say.
    pub priority: Priority,
    /// The first waits between attempts; `delivery.retry` goes on from there.
    pub retry: Vec<Duration>,
    /// What logs and notifications do not show.
    pub hide: Vec<Hide>,
    /// What must protect its mail on the way out.
    pub tls: ClassTls,
    /// Addresses in From that mean it.
    pub from: Vec<FromRule>,
    /// Links that mean it.
    pub link: Vec<LinkRule>,
    /// Subjects that mean it.
    pub subject: Vec<SubjectRule>,
    /// Whom its mail no longer goes to; `None`: as the tenant has it for all its mail.
    pub suppression: Option<Suppression>,
    /// How long its mail is of use; `None`: as long as the queue keeps it.
    pub life: Option<Duration>,
    /// Whether a newer mail to the same recipient, once delivered, ends the older ones.
    pub supersede: bool,
    /// Whether recipients that stand in no To or Cc are dropped.
    pub drop_bcc: bool,
    /// Whether its mail bears a link by which a reader unsubscribes with one click.
    pub one_click: bool,
}

/// Which entries of a tenant's suppression list count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suppression {
    /// All.
    All,
    /// All but complaints: somebody who called an advertisement spam still wants to reset a password.
    NoComplaints,
    /// None.
    #[default]
    Off,
}

/// What logs, listings and notifications do not show of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hide {
    /// The subject.
    Subject,
    /// Of links what follows the host.
    Link,
}

/// What must protect a class's mail on the way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassTls {
    /// TLS where it is offered, as ever.
    #[default]
    Opportunistic,
    /// Never clear text.
    Required,
    /// TLS with a server that proves its name.
    Verified,
}

impl Default for Classes {
    /// Those that are built in.
    fn default() -> Self {
        Self { all: built_in::classes().into(), default: None }
    }
}

impl Classes {
    /// These classes, the more urgent of one lane first, and no default.
    #[must_use]
    pub fn new(all: Vec<Class>) -> Self {
        Self { all: all.into(), default: None }
    }

    /// The class of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Class> {
        self.all.iter().find(|class| *class.name == *name)
    }

    /// Every class, in the order in which they are configured.
    pub fn iter(&self) -> impl Iterator<Item = &Class> {
        self.all.iter()
    }

    /// The class of mail that nothing tells the class of.
    #[must_use]
    pub fn default_class(&self) -> Option<&Class> {
        self.find(self.default.as_deref()?)
    }

    /// The same classes with this default, which must be one of them.
    #[must_use]
    pub fn with_default(self, default: Option<&str>) -> Self {
        Self { default: default.map(Into::into), ..self }
    }

    /// The more urgent of two: by lane, and within a lane the one that stands first.
    #[must_use]
    pub fn most_urgent<'a>(&'a self, names: impl Iterator<Item = &'a str>) -> Option<&'a Class> {
        // Sorting is stable in what `min_by_key` returns: the first of equals.
        let mut named: Vec<(usize, &Class)> = names
            .filter_map(|name| self.all.iter().enumerate().find(|(_, class)| *class.name == *name))
            .collect();
        named.sort_by_key(|(at, class)| (class.lane, *at));
        named.first().map(|(_, class)| *class)
    }

    /// The names, for messages.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.all.iter().map(|class| &*class.name).collect()
    }

    /// What is wrong with a name that must be a class's; `None` if it is one.
    pub(crate) fn unknown(&self, name: &str) -> Option<String> {
        if self.find(name).is_some() {
            return None;
        }
        let known = self.names();
        Some(match super::error::nearest(name, &known) {
            Some(near) => format!("unknown class `{name}`; did you mean `{near}`?"),
            None => format!("unknown class `{name}`; known here: {}", known.join(", ")),
        })
    }
}
