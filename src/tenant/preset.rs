//! Upstreams that many use: their hosts, and what they do to mail that is handed to them. docs/routes.md says where each value comes
//! from; every one of them can be overridden in the tenant's file.

use serde::Deserialize;

use super::SignWith;

/// A provider known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Amazon Simple Email Service.
    Ses,
    /// Twilio SendGrid.
    Sendgrid,
    /// Mailgun.
    Mailgun,
    /// Postmark.
    Postmark,
    /// Gmail and Google Workspace.
    Gmail,
    /// Microsoft 365.
    Microsoft365,
}

/// What is known of one.
struct Known {
    /// With `{}` where the region stands.
    host: &'static str,
    region: Region,
    username: Option<&'static str>,
    /// What user name and password are there.
    login: &'static str,
    keys: SignWith,
    omit: &'static [&'static str],
}

/// Whether its host depends on a region.
enum Region {
    None,
    /// One must be named.
    Any,
    /// The first is where none is named; each with what stands for it in the host.
    OneOf(&'static [(&'static str, &'static str)]),
}

/// An Ed25519 signature beside ours gains nothing with those who sign themselves, and some refuse two.
const KNOWN: [(Preset, &str, Known); 6] = [
    (
        Preset::Ses,
        "ses",
        Known {
            host: "email-smtp.{}.amazonaws.com",
            region: Region::Any,
            username: None,
            login: "the SMTP credentials of the SES console, not the access key of the account",
            keys: SignWith::Rsa,
            // It writes both anew.
            omit: &["Date", "Message-ID"],
        },
    ),
    (
        Preset::Sendgrid,
        "sendgrid",
        Known {
            host: "smtp.sendgrid.net",
            region: Region::None,
            username: Some("apikey"),
            login: "the word `apikey`, and an API key that may send mail",
            keys: SignWith::Rsa,
            omit: &[],
        },
    ),
    (
        Preset::Mailgun,
        "mailgun",
        Known {
            host: "smtp{}.mailgun.org",
            region: Region::OneOf(&[("us", ""), ("eu", ".eu")]),
            username: None,
            login: "an SMTP credential of the sending domain, such as postmaster@mg.acme.example",
            keys: SignWith::Rsa,
            omit: &[],
        },
    ),
    (
        Preset::Postmark,
        "postmark",
        Known {
            host: "smtp.postmarkapp.com",
            region: Region::None,
            username: None,
            login: "the Server API Token, as user name and as password",
            keys: SignWith::Rsa,
            // Written anew, unless a header field of its own asks it not to.
            omit: &["Message-ID"],
        },
    ),
    (
        Preset::Gmail,
        "gmail",
        Known {
            host: "smtp.gmail.com",
            region: Region::None,
            username: None,
            login: "the whole address, and an app password (2-step verification must be on) or xoauth2",
            keys: SignWith::Rsa,
            omit: &["Message-ID"],
        },
    ),
    (
        Preset::Microsoft365,
        "microsoft365",
        Known {
            host: "smtp.office365.com",
            region: Region::None,
            username: None,
            login: "the mailbox's whole address, and xoauth2 or a password for which SMTP AUTH is enabled",
            // It writes header and body anew, so that a signature of ours would break; it signs with the domain's key itself.
            keys: SignWith::None,
            omit: &[],
        },
    ),
];

impl Preset {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        KNOWN.iter().find(|(preset, ..)| *preset == self).map_or("", |(_, name, _)| name)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        KNOWN.iter().find(|(_, known, _)| *known == name).map(|(preset, ..)| *preset)
    }

