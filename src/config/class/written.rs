//! `[[class]]` as it is written, in waxseal.toml and in a tenant's file, and how it is laid over what there is.

use serde::Deserialize;
use std::str::FromStr;
use toml::Spanned;

use super::{CLASSES_MAX, Class, ClassTls, Classes, Hide, NAME_MAX, Suppression};
use crate::config::ConfigError;
use crate::config::value::Wait;
use crate::mail::message::Lane;
use crate::mail::priority::Priority;

/// Rules of one kind, and waits, that a class may have.
const LIST_MAX: usize = 100;

/// A `[[class]]`. What it does not say stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    pub(crate) name: Spanned<String>,
    lane: Option<Lane>,
    priority: Option<Priority>,
    retry: Option<Spanned<Vec<Wait>>>,
    hide: Option<Vec<Hide>>,
    tls: Option<ClassTls>,
    from: Option<Spanned<Vec<Spanned<String>>>>,
    link: Option<Spanned<Vec<Spanned<String>>>>,
    subject: Option<Spanned<Vec<Spanned<String>>>>,
    suppression: Option<Suppression>,
    life: Option<Wait>,
    supersede: Option<bool>,
    drop_bcc: Option<bool>,
    unsubscribe: Option<Spanned<Unsubscribe>>,
}

/// How a reader leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Unsubscribe {
    /// RFC 8058.
    OneClick,
    Off,
}

/// Classes whose readers wait for each mail: nobody unsubscribes from a password reset.
const NEVER: [&str; 5] = ["password_reset", "verification", "w9", "payout_reminder", "reward"];

/// Makes an error of an offset in the file and what is wrong there.
type Wrong<'a> = &'a dyn Fn(usize, String) -> ConfigError;

impl Classes {
    /// These classes with what is written laid over them. Only waxseal.toml may add one (`may_add`): a tenant's new name would as
    /// likely be a mistyped one. Links to unsubscribe by need a place that they lead to (`may_unsubscribe`).
    pub(crate) fn overlaid(
        &self,
        written: &[Written],
        (may_add, may_unsubscribe): (bool, bool),
        wrong: Wrong<'_>,
    ) -> Result<Self, ConfigError> {
        if written.is_empty() {
            return Ok(self.clone());
        }
        let mut all = self.all.to_vec();
        for (at, one) in written.iter().enumerate() {
            let (name, place) = (one.name.get_ref().as_str(), one.name.span().start);
            if written.iter().take(at).any(|other| other.name.get_ref() == name) {
                return Err(wrong(place, format!("class `{name}` is written twice")));
            }
            let known = all.iter().position(|class| *class.name == *name);
            let class = match known.and_then(|at| all.get_mut(at)) {
                Some(class) => class,
                None if may_add => added(&mut all, name).map_err(|what| wrong(place, what))?,
                None => return Err(wrong(place, self.unknown(name).unwrap_or_default())),
            };
            one.lay_over(class, wrong)?;
            one.one_click(class, may_unsubscribe, wrong)?;
        }
        Ok(Self { all: all.into(), default: self.default.clone() })
    }
}

/// A class that nobody knew, with nothing said of it yet.
fn added<'a>(all: &'a mut Vec<Class>, name: &str) -> Result<&'a mut Class, String> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    let first = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !first || name.len() > NAME_MAX || !name.chars().all(sound) {
        return Err(format!(
            "a class's name is 1 to {NAME_MAX} of a-z, 0-9, - and _, and begins with a letter"
        ));
    }
    if all.len() >= CLASSES_MAX {
        return Err(format!("there are at most {CLASSES_MAX} classes, those built in included"));
    }
    let class = Class {
        name: name.into(),
        lane: Lane::default(),
        priority: Priority::default(),
        retry: Vec::new(),
        hide: Vec::new(),
        tls: ClassTls::default(),
        from: Vec::new(),
        link: Vec::new(),
        subject: Vec::new(),
        suppression: None,
        life: None,
        supersede: false,
        drop_bcc: false,
        one_click: false,
    };
    Ok(all.push_mut(class))
}

impl Written {
    fn one_click(&self, class: &mut Class, possible: bool, wrong: Wrong<'_>) -> Result<(), ConfigError> {
        let Some(written) = &self.unsubscribe else { return Ok(()) };
        class.one_click = *written.get_ref() == Unsubscribe::OneClick;
        let place = written.span().start;
        match class.one_click {
            true if NEVER.contains(&&*class.name) => {
                let what = "nobody unsubscribes from mail of class";
                Err(wrong(
                    place,
                    format!("{what} `{}`: its readers wait for it, each for their own", class.name),
                ))
            }
            true if !possible => Err(wrong(
                place,
                "\"one_click\" needs a place that links lead to: [unsubscribe] in waxseal.toml".to_owned(),
            )),
            true | false => Ok(()),
        }
    }

    fn lay_over(&self, class: &mut Class, wrong: Wrong<'_>) -> Result<(), ConfigError> {
        if let Some(lane) = self.lane {
            class.lane = lane;
        }
        class.priority = self.priority.unwrap_or(class.priority);
        if let Some(retry) = &self.retry {
            class.retry = bounded(retry, wrong)?.iter().map(|wait| wait.0).collect();
        }
        if let Some(hide) = &self.hide {
            class.hide.clone_from(hide);
        }
        class.suppression = self.suppression.or(class.suppression);
        class.life = self.life.map(|life| life.0).or(class.life);
        class.supersede = self.supersede.unwrap_or(class.supersede);
        class.drop_bcc = self.drop_bcc.unwrap_or(class.drop_bcc);
        class.tls = self.tls.unwrap_or(class.tls);
        rules(self.from.as_ref(), &mut class.from, wrong)?;
        rules(self.link.as_ref(), &mut class.link, wrong)?;
        rules(self.subject.as_ref(), &mut class.subject, wrong)
    }
}

fn bounded<'a, T>(list: &'a Spanned<Vec<T>>, wrong: Wrong<'_>) -> Result<&'a [T], ConfigError> {
    if list.get_ref().len() > LIST_MAX {
        return Err(wrong(list.span().start, format!("at most {LIST_MAX} may be listed here")));
    }
    Ok(list.get_ref())
}

/// A list of rules replaces the one there is.
fn rules<T: FromStr<Err: std::fmt::Display>>(
    written: Option<&Spanned<Vec<Spanned<String>>>>,
    into: &mut Vec<T>,
    wrong: Wrong<'_>,
) -> Result<(), ConfigError> {
    let Some(written) = written else { return Ok(()) };
    let parse = |rule: &Spanned<String>| {
        rule.get_ref().parse().map_err(|error| wrong(rule.span().start, format!("{error}")))
    };
    *into = bounded(written, wrong)?.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(())
}
