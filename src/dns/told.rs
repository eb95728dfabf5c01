//! What DNS says now, and for how long that holds: lookups for those who keep answers themselves. A denial is an answer here,
//! with the TTL that the zone gives it; only silence is an error.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::{ADDRESSES_MAX, Mx, NO_ZONE, Resolver, TIMED_OUT, absolute, addresses_in, exchangers, plain};

/// A denial without a TTL of its own, and a name that cannot be asked for, are believed for so long.
const DENIED: Duration = Duration::from_secs(60);
/// Names taken from one answer about an address.
const POINTERS_MAX: usize = 20;

/// What DNS said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// What.
    pub value: T,
    /// The smallest TTL of the records that said it; of a denial, the zone's (RFC 2308 section 5).
    pub ttl: Duration,
}

/// DNS did not answer, or nothing that can be relied on (a timeout, SERVFAIL, a lame server).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DNS did not answer: {0}")]
pub struct Silent(pub String);

/// The TXT records at a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The name that a CNAME there leads to.
    pub alias: Option<String>,
    /// Each record, its strings joined; octets that are not UTF-8 are replaced.
    pub records: Vec<String>,
}

/// Whether a name exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It does, with or without records; the zone it lies in, as the SOA record says.
    Exists {
        /// `None`: an alias into another zone.
        zone: Option<String>,
    },
    /// NXDOMAIN.
    Absent,
}

/// A kind of address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A.
    V4,
    /// AAAA.
    V6,
}

/// Records, or the zone's word that there are none.
enum Told {
    Found(Lookup),
    Denied(Box<NoRecords>),
    /// The name cannot be put into a question: a label of more than 63 octets, say.
    NoName,
}

impl Resolver {
    /// The TXT records at a name, aliases followed. An alias with no TXT at its end is not told of here.
    ///
    /// # Errors
    /// Silence.
    pub async fn text(&self, name: &str) -> Result<Answer<Text>, Silent> {
        let told = self.ask(name, RecordType::TXT).await?;
        let value = match &told {
            Told::Found(found) => Text { alias: target(found, name), records: texts(found) },
            Told::Denied(_) | Told::NoName => Text::default(),
        };
        Ok(Answer { value, ttl: told.ttl() })
    }

    /// The TXT records at a name, and its alias also where nothing stands at the end of it.
    ///
    /// # Errors
    /// Silence.
    pub async fn text_or_alias(&self, name: &str) -> Result<Answer<Text>, Silent> {
        let mut text = self.text(name).await?;
        if text.value.records.is_empty() && text.value.alias.is_none() {
            let alias = self.alias(name).await?;
            if alias.value.is_some() {
                text.ttl = text.ttl.min(alias.ttl);
            }
            text.value.alias = alias.value;
        }
        Ok(text)
    }

    /// The name that a CNAME here leads to.
    async fn alias(&self, name: &str) -> Result<Answer<Option<String>>, Silent> {
        let told = self.ask(name, RecordType::CNAME).await?;
        let value = match &told {
            Told::Found(found) => target(found, name),
            Told::Denied(_) | Told::NoName => None,
        };
        Ok(Answer { value, ttl: told.ttl() })
    }

    /// Where a name takes mail; `Implicit` where there is no MX, also where there is no such name.
    ///
    /// # Errors
    /// Silence.
    pub async fn exchange(&self, name: &str) -> Result<Answer<Mx>, Silent> {
        let told = self.ask(name, RecordType::MX).await?;
        let value = match &told {
            Told::Found(found) => exchangers(found),
            Told::Denied(_) | Told::NoName => Mx::Implicit,
        };
        Ok(Answer { value, ttl: told.ttl() })
    }

    /// A host's addresses of one kind; none is an answer.
    ///
    /// # Errors
    /// Silence.
    pub async fn hosts(&self, host: &str, family: Family) -> Result<Answer<Vec<IpAddr>>, Silent> {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let told = self.ask(host, kind).await?;
        let value = match &told {
            Told::Found(found) => addresses_in(found).take(ADDRESSES_MAX).collect(),
            Told::Denied(_) | Told::NoName => Vec::new(),
        };
        Ok(Answer { value, ttl: told.ttl() })
    }