    /// The names there are.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|(_, name, _)| *name)
    }

    /// Its host in this region.
    ///
    /// # Errors
    /// What is wrong with the region, for a person.
    pub fn host(self, region: Option<&str>) -> Result<String, String> {
        let Some(known) = self.known() else { return Err("unknown preset".to_owned()) };
        let name = self.name();
        let part = match (&known.region, region) {
            (Region::None, None) => "",
            (Region::None, Some(_)) => return Err(format!("preset \"{name}\" has no regions")),
            (Region::Any, None) => {
                return Err(format!("preset \"{name}\" needs region, such as region = \"eu-west-1\""));
            }
            (Region::Any, Some(region)) if is_region(region) => region,
            (Region::Any, Some(region)) => return Err(format!("`{region}` is no region, such as eu-west-1")),
            (Region::OneOf(all), None) => all.first().map_or("", |(_, part)| part),
            (Region::OneOf(all), Some(region)) => {
                let found = all.iter().find(|(name, _)| *name == region);
                let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
                found
                    .map(|(_, part)| *part)
                    .ok_or_else(|| format!("preset \"{name}\" has the regions {}", names.join(" and ")))?
            }
        };
        Ok(known.host.replace("{}", part))
    }

    /// The user name, where everybody has the same.
    #[must_use]
    pub fn username(self) -> Option<&'static str> {
        self.known()?.username
    }

    /// What user name and password are there, for a person.
    #[must_use]
    pub fn login(self) -> &'static str {
        self.known().map_or("", |known| known.login)
    }

    /// With which of our keys mail to it is signed.
    #[must_use]
    pub fn keys(self) -> SignWith {
        self.known().map_or(SignWith::default(), |known| known.keys)
    }

    /// Header fields that it writes anew.
    #[must_use]
    pub fn omit(self) -> &'static [&'static str] {
        self.known().map_or(&[], |known| known.omit)
    }

    fn known(self) -> Option<&'static Known> {
        KNOWN.iter().find(|(preset, ..)| *preset == self).map(|(.., known)| known)
    }
}

/// It becomes a part of a host's name.
fn is_region(text: &str) -> bool {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 32 && text.chars().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let rows = [
            (
                Preset::Ses,
                Some("eu-west-1"),
                Ok("email-smtp.eu-west-1.amazonaws.com"),
                "docs.aws.amazon.com/ses: SMTP endpoints",
            ),
            (Preset::Ses, None, Err("needs region"), "there is no endpoint without one"),
            (Preset::Ses, Some("eu.evil"), Err("no region"), "no other domain by way of the region"),
            (Preset::Sendgrid, None, Ok("smtp.sendgrid.net"), "docs.sendgrid.com"),
            (Preset::Sendgrid, Some("eu"), Err("no regions"), "a word without effect is an error"),
            (Preset::Mailgun, None, Ok("smtp.mailgun.org"), "documentation.mailgun.com"),
            (Preset::Mailgun, Some("eu"), Ok("smtp.eu.mailgun.org"), "the same"),
            (Preset::Mailgun, Some("mars"), Err("us and eu"), "named, so that a person sees which there are"),
            (Preset::Postmark, None, Ok("smtp.postmarkapp.com"), "postmarkapp.com/developer"),
            (Preset::Gmail, None, Ok("smtp.gmail.com"), "support.google.com/a/answer/176600"),
            (
                Preset::Microsoft365,
                None,
                Ok("smtp.office365.com"),
                "learn.microsoft.com: client SMTP submission",
            ),
        ];
        for (preset, region, expected, why) in rows {
            match (preset.host(region), expected) {
                (Ok(host), Ok(expected)) => assert_eq!(host, expected, "{why}"),
                (Err(what), Err(part)) => assert!(what.contains(part), "{why}: {what}"),
                (found, _) => panic!("{preset:?} {region:?}: {found:?}; {why}"),
            }
        }
    }

    #[test]
    fn every_name_is_the_one_in_a_file() {
        for name in Preset::names() {
            let preset = Preset::named(name).unwrap();
            let read: Preset = serde_json::from_value(name.into()).unwrap();
            assert_eq!((preset, preset.name()), (read, name));
            assert!(!preset.login().is_empty());
            let page =
                std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/routes.md")).unwrap();
            assert!(page.contains(&format!("| `{name}` |")), "docs/routes.md has a line on {name}");
        }
    }
}
