//! Who answered: by the exchanger's name, which cannot be mistaken, else by what the words give away (a filter in front, an
//! upstream that passes on what it heard).

use super::{Row, apple, google, microsoft, upstream, yahoo};

/// Those with a table of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    /// Gmail and Google Workspace.
    Google,
    /// Outlook.com and Microsoft 365.
    Microsoft,
    /// Yahoo, AOL and those that Yahoo hosts.
    Yahoo,
    /// iCloud.
    Apple,
    /// SES, SendGrid, Mailgun, Postmark: servers that mail is submitted to.
    Upstream,
}

/// Domains that exchangers and upstreams stand in.
const HOSTS: &[(&str, Provider)] = &[
    ("google.com", Provider::Google),
    ("googlemail.com", Provider::Google),
    ("gmail.com", Provider::Google),
    ("outlook.com", Provider::Microsoft),
    ("mx.microsoft", Provider::Microsoft),
    ("office365.com", Provider::Microsoft),
    ("hotmail.com", Provider::Microsoft),
    ("yahoodns.net", Provider::Yahoo),
    ("yahoo.com", Provider::Yahoo),
    ("aol.com", Provider::Yahoo),
    ("icloud.com", Provider::Apple),
    ("me.com", Provider::Apple),
    ("apple.com", Provider::Apple),
    ("amazonaws.com", Provider::Upstream),
    ("sendgrid.net", Provider::Upstream),
    ("mailgun.org", Provider::Upstream),
    ("postmarkapp.com", Provider::Upstream),
];

/// What only one of them says.
const WORDS: &[(&str, Provider)] = &[
    ("support.google.com", Provider::Google),
    (" gsmtp", Provider::Google),
    ("postmaster.live.com", Provider::Microsoft),
    ("prod.outlook.com", Provider::Microsoft),
    ("go.microsoft.com", Provider::Microsoft),
    ("postmaster.yahooinc.com", Provider::Yahoo),
    ("senders.yahooinc.com", Provider::Yahoo),
    ("postmaster.yahoo.com", Provider::Yahoo),
    ("support.apple.com", Provider::Apple),
];

impl Provider {
    /// Who answered, if it is one of these. `text` is in lower case.
    pub(super) fn of(host: Option<&str>, text: &str) -> Option<Self> {
        let by_words = || WORDS.iter().find(|(word, _)| text.contains(word)).map(|(_, provider)| *provider);
        Self::of_host(host).or_else(by_words)
    }

    /// Whose host it is, if it is one of theirs.
    pub(super) fn of_host(host: Option<&str>) -> Option<Self> {
        let host = host?.to_ascii_lowercase();
        let found = HOSTS.iter().find(|(domain, _)| is_within(host.trim_end_matches('.'), domain));
        found.map(|(_, provider)| *provider)
    }

    /// Its table.
    pub(super) fn rows(self) -> &'static [Row] {
        match self {
            Self::Google => google::ROWS,
            Self::Microsoft => microsoft::ROWS,
            Self::Yahoo => yahoo::ROWS,
            Self::Apple => apple::ROWS,
            Self::Upstream => upstream::ROWS,
        }
    }
}

fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
