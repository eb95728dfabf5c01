//! Access tokens for upstreams (RFC 6749): asked for over HTTPS, kept in memory until shortly before they expire, and asked for by
//! one at a time. A refusal that lasts counts as a refused login (`accounts`): mail is held, and the tenant is told.

mod rotated;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use tokio::time::{Instant, timeout};

use self::rotated::Rotated;
use super::https::{Asked, Https};
use super::outcome::{Permanence, Scope, Trouble};
use super::pool::UpstreamKey;
use super::protect::Trust;
use crate::mail::reply::{Enhanced, PeerReply};
use crate::mail::secret::{ExposeSecret, SecretString};
use crate::mail::time::Time;
use crate::metrics::ResultLabel;
use crate::tenant::Directory;
use crate::tenant::oauth::{Grant, OAuth};

/// Longest wait for a token.
const WHOLE: Duration = Duration::from_secs(30);
/// Octets of an answer that are read; a token has some thousands.
const ANSWER_MAX: usize = 64 * 1024;
/// Before a token expires by so much, another is asked for.
const MARGIN: Duration = Duration::from_secs(120);
/// How long a token is used where nothing says it; providers give an hour.
const USUAL: Duration = Duration::from_secs(3000);
/// A token is not believed to last longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The tokens kept.
#[derive(Debug)]
pub(super) struct Tokens {
    access: Mutex<HashMap<UpstreamKey, Token>>,
    refresh: Rotated,
}

#[derive(Debug)]
struct Token {
    secret: SecretString,
    until: Instant,
    /// A refresh token in the place of the one that was shown.
    refresh: Option<SecretString>,
}

/// RFC 6749 section 5.1.
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    refresh_token: Option<String>,
}

/// RFC 6749 section 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Tokens {
    /// None yet. Refresh tokens that were replaced are kept below this state directory.
    #[must_use]
    pub(super) fn new(state: &Path) -> Self {
        Self { access: Mutex::default(), refresh: Rotated::new(state) }
    }

    /// A token that is good for a while yet. Who asks has the account's turn (`accounts`), so nobody else is asking for it.
    ///
    /// # Errors
    /// Permanent: the endpoint will not have it, and a person must do something.
    pub(super) async fn bearer(
        &self,
        https: Https<'_>,
        key: &UpstreamKey,
        (oauth, trust): (&OAuth, &Trust),
    ) -> Result<SecretString, Trouble> {
        if let Some(secret) = self.kept(key) {
            return Ok(secret);
        }
        let asked = self.ask(https, oauth, trust).await;
        let result = match &asked {
            Ok(_) => "ok",
            Err(trouble) if trouble.permanence == Permanence::Permanent => "refused",
            Err(_) => "failed",
        };
        https.metrics.tokens.get_or_create(&ResultLabel { result }).inc();
        let token = asked?;
        let secret = token.secret.clone();
        self.access.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), token);
        Ok(secret)
    }

    /// The upstream does not take the token: the next one is a new one.
    pub(super) fn forget(&self, key: &UpstreamKey) {
        self.access.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// These are the tenants: what was kept for others is removed, once it has been nobody's for long.
    pub(super) async fn tidy(&self, tenants: &Directory, now: Time) {
        self.refresh.tidy(tenants, now).await;
    }

    /// A person has done something.
    pub(super) fn forget_all(&self) {
        self.access.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// One that was given before and is still good.
    pub(super) fn kept(&self, key: &UpstreamKey) -> Option<SecretString> {
        let kept = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|token| Instant::now() < token.until).map(|token| token.secret.clone())
    }

    /// Asks for one; a refresh token that comes with it is kept before the access token is used.
    async fn ask(&self, https: Https<'_>, oauth: &OAuth, trust: &Trust) -> Result<Token, Trouble> {
        let now = Instant::now();
        let Grant::RefreshToken(given) = &oauth.grant else {
            return post(https, oauth, (None, trust), now).await;
        };
        let shown = self.refresh.current(given).await.map_err(|error| unread(&error))?;
        let mut token = post(https, oauth, (Some(&shown), trust), now).await?;
        let other = |token: &SecretString| token.expose_secret() != shown.expose_secret();
        if let Some(refresh) = token.refresh.take().filter(other) {
            self.refresh.keep(given, refresh).await;
        }
        Ok(token)
    }
}

/// The request.
async fn post(
    https: Https<'_>,
    oauth: &OAuth,
    (refresh, trust): (Option<&SecretString>, &Trust),
    now: Instant,
) -> Result<Token, Trouble> {
    let (host, port, path) = &oauth.endpoint;
    let body = Bytes::from(form(oauth, refresh));
    let asked = Asked {
        method: Method::POST,
        host,
        port: *port,
        path,
        accept: "application/json",
        body: Some(("application/x-www-form-urlencoded", body)),
        most: ANSWER_MAX,
        trust,
    };
    let answered = match timeout(WHOLE, Box::pin(https.ask(asked))).await {
        Ok(answered) => answered.map_err(|why| why.to_string()),
        Err(_) => Err(format!("no answer within {} s", WHOLE.as_secs())),
    };
    let answered = answered.map_err(|why| unheard(oauth, &why))?;
    read(answered.status, &answered.body, now).map_err(|fault| fault.trouble(oauth))
}

