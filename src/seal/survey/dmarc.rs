//! DMARC's tree walk (RFC 9989 section 4.10), and whether those who are to get reports agreed to (RFC 9990 section 4).

use std::time::Duration;

use super::super::dmarc_record::{Psd, Standing};
use super::super::facts::{Known, Walk};
use super::Ask;
use crate::dns::{Failure, Said};

/// RFC 9989 section 4.10: at most eight queries.
const STEPS_MAX: usize = 8;
/// Report addresses asked about.
const REPORTS_MAX: usize = 10;

impl Ask<'_> {
    pub(super) async fn dmarc(&self) -> Result<Known<Walk>, Failure> {
        let author = self.wanted.domain.as_str();
        let mut walk = Walk::default();
        let mut least = Duration::MAX;
        let exists = self.within(self.resolver.zone(author)).await?;
        walk.exists = !matches!(exists.value, crate::dns::Zone::Nowhere);
        let mut rua = Vec::new();
        for name in names(author) {
            let Said { value, ttl } = self.within(self.resolver.texts(&format!("_dmarc.{name}"))).await?;
            least = least.min(ttl);
            let (stop, addresses) = read(&value.records);
            rua.extend(addresses);
            walk.steps.push((name.to_owned(), value.records));
            if stop {
                break;
            }
        }
        walk.reports = self.reports(author, rua).await?;
        Ok(self.known(walk, least))
    }

    /// Report addresses outside the author's own tree, and whether a record there says yes.
    async fn reports(&self, author: &str, rua: Vec<String>) -> Result<Vec<(String, bool)>, Failure> {
        let mut found: Vec<(String, bool)> = Vec::new();
        for address in rua {
            let Some((_, to)) = address.rsplit_once('@') else { continue };
            let to = to.split('!').next().unwrap_or_default().to_ascii_lowercase();
            let own = super::super::dmarc::registered(&to) == super::super::dmarc::registered(author);
            let known = found.iter().any(|(known, _)| *known == to);
            if own || known || found.len() >= REPORTS_MAX {
                continue;
            }
            let name = format!("{author}._report._dmarc.{to}");
            let said = self.within(self.resolver.texts(&name)).await?;
            let agreed = said.value.records.iter().any(|text| text.starts_with("v=DMARC1"));
            found.push((to, agreed));
        }
        Ok(found)
    }
}

/// Whether the walk ends here (`psd=y` or `psd=n`), and who gets reports.
fn read(records: &[String]) -> (bool, Vec<String>) {
    match Standing::of(records) {
        Standing::One(record) => (record.psd != Psd::Unsaid, record.rua),
        Standing::None | Standing::Several(_) => (false, Vec::new()),
    }
}

/// The names of the walk: the author's, then upwards; of more than eight labels the first step goes to the last seven.
fn names(author: &str) -> Vec<&str> {
    let labels = author.split('.').count();
    let mut names = vec![author];
    let mut rest = author;
    let mut skip = if labels > STEPS_MAX { labels - (STEPS_MAX - 1) } else { 1 };
    while names.len() < STEPS_MAX {
        for _ in 0..skip {
            rest = rest.split_once('.').map_or("", |(_, above)| above);
        }
        skip = 1;
        if rest.is_empty() {
            break;
        }
        names.push(rest);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_goes_up_and_jumps_where_names_are_deep() {
        let rows: [(&str, &[&str], &str); 3] = [
            ("acme.com", &["acme.com", "com"], "two labels, two queries"),
            ("a.b.acme.com", &["a.b.acme.com", "b.acme.com", "acme.com", "com"], "each label is a step"),
            (
                "a.b.c.d.e.f.g.h.i.com",
                &[
                    "a.b.c.d.e.f.g.h.i.com",
                    "d.e.f.g.h.i.com",
                    "e.f.g.h.i.com",
                    "f.g.h.i.com",
                    "g.h.i.com",
                    "h.i.com",
                    "i.com",
                    "com",
                ],
                "RFC 9989 section 4.10: from ten labels to the last seven, eight queries in all",
            ),
        ];
        for (author, wanted, why) in rows {
            assert_eq!(names(author), wanted, "{why}");
        }
    }
}
