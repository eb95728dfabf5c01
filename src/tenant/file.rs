//! A tenant's file as it is written.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::oauth;
use super::preset::Preset;
use super::{BareNewlines, OnFail, SignWith, UpstreamTls};
use crate::config::class::{Suppression, Written};
use crate::config::value::{Count, Port, Size, Span};
use crate::mail::address::{Address, Domain};
use crate::mail::priority::Priority;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) disabled: bool,
    #[serde(default)]
    pub(super) networks: Vec<Spanned<IpNet>>,
    #[serde(default)]
    pub(super) networks_shared: bool,
    #[serde(default)]
    pub(super) notify: Vec<Address>,
    #[serde(default)]
    pub(super) bare_newlines: BareNewlines,
    pub(super) default_class: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) login: Vec<Login>,
    #[serde(default)]
    pub(super) domain: Vec<OwnedDomain>,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) route: Route,
    #[serde(default)]
    pub(super) class: Vec<Written>,
    #[serde(default)]
    pub(super) suppression: SuppressionRules,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SuppressionRules {
    pub(super) apply: Suppression,
    pub(super) bounces: bool,
    pub(super) complaints: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    pub(super) username: Spanned<String>,
    pub(super) password: Spanned<String>,
    pub(super) class: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnedDomain {
    pub(super) name: Spanned<Domain>,
    #[serde(default)]
    pub(super) on_fail: OnFail,
    pub(super) return_path: Option<Spanned<Domain>>,
    #[serde(default)]
    pub(super) subdomains: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) messages_per_hour: Option<Count>,
    pub(super) messages_per_day: Option<Count>,
    pub(super) message_size: Option<Size>,
    pub(super) recipients: Option<Count>,
    pub(super) priority: Option<Priority>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) via: Option<Spanned<Via>>,
    pub(super) upstream: Option<Spanned<Upstream>>,
    pub(super) fallback: Option<Fallback>,
    #[serde(default)]
    pub(super) class_fallback: Vec<ClassFallback>,
    pub(super) signatures: Option<Spanned<SignWith>>,
    pub(super) unsigned_headers: Option<Vec<Spanned<String>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fallback {
    pub(super) via: Spanned<Via>,
    pub(super) upstream: Option<Spanned<Upstream>>,
    pub(super) attempts: Option<Spanned<u32>>,
    pub(super) after: Option<Span>,
}

/// The same, for mail of these classes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClassFallback {
    pub(super) classes: Vec<Spanned<String>>,
    pub(super) via: Spanned<Via>,
    pub(super) upstream: Option<Spanned<Upstream>>,
    pub(super) attempts: Option<Spanned<u32>>,
    pub(super) after: Option<Span>,
}

impl Route {
    /// Every second way, that for all mail last.
    pub(super) fn seconds(&self) -> impl Iterator<Item = Second<'_>> {
        let of_classes = self.class_fallback.iter().map(|written| {
            let ClassFallback { classes, via, upstream, attempts, after } = written;
            Second { classes: Some(classes), via, upstream, attempts, after }
        });
        let of_all = self.fallback.iter().map(|written| {
            let Fallback { via, upstream, attempts, after } = written;
            Second { classes: None, via, upstream, attempts, after }
        });
        of_classes.chain(of_all)
    }
}

/// A second way as it is written, for all mail or for some.
#[derive(Clone, Copy, Debug)]
pub(super) struct Second<'a> {
    pub(super) classes: Option<&'a Vec<Spanned<String>>>,
    pub(super) via: &'a Spanned<Via>,
    pub(super) upstream: &'a Option<Spanned<Upstream>>,
    pub(super) attempts: &'a Option<Spanned<u32>>,
    pub(super) after: &'a Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Via {
    Mx,
    Upstream,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    pub(super) preset: Option<Spanned<Preset>>,
    pub(super) region: Option<Spanned<String>>,
    pub(super) host: Option<Spanned<String>>,
    pub(super) port: Option<Spanned<Port>>,
    pub(super) tls: Option<Spanned<UpstreamTls>>,
    pub(super) username: Option<Spanned<String>>,
    pub(super) password_file: Option<Spanned<PathBuf>>,
    pub(super) oauth: Option<Spanned<oauth::Written>>,
    #[serde(default)]
    pub(super) cleartext_auth: bool,
    pub(super) ca_file: Option<Spanned<PathBuf>>,
}
