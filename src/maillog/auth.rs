//! The `auth` field: what was signed, and what receivers will find.

use serde::Serialize;

use super::events::{Arrival, Seal};

/// What receivers will find.
#[derive(Debug, Default, Serialize)]
pub(super) struct Auth<'a> {
    #[serde(skip_serializing_if = "<[Seal]>::is_empty")]
    dkim: &'a [Seal],
    #[serde(skip_serializing_if = "Option::is_none")]
    unsigned: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spf: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dmarc: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aligned_by: Option<&'static str>,
}

impl<'a> Auth<'a> {
    /// These signatures, and nothing else.
    pub(super) fn of(dkim: &'a [Seal]) -> Self {
        Self { dkim, ..Self::default() }
    }

    pub(super) fn new(arrival: &Arrival<'a>) -> Self {
        let expected = arrival.expected;
        Self {
            dkim: arrival.seals,
            unsigned: arrival.unsigned,
            spf: expected.map(|expected| expected.spf),
            dmarc: expected.map(|expected| expected.dmarc),
            aligned_by: expected.and_then(|expected| expected.aligned_by),
        }
    }
}
