//! What DNS holds now where records are to be published: for the command line, which asks once and does not wait long.

use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::task::JoinSet;

use super::dkim_record;
use super::facts::KeyAnswer;
use super::keys::Public;
use super::merge::Zone;
use super::records::{self, Kind};
use crate::dns::{Failure, Resolver};
use crate::mail::address::Domain;

/// Longest wait for all answers together: a person is waiting.
const WAIT: Duration = Duration::from_secs(5);

/// Asks for these names and types at once; what got no answer in time is not in the result.
pub async fn look(resolver: &Resolver, questions: Vec<(String, Kind)>) -> Zone {
    let mut asked = JoinSet::new();
    for (name, kind) in questions {
        let resolver = resolver.clone();
        asked.spawn(async move {
            let answer = resolver.lookup(&name, record_type(kind)).await;
            ((name, kind), answer)
        });
    }
    let mut zone = Zone::new();
    // Too late is as good as no answer: the set stops what is under way when it goes.
    let _ = tokio::time::timeout(WAIT, async {
        while let Some(done) = asked.join_next().await {
            let Ok((question, answer)) = done else { continue };
            match answer {
                Ok(found) => drop(zone.insert(question, texts(&found))),
                Err(Failure::NoSuchName | Failure::NoRecords) => drop(zone.insert(question, Vec::new())),
                Err(Failure::Transient(_)) => {}
            }
        }
    })
    .await;
    zone
}

/// Whether receivers would verify with the record at a selector what this key signs; `None`: DNS did not say.
pub async fn is_seen(resolver: &Resolver, domain: &Domain, selector: &str, public: &Public) -> Option<bool> {
    let question = (records::dkim_name(selector, domain), Kind::Txt);
    let texts = look(resolver, vec![question.clone()]).await.remove(&question)?;
    Some(dkim_record::read(&KeyAnswer { alias: None, records: texts }, public).verifies())
}

fn record_type(kind: Kind) -> RecordType {
    match kind {
        Kind::Txt => RecordType::TXT,
        Kind::Cname => RecordType::CNAME,
        Kind::Mx => RecordType::MX,
    }
}

/// The records of the type that was asked for; an answer also holds the CNAMEs on the way.
fn texts(found: &Lookup) -> Vec<String> {
    let asked = found.query().query_type();
    let of_type = found.answers().iter().filter(|record| record.record_type() == asked);
    of_type.filter_map(|record| text(&record.data)).collect()
}

fn text(data: &RData) -> Option<String> {
    if let RData::TXT(txt) = data {
        return Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned());
    }
    if let RData::CNAME(alias) = data {
        return Some(plain(&alias.0));
    }
    let RData::MX(mx) = data else { return None };
    Some(format!("{} {}", mx.preference, plain(&mx.exchange)))
}

fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}