    /// The names that an address leads back to (PTR); none is an answer.
    ///
    /// # Errors
    /// Silence.
    pub async fn pointers(&self, address: IpAddr) -> Result<Answer<Vec<String>>, Silent> {
        let told = self.ask(&Name::from(address).to_ascii(), RecordType::PTR).await?;
        let value = match &told {
            Told::Found(found) => found
                .answers()
                .iter()
                .filter_map(|record| {
                    let RData::PTR(pointer) = &record.data else { return None };
                    Some(plain(pointer))
                })
                .take(POINTERS_MAX)
                .collect(),
            Told::Denied(_) | Told::NoName => Vec::new(),
        };
        Ok(Answer { value, ttl: told.ttl() })
    }

    /// Whether a name exists, and in which zone.
    ///
    /// # Errors
    /// Silence.
    pub async fn standing(&self, name: &str) -> Result<Answer<Standing>, Silent> {
        let told = match self.ask(name, RecordType::SOA).await {
            Ok(told) => told,
            // An alias exists, whatever stands at its end: some servers name no zone in that answer.
            Err(silent) => {
                let alias = self.alias(name).await?;
                let exists = Standing::Exists { zone: None };
                return alias.value.map(|_| Answer { value: exists, ttl: alias.ttl }).ok_or(silent);
            }
        };
        let value = match &told {
            Told::Found(found) => {
                let all = found.answers().iter().chain(found.authorities());
                let mut zones = all.filter(|record| record.record_type() == RecordType::SOA);
                Standing::Exists { zone: zones.next().map(|record| plain(&record.name)) }
            }
            Told::Denied(denied) if denied.response_code == ResponseCode::NXDomain => Standing::Absent,
            Told::Denied(denied) => {
                Standing::Exists { zone: denied.soa.as_ref().map(|soa| plain(&soa.name)) }
            }
            Told::NoName => Standing::Absent,
        };
        Ok(Answer { value, ttl: told.ttl() })
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Result<Told, Silent> {
        let Some(name) = absolute(name).or_else(|| labelled(name)) else { return Ok(Told::NoName) };
        let told = match tokio::time::timeout(self.timeout, self.inner.lookup(name, kind)).await {
            Ok(Ok(found)) => Ok(Told::Found(found)),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(denied)))) if relied_on(&denied) => {
                Ok(Told::Denied(Box::new(denied)))
            }
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(_)))) => Err(Silent(NO_ZONE.into())),
            Ok(Err(error)) => Err(Silent(error.to_string())),
            Err(_) => Err(Silent(TIMED_OUT.into())),
        };
        self.count(match told {
            Ok(Told::Found(_)) => "found",
            Ok(Told::Denied(_) | Told::NoName) => "none",
            Err(_) => "failed",
        });
        told
    }
}

/// Records of others point at names that are none of a host: whatever may stand in a label is asked for.
fn labelled(name: &str) -> Option<Name> {
    let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The same rule as for mail that is delivered: an empty answer without SOA may be a lame server's.
fn relied_on(denied: &NoRecords) -> bool {
    denied.response_code == ResponseCode::NXDomain || denied.soa.is_some()
}

impl Told {
    fn ttl(&self) -> Duration {
        let seconds = match self {
            Self::Found(found) => found.answers().iter().map(|record| record.ttl).min(),
            Self::Denied(denied) => denied.negative_ttl,
            Self::NoName => None,
        };
        seconds.map_or(DENIED, |seconds| Duration::from_secs(seconds.into()))
    }
}

fn texts(found: &Lookup) -> Vec<String> {
    let texts = found.answers().iter().filter_map(|record| {
        let RData::TXT(text) = &record.data else { return None };
        Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned())
    });
    texts.collect()
}

/// Where the CNAME at this very name points.
fn target(found: &Lookup, name: &str) -> Option<String> {
    let name = absolute(name)?;
    found.answers().iter().filter(|record| record.name == name).find_map(|record| {
        let RData::CNAME(alias) = &record.data else { return None };
        Some(plain(alias))
    })
}
