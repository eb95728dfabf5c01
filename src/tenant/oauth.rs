//! Where an upstream's access tokens come from (RFC 6749), for providers that take no passwords any more: what a tenant's file says
//! of it, checked.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::load::Draft;
use super::preset::Preset;
use super::upstream::{reachable, secret};
use crate::config::{Config, ConfigError};
use crate::mail::secret::SecretString;

/// HTTPS.
const HTTPS: u16 = 443;

/// How tokens are asked for.
#[derive(Debug)]
pub struct OAuth {
    /// What is shown for them.
    pub grant: Grant,
    /// Who gives them: a host, its port and the path.
    pub endpoint: (String, u16, String),
    /// Who asks.
    pub client_id: String,
    /// With which secret; public clients have none.
    pub client_secret: Option<SecretString>,
    /// What for.
    pub scope: Option<String>,
}

/// What is shown for a token.
#[derive(Debug)]
pub enum Grant {
    /// A refresh token that a person once agreed to (RFC 6749 section 6).
    RefreshToken(SecretString),
    /// The client's own secret (RFC 6749 section 4.4).
    ClientCredentials,
}

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    grant: Spanned<Kind>,
    token_url: Option<Spanned<String>>,
    directory: Option<Spanned<String>>,
    client_id: Spanned<String>,
    client_secret_file: Option<Spanned<PathBuf>>,
    refresh_token_file: Option<Spanned<PathBuf>>,
    scope: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    RefreshToken,
    ClientCredentials,
}

/// Checks it, and reads its secrets.
pub(super) fn read(
    config: &Config,
    draft: &Draft,
    (whole, preset): (&Spanned<Written>, Option<Preset>),
) -> Result<OAuth, ConfigError> {
    let written = whole.get_ref();
    let file = |place: &Spanned<PathBuf>| {
        secret(&draft.path, place.get_ref()).map_err(|what| draft.wrong(place, what))
    };
    let client_secret = written.client_secret_file.as_ref().map(file).transpose()?;
    let grant = match (*written.grant.get_ref(), &written.refresh_token_file) {
        (Kind::RefreshToken, Some(place)) => Grant::RefreshToken(file(place)?),
        (Kind::RefreshToken, None) => {
            return Err(draft.wrong(&written.grant, "grant = \"refresh_token\" needs refresh_token_file"));
        }
        (Kind::ClientCredentials, Some(place)) => {
            let what = "refresh_token_file is not used: it belongs to grant = \"refresh_token\"";
            return Err(draft.wrong(place, what));
        }
        (Kind::ClientCredentials, None) if client_secret.is_none() => {
            return Err(
                draft.wrong(&written.grant, "grant = \"client_credentials\" needs client_secret_file")
            );
        }
        (Kind::ClientCredentials, None) => Grant::ClientCredentials,
    };
    let endpoint = endpoint(config, draft, (whole, preset))?;
    let usual = preset.and_then(|preset| usual_scope(preset, *written.grant.get_ref()));
    let scope = written.scope.as_ref().map(|scope| scope.get_ref().clone());
    Ok(OAuth {
        grant,
        endpoint,
        client_id: written.client_id.get_ref().clone(),
        client_secret,
        scope: scope.or_else(|| usual.map(str::to_owned)),
    })
}

/// learn.microsoft.com: "Authenticate an IMAP, POP or SMTP connection using OAuth". Google's refresh tokens carry their scope.
fn usual_scope(preset: Preset, kind: Kind) -> Option<&'static str> {
    match (preset, kind) {
        (Preset::Microsoft365, Kind::ClientCredentials) => Some("https://outlook.office365.com/.default"),
        (Preset::Microsoft365, Kind::RefreshToken) => {
            Some("https://outlook.office.com/SMTP.Send offline_access")
        }
        (Preset::Ses | Preset::Sendgrid | Preset::Mailgun | Preset::Postmark | Preset::Gmail, _) => None,
    }
}

fn endpoint(
    config: &Config,
    draft: &Draft,
    (whole, preset): (&Spanned<Written>, Option<Preset>),
) -> Result<(String, u16, String), ConfigError> {
    let Written { token_url, directory, .. } = whole.get_ref();
    match (token_url, directory, preset) {
        (Some(_), Some(place), _) => {
            Err(draft.wrong(place, "directory chooses a token_url: set one of them"))
        }
        (Some(place), None, _) => {
            let url = place.get_ref();
            let found = split(url).ok_or_else(|| format!("`{url}` is no https:// address"));
            let checked = found.and_then(|(host, port, path)| {
                reachable(config, &host, port)?;
                Ok((host, port, path))
            });
            checked.map_err(|what| draft.wrong(place, what))
        }
        (None, Some(place), Some(Preset::Microsoft365)) => {
            let name = place.get_ref();
            let sound = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
            if name.is_empty() || !name.chars().all(sound) {
                let what =
                    "directory is the id or a domain of the Entra directory, such as contoso.onmicrosoft.com";
                return Err(draft.wrong(place, what));
            }
            Ok(("login.microsoftonline.com".to_owned(), HTTPS, format!("/{name}/oauth2/v2.0/token")))
        }
        (None, Some(place), _) => Err(draft.wrong(place, "directory belongs to preset = \"microsoft365\"")),
        (None, None, Some(Preset::Gmail)) => {
            Ok(("oauth2.googleapis.com".to_owned(), HTTPS, "/token".to_owned()))
        }
        (None, None, Some(Preset::Microsoft365)) => Err(draft
            .wrong(whole, "preset \"microsoft365\" needs directory, such as \"contoso.onmicrosoft.com\"")),
        (None, None, _) => Err(draft.wrong(whole, "[route.upstream.oauth] needs token_url")),
    }
}

/// Host, port and path of an `https://` address; a password in it, or a fragment, is a mistake.
fn split(url: &str) -> Option<(String, u16, String)> {
    let uri: hyper::Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    let plain = uri.scheme_str() == Some("https") && !authority.as_str().contains('@') && !url.contains('#');
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    plain.then(|| (authority.host().to_owned(), authority.port_u16().unwrap_or(HTTPS), path.to_owned()))
}
