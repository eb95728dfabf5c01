//! What a server offers: the keywords of its EHLO reply, each read once into a field.

/// The extensions that we make use of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 1870: the largest message it takes; `None`: no fixed limit. Outer `None`: not offered.
    pub size: Option<Option<u64>>,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 6531.
    pub smtputf8: bool,
    /// RFC 3461.
    pub dsn: bool,
    /// RFC 3207.
    pub starttls: bool,
    /// RFC 8689.
    pub require_tls: bool,
    /// RFC 2852: the least by-time that it takes with mode R, in seconds.
    pub deliver_by: Option<i64>,
    /// RFC 6710.
    pub mt_priority: bool,
    /// RFC 4954 with PLAIN.
    pub auth_plain: bool,
    /// AUTH with LOGIN.
    pub auth_login: bool,
    /// AUTH with XOAUTH2, Google's and Microsoft's way to take an access token.
    pub auth_xoauth2: bool,
}

impl Extensions {
    /// Reads the text of an EHLO reply. Its first line is the greeting; keywords are case-insensitive (RFC 5321 section
    /// 4.1.1.1); what is not understood is skipped.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut offered = Self::default();
        for line in text.split(|octet| *octet == b'\n').skip(1) {
            let line = String::from_utf8_lossy(line).to_ascii_uppercase();
            let mut words = line.split_ascii_whitespace();
            let Some(keyword) = words.next() else { continue };
            offered.take(keyword, &mut words);
        }
        offered
    }

    fn take<'a>(&mut self, keyword: &'a str, words: &mut dyn Iterator<Item = &'a str>) {
        match keyword {
            "PIPELINING" => self.pipelining = true,
            // Absent, zero or unreadable: no fixed limit (RFC 1870 section 3).
            "SIZE" => {
                self.size = Some(words.next().and_then(|size| size.parse().ok()).filter(|size| *size > 0))
            }
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "REQUIRETLS" => self.require_tls = true,
            // Options parted by commas may follow; the first is the minimum, and only that one is defined.
            "DELIVERBY" => {
                let least = words.next().and_then(|options| options.split(',').next()?.parse().ok());
                self.deliver_by = Some(least.unwrap_or(0));
            }
            // The name of a policy may follow; the values mean the same to us.
            "MT-PRIORITY" => self.mt_priority = true,
            "AUTH" => words.for_each(|mechanism| self.mechanism(mechanism)),
            // `AUTH=PLAIN LOGIN`, as servers spelt it for old Outlook.
            other => {
                if let Some(first) = other.strip_prefix("AUTH=") {
                    self.mechanism(first);
                    words.for_each(|mechanism| self.mechanism(mechanism));
                }
            }
        }
    }

    fn mechanism(&mut self, name: &str) {
        self.auth_plain |= name == "PLAIN";
        self.auth_login |= name == "LOGIN";
        self.auth_xoauth2 |= name == "XOAUTH2";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_read() {
        let none = Extensions::default;
        let cases = [
            ("mx PIPELINING", none(), "the first line is the greeting, whatever it says"),
            ("mx\nPipelining", Extensions { pipelining: true, ..none() }, "case does not matter"),
            ("mx\nSIZE", Extensions { size: Some(None), ..none() }, "offered without a limit"),
            ("mx\nSIZE 0", Extensions { size: Some(None), ..none() }, "zero is no limit"),
            ("mx\nSIZE 1000", Extensions { size: Some(Some(1000)), ..none() }, "a limit"),
            (
                "mx\nSIZE 99999999999999999999",
                Extensions { size: Some(None), ..none() },
                "more than we can send",
            ),
            ("mx\nAUTH LOGIN X", Extensions { auth_login: true, ..none() }, "unknown mechanisms are skipped"),
            ("mx\nMT-PRIORITY MIXER", Extensions { mt_priority: true, ..none() }, "whatever policy"),
            ("mx\nDELIVERBY", Extensions { deliver_by: Some(0), ..none() }, "no minimum"),
            ("mx\nDELIVERBY 240,X", Extensions { deliver_by: Some(240), ..none() }, "the first option is it"),
            ("mx\nAUTH=PLAIN", Extensions { auth_plain: true, ..none() }, "the old spelling"),
            ("mx\n\nXYZ\n\x1b[2J", none(), "rubbish is skipped"),
        ];
        for (text, expected, why) in cases {
            assert_eq!(Extensions::parse(text.as_bytes()), expected, "{why}");
        }
    }
}