/// RFC 6749 sections 4.4.2 and 6; the client's secret goes with the form (section 2.3.1), as Google and Microsoft document it.
fn form(oauth: &OAuth, refresh: Option<&SecretString>) -> String {
    let mut fields = vec![("client_id", oauth.client_id.as_str())];
    match refresh {
        Some(token) => {
            fields.push(("grant_type", "refresh_token"));
            fields.push(("refresh_token", token.expose_secret()));
        }
        None => fields.push(("grant_type", "client_credentials")),
    }
    fields.extend(oauth.client_secret.as_ref().map(|secret| ("client_secret", secret.expose_secret())));
    fields.extend(oauth.scope.as_deref().map(|scope| ("scope", scope)));
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", percent(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Everything but what no form needs to escape.
fn percent(value: &str) -> String {
    value.bytes().fold(String::with_capacity(value.len()), |mut text, octet| {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            text.push(char::from(octet));
        } else {
            text.push_str(&format!("%{octet:02X}"));
        }
        text
    })
}

/// Why there is no token.
enum Fault {
    /// RFC 6749 section 5.2: the endpoint's words.
    Refused(String),
    /// Anything else.
    Odd(String),
}

impl Fault {
    fn trouble(self, oauth: &OAuth) -> Trouble {
        let host = &oauth.endpoint.0;
        match self {
            Self::Refused(why) => {
                let text =
                    format!("{host} gives no access token: {why}; renew the grant in the tenant's route");
                Trouble::permanent(Scope::Session, Enhanced(4, 7, 8), text)
            }
            Self::Odd(why) => unheard(oauth, &why),
        }
    }
}

fn unheard(oauth: &OAuth, why: &str) -> Trouble {
    let text = format!("no access token from {}: {why}", oauth.endpoint.0);
    Trouble {
        scope: Scope::Session,
        permanence: Permanence::Transient,
        reply: PeerReply::local(Enhanced(4, 4, 1), text),
    }
}

/// The refresh token that took the place of the tenant's cannot be read.
fn unread(error: &std::io::Error) -> Trouble {
    let text = format!(
        "the refresh token that replaced the one in the tenant's file cannot be read ({error}), and the old one must not be shown \
         again; only the relay's own user, and root, may read it"
    );
    tracing::error!("{text}");
    Trouble::transient(Scope::Session, Enhanced(4, 3, 0), text)
}

/// An answer of the endpoint.
fn read(status: u16, body: &[u8], now: Instant) -> Result<Token, Fault> {
    if status == 200 {
        let granted: Granted = serde_json::from_slice(body)
            .map_err(|_| Fault::Odd("its answer is no grant (RFC 6749 section 5.1)".to_owned()))?;
        let sound = |c: char| c.is_ascii_graphic();
        let token = &granted.access_token;
        if token.is_empty() || !token.chars().all(sound) || !granted.token_type.eq_ignore_ascii_case("bearer")
        {
            return Err(Fault::Odd("its answer is no bearer token".to_owned()));
        }
        let lasts = granted.expires_in.map_or(USUAL, Duration::from_secs).min(LONGEST);
        let until = now + lasts.saturating_sub(MARGIN);
        let refresh = granted.refresh_token.filter(|token| rotated::is_sound(token)).map(SecretString::from);
        return Ok(Token { until, secret: granted.access_token.into(), refresh });
    }
    match serde_json::from_slice::<Refused>(body) {
        // Section 5.2: what a person must mend. Anything else may pass, and so may these of section 4.1.2.1, which some answer with
        // 400.
        Ok(refused)
            if matches!(status, 400 | 401)
                && !matches!(&*refused.error, "temporarily_unavailable" | "server_error") =>
        {
            let error: String = refused.error.chars().take(100).collect();
            let text: String = refused.error_description.chars().take(300).collect();
            Err(Fault::Refused(format!("{error} {text}").trim_end().to_owned()))
        }
        Ok(refused) => Err(Fault::Odd(format!("status {status}, {}", refused.error))),
        Err(_) => Err(Fault::Odd(format!("status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers() {
        let rows = [
            (
                200,
                r#"{"access_token":"ya29.a","token_type":"Bearer","expires_in":3600}"#,
                Some(true),
                "Google's",
            ),
            (
                200,
                r#"{"access_token":"a","token_type":"bearer"}"#,
                Some(true),
                "expires_in is only recommended",
            ),
            (
                200,
                r#"{"access_token":"a b","token_type":"Bearer"}"#,
                None,
                "a token has no spaces: it goes into a SASL message",
            ),
            (200, r#"{"access_token":"a","token_type":"mac"}"#, None, "not a bearer token"),
            (200, "<html>", None, "a proxy's page"),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#,
                Some(false),
                "Google's",
            ),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000215"}"#,
                Some(false),
                "Microsoft's",
            ),
            (503, r#"{"error":"temporarily_unavailable"}"#, None, "passes"),
            (400, r#"{"error":"temporarily_unavailable"}"#, None, "the same, whatever the status"),
            (429, "", None, "passes"),
            (302, "", None, "no redirect is followed"),
        ];
        for (status, body, expected, why) in rows {
            let found = match read(status, body.as_bytes(), Instant::now()) {
                Ok(_) => Some(true),
                Err(Fault::Refused(_)) => Some(false),
                Err(Fault::Odd(_)) => None,
            };
            assert_eq!(found, expected, "{why}");
        }
    }

    #[test]
    fn a_form_is_escaped() {
        let oauth = OAuth {
            grant: Grant::RefreshToken("given".into()),
            endpoint: ("token.test".into(), 443, "/token".into()),
            client_id: "id".into(),
            client_secret: Some("s +%".into()),
            scope: Some("a b".into()),
        };
        let expected = "client_id=id&grant_type=refresh_token&refresh_token=1%2F%2F0a%26b%3Dc&client_secret=s%20%2B%25&scope=a%20b";
        assert_eq!(form(&oauth, Some(&"1//0a&b=c".into())), expected);
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(status, &body, Instant::now());
        }
    }
}
