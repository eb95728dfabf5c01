//! A reply in the log: given by us or heard from another server.

use std::borrow::Cow;
use std::fmt::Display;

use serde::{Serialize, Serializer};

use crate::mail::reply::{PeerReply, Reply};

/// A reply, given or heard.
#[derive(Debug, Serialize)]
pub(super) struct Answered<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shown")]
    enhanced: Option<crate::mail::reply::Enhanced>,
    text: Cow<'a, str>,
}

impl<'a> From<&'a Reply> for Answered<'a> {
    fn from(reply: &'a Reply) -> Self {
        let text = match reply.lines.as_slice() {
            [only] => Cow::Borrowed(only.as_str()),
            lines => Cow::Owned(lines.join(" ")),
        };
        Self { code: Some(reply.code), enhanced: reply.enhanced, text }
    }
}

impl<'a> From<&'a PeerReply> for Answered<'a> {
    fn from(reply: &'a PeerReply) -> Self {
        let code = Some(reply.code).filter(|code| *code != 0);
        Self { code, enhanced: reply.enhanced, text: reply.escaped().into() }
    }
}

#[allow(clippy::ref_option, reason = "serde passes a reference to the field")]
fn shown<S: Serializer, T: Display>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}
