//! How a tenant's mail is signed. It is sealed once, when it is accepted, and may leave by any of its tenant's ways: what is signed
//! must hold by all of them. So a field that one of them writes anew is left out for all, an Ed25519 signature is put on only if
//! all take it, and mail is left unsigned only if whoever takes it signs on each way.

use super::file::{Upstream, Via};
use super::load::Draft;
use super::preset::Preset;
use super::{SignWith, Signing};
use crate::config::ConfigError;

/// What is known of a way.
struct Way {
    upstream: bool,
    preset: Option<Preset>,
}

/// As it is written, or as the presets have it.
pub(super) fn read(draft: &Draft, upstream: bool) -> Result<Signing, ConfigError> {
    let route = &draft.file.route;
    let ways = ways(draft, upstream);
    let keys = route.signatures.as_ref().map_or_else(|| together(&ways), |keys| *keys.get_ref());
    if let Some(place) = &route.signatures
        && keys == SignWith::None
        && !ways.iter().all(|way| way.upstream)
    {
        let what = if upstream {
            "\"none\" leaves signing to the upstream, and mail that leaves by the fallback would bear no signature"
        } else {
            "\"none\" leaves signing to an upstream: it needs via = \"upstream\""
        };
        return Err(draft.wrong(place, what));
    }
    for place in route.unsigned_headers.iter().flatten() {
        let name = place.get_ref();
        // RFC 5322 section 3.6.8.
        if name.is_empty() || name.bytes().any(|octet| !(33..=126).contains(&octet) || octet == b':') {
            return Err(draft.wrong(place, format!("`{name}` is no header field's name")));
        }
        if name.eq_ignore_ascii_case("From") {
            let what = "From must be signed (RFC 6376 section 5.4): without it a signature says nothing of the author";
            return Err(draft.wrong(place, what));
        }
    }
    let omit = match &route.unsigned_headers {
        Some(written) => written.iter().map(|name| name.get_ref().clone()).collect(),
        None => rewritten(&ways),
    };
    Ok(Signing { keys, omit })
}

fn ways(draft: &Draft, upstream: bool) -> Vec<Way> {
    let preset = |upstream: &Upstream| upstream.preset.as_ref().map(|preset| *preset.get_ref());
    let first = draft.file.route.upstream.as_ref().filter(|_| upstream);
    let mut ways = vec![Way { upstream, preset: first.and_then(|written| preset(written.get_ref())) }];
    ways.extend(draft.file.route.seconds().map(|written| Way {
        upstream: *written.via.get_ref() == Via::Upstream,
        preset: written.upstream.as_ref().and_then(|upstream| preset(upstream.get_ref())),
    }));
    ways
}

/// A signature that an upstream breaks harms nothing beside its own; one that is missing does.
fn together(ways: &[Way]) -> SignWith {
    let keys = || ways.iter().map(|way| way.preset.map_or(SignWith::default(), Preset::keys));
    if keys().all(|keys| keys == SignWith::None) {
        SignWith::None
    } else if keys().any(|keys| keys == SignWith::Rsa) {
        SignWith::Rsa
    } else {
        SignWith::Both
    }
}

fn rewritten(ways: &[Way]) -> Vec<String> {
    let mut omit: Vec<String> = Vec::new();
    for name in ways.iter().filter_map(|way| way.preset).flat_map(Preset::omit) {
        if !omit.iter().any(|known| known == name) {
            omit.push((*name).to_owned());
        }
    }
    omit
}
